"""Micro-motion templates of all strips as one module, with the parameters of per-strip convolutions, stacked.

The arithmetic is :func:`sgela_fast.ops.gated_temporal_pooling.gated_temporal_pooling`; this file holds the weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from sgela_fast.ops._attention_arguments import Backend
from sgela_fast.ops._pooling_arguments import check_settings
from sgela_fast.ops.gated_temporal_pooling import gated_temporal_pooling
from sgela_fast.reference.gated_temporal_pooling import GateWeights, MicroMotionTemplate, Reduction

# What per-strip modules must have in common to run as one; the arguments that make them.
_SHARED = ("channels", "hidden", "windows", "kernel_sizes", "bias", "negative_slope")


class _StripConv1d(nn.Module):
    """Weights of one ``torch.nn.Conv1d`` for each strip: ``weight (S, O, I, K)`` and ``bias (S, O)``."""

    def __init__(self, strips: int, inputs: int, outputs: int, size: int, bias: bool, **factory: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(strips, outputs, inputs, size, **factory))
        self.bias = nn.Parameter(torch.empty(strips, outputs, **factory)) if bias else None

    def reset_parameters(self) -> None:
        bound = 1 / math.sqrt(self.weight[0, 0].numel())
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def extra_repr(self) -> str:
        strips, outputs, inputs, size = self.weight.shape
        return f"{inputs}, {outputs}, kernel_size={size}, strips={strips}, bias={self.bias is not None}"


class GatedTemporalPooling(nn.Module):
    """S micro-motion template builders in one: weights of their own, one call, the maximum over time included.

    Parameters have the names of one strip's plain modules (:class:`MicroMotionTemplate`), each behind a dimension of
    strips, and start as ``torch.nn.Conv1d``'s do. For gate g:

    * ``gates.{g}.0.weight (S, H, C, K1)`` and, with ``bias``, ``gates.{g}.0.bias (S, H)``
    * ``gates.{g}.2.weight (S, C, H, K2)`` and, with ``bias``, ``gates.{g}.2.bias (S, C)``

    The defaults are SelfGait's; GaitPart's are ``bias=False, negative_slope=0.01``.

    Args:
        strips: number of strips, S.
        channels: of the features, C.
        hidden: channels between the convolutions, H; a quarter of ``channels`` if ``None``, at least 1.
        windows: frames of each gate's template, odd.
        kernel_sizes: of each gate's two convolutions, odd.
        bias: whether the convolutions have biases.
        negative_slope: of the activation between them; 0 is ReLU.
        reduce: ``max`` over time or ``none``.
        device: where the weights are made.
        dtype: of the weights.
        backend: ``auto``, ``reference`` or ``fused``, as for the op.

    Raises:
        ValueError: an argument is unknown or out of range.
    """

    def __init__(
        self,
        strips: int,
        channels: int,
        hidden: int | None = None,
        *,
        windows: Sequence[int] = (3, 5),
        kernel_sizes: Sequence[tuple[int, int]] = ((3, 1), (3, 3)),
        bias: bool = True,
        negative_slope: float = 0.0,
        reduce: Reduction = "max",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        check_settings(windows, negative_slope, reduce, backend)
        self.strips, self.channels = strips, channels
        self.hidden = max(1, channels // 4) if hidden is None else hidden
        self.windows, self.kernel_sizes = tuple(windows), tuple((first, second) for first, second in kernel_sizes)
        self.bias, self.negative_slope, self.reduce, self.backend = bias, negative_slope, reduce, backend
        for name in ("strips", "channels", "hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if len(self.kernel_sizes) != len(self.windows):
            found = f"kernel_sizes has {len(self.kernel_sizes)} pairs and windows {len(self.windows)} entries"
            raise ValueError(f"{found}; there must be one pair a window")
        for pair in self.kernel_sizes:
            if not all(size > 0 and size % 2 for size in pair):
                raise ValueError(f"kernel_sizes holds {pair}; each must be odd and 1 or more")
        self.gates = nn.ModuleList()
        for first, second in self.kernel_sizes:
            conv1 = _StripConv1d(strips, channels, self.hidden, first, bias, device=device, dtype=dtype)
            conv2 = _StripConv1d(strips, self.hidden, channels, second, bias, device=device, dtype=dtype)
            activation = nn.LeakyReLU(negative_slope) if negative_slope else nn.ReLU()
            self.gates.append(nn.ModuleList([conv1, activation, conv2]))
        self.reset_parameters()

    @classmethod
    def from_modules(
        cls, modules: Sequence[MicroMotionTemplate], *, reduce: Reduction = "max", backend: Backend = "auto"
    ) -> GatedTemporalPooling:
        """Copy the plain modules of all strips into one.

        Args:
            modules: one a strip, of one shape, all on one device and of one dtype.
            reduce: ``max`` over time, which the plain modules leave to their caller, or ``none``.
            backend: ``auto``, ``reference`` or ``fused``, as for the op.

        Raises:
            ValueError: there is no module, or they differ.
        """
        if not modules:
            raise ValueError("modules is empty; there must be one module or more")
        first = modules[0]
        settings = {name: getattr(first, name) for name in _SHARED}
        kinds = [next((p.dtype, p.device) for p in module.parameters()) for module in modules]
        for index, module in enumerate(modules):
            for name, wanted in settings.items():
                if getattr(module, name) != wanted:
                    found = getattr(module, name)
                    raise ValueError(f"modules[{index}] has {name}={found} and modules[0] {wanted}; they must be equal")
            if kinds[index] != kinds[0]:
                (dtype, device), (wanted_dtype, wanted_device) = kinds[index], kinds[0]
                message = f"modules[{index}] is {dtype} on {device} and modules[0] {wanted_dtype} on {wanted_device}"
                raise ValueError(f"{message}; convert one of them")
        dtype, device = kinds[0]
        result = cls(len(modules), **settings, reduce=reduce, device=device, dtype=dtype, backend=backend)
        with torch.no_grad():
            for name, parameter in result.named_parameters():
                for strip, module in enumerate(modules):
                    parameter[strip].copy_(module.get_parameter(name))
        return result.train(first.training)

    def to_modules(self) -> list[MicroMotionTemplate]:
        """The strips as plain modules, each with copies of its weights."""
        settings: dict[str, Any] = {name: getattr(self, name) for name in _SHARED}
        kind = next(self.parameters())
        modules = []
        for strip in range(self.strips):
            module = MicroMotionTemplate(**settings).to(device=kind.device, dtype=kind.dtype)
            with torch.no_grad():
                for name, parameter in module.named_parameters():
                    convolution, _, weight_or_bias = name.rpartition(".")
                    parameter.copy_(getattr(self.get_submodule(convolution), weight_or_bias)[strip])
            modules.append(module.train(self.training))
        return modules

    def reset_parameters(self) -> None:
        """Draw all weights anew, as ``torch.nn.Conv1d`` does."""
        for module in self.modules():
            if isinstance(module, _StripConv1d):
                module.reset_parameters()

    def weights(self) -> list[GateWeights]:
        """Weights of all gates as the op takes them; differentiable."""
        # Attributes, not parameters: what is parametrised or pruned is no parameter of its name.
        gates = cast(Sequence[Sequence[_StripConv1d]], self.gates)
        return [GateWeights(conv1.weight, conv1.bias, conv2.weight, conv2.bias) for conv1, _, conv2 in gates]

    def forward(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Pool the frames of all strips.

        Args:
            features: ``(S, N, T, C)``.
            lengths: ``(N,)`` frames of each sequence, as for the op.

        Returns:
            ``(S, N, C)``, or ``(S, N, T, C)`` without the maximum over time.

        Raises:
            ValueError: shapes, dtypes or devices do not fit together.
        """
        return gated_temporal_pooling(
            features,
            self.weights(),
            windows=self.windows,
            negative_slope=self.negative_slope,
            reduce=self.reduce,
            lengths=lengths,
            backend=self.backend,
        )

    def extra_repr(self) -> str:
        """The arguments that make this module what it is."""
        usual = {"windows": (3, 5), "bias": True, "negative_slope": 0.0, "reduce": "max", "backend": "auto"}
        settings = {name: getattr(self, name) for name in usual}
        shown = [f"{name}={value!r}" for name, value in settings.items() if value != usual[name]]
        return ", ".join([f"{self.strips}, {self.channels}, {self.hidden}", *shown])
