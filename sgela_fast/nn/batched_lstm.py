"""G independent LSTMs of equal shape as one module, with ``torch.nn.LSTM``'s parameters under a group dimension.

The arithmetic is :func:`sgela_fast.ops.batched_lstm.batched_lstm`; this file holds the weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from sgela_fast.ops._attention_arguments import Backend
from sgela_fast.ops._lstm_arguments import check_settings
from sgela_fast.ops.batched_lstm import BatchedLSTMResult, batched_lstm
from sgela_fast.reference.batched_lstm import LSTMLayer, LSTMState

# What LSTMs must have in common to run as one.
_SHARED = ("input_size", "hidden_size", "num_layers", "bias", "dropout")


class BatchedLSTM(nn.Module):
    """G ``torch.nn.LSTM`` in one: weights of their own, one call.

    Parameters are those of ``torch.nn.LSTM`` with a leading group dimension, and start as they do there, uniform within
    1 / sqrt(hidden_size):

    * ``weight_ih_l{k} (G, 4K, I)`` for layer 0, ``(G, 4K, K)`` above; row blocks i, f, g, o
    * ``weight_hh_l{k} (G, 4K, K)``
    * ``bias_ih_l{k} (G, 4K)`` and ``bias_hh_l{k} (G, 4K)``, with ``bias``

    The layout is always batch first. There are no bidirectional LSTMs and none with projections.

    Args:
        groups: number of LSTMs, G.
        input_size: features of a step, I.
        hidden_size: hidden units of a layer, K.
        num_layers: layers, L.
        dropout: probability with which, in training, an element of a layer's output is set to 0 on its way to the next
            layer. Unlike ``torch.nn.LSTM`` a single layer takes any without a warning; it has no effect there.
        bias: whether the gates have biases.
        device: where the weights are made.
        dtype: of the weights.
        backend: ``auto``, ``reference`` or ``fused``, as for the op.

    Raises:
        ValueError: an argument is unknown or out of range.
    """

    def __init__(
        self,
        groups: int,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        dropout: float = 0.0,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        check_settings(dropout, backend)
        self.groups, self.input_size, self.hidden_size = groups, input_size, hidden_size
        self.num_layers, self.dropout, self.bias, self.backend = num_layers, dropout, bias, backend
        for name in ("groups", "input_size", "hidden_size", "num_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        for layer in range(num_layers):
            columns = input_size if layer == 0 else hidden_size
            shapes: dict[str, tuple[int, ...]] = {"weight_ih": (columns,), "weight_hh": (hidden_size,)}
            shapes |= {"bias_ih": (), "bias_hh": ()} if bias else {}
            for name, last in shapes.items():
                weight = torch.empty(groups, 4 * hidden_size, *last, device=device, dtype=dtype)
                self.register_parameter(f"{name}_l{layer}", nn.Parameter(weight))
        self.reset_parameters()

    @classmethod
    def from_lstms(cls, lstms: Sequence[nn.LSTM], *, backend: Backend = "auto") -> BatchedLSTM:
        """Copy LSTMs of equal shape into one module.

        Args:
            lstms: one a group, all on one device, of one dtype and in one mode (training or not). ``batch_first`` may
                be either: it is the layout of their inputs, and here always that of ``forward``.
            backend: ``auto``, ``reference`` or ``fused``, as for the op.

        Raises:
            ValueError: there is no LSTM, they differ, or one is bidirectional or has projections.
        """
        if not lstms:
            raise ValueError("lstms is empty; there must be one LSTM or more")
        first = lstms[0]
        for index, lstm in enumerate(lstms):
            if lstm.bidirectional:
                raise ValueError(f"lstms[{index}] is bidirectional; run each direction as an LSTM of its own")
            if lstm.proj_size:
                raise ValueError(f"lstms[{index}] has proj_size={lstm.proj_size}; there is no projection here")
            for name in (*_SHARED, "training"):
                if getattr(lstm, name) != getattr(first, name):
                    found, wanted = getattr(lstm, name), getattr(first, name)
                    raise ValueError(f"lstms[{index}] has {name}={found} and lstms[0] {wanted}; they must be equal")
            weights = [cast(Tensor, one.weight_ih_l0) for one in (lstm, first)]
            kinds = [(weight.dtype, weight.device) for weight in weights]
            if kinds[0] != kinds[1]:
                (dtype, device), (wanted_dtype, wanted_device) = kinds
                message = f"lstms[{index}] is {dtype} on {device} and lstms[0] {wanted_dtype} on {wanted_device}"
                raise ValueError(f"{message}; convert one of them")
        weight = cast(Tensor, first.weight_ih_l0)
        result = cls(
            len(lstms),
            *(first.input_size, first.hidden_size, first.num_layers, first.dropout, first.bias),
            device=weight.device,
            dtype=weight.dtype,
            backend=backend,
        )
        with torch.no_grad():
            for name, parameter in result.named_parameters():
                for group, lstm in enumerate(lstms):
                    parameter[group].copy_(getattr(lstm, name))
        return result.train(first.training)

    def to_lstms(self) -> list[nn.LSTM]:
        """The groups as ``torch.nn.LSTM`` with ``batch_first=True``, each with copies of its weights."""
        settings = {name: getattr(self, name) for name in _SHARED}
        weight = cast(Tensor, self.weight_ih_l0)
        if self.num_layers == 1:
            settings["dropout"] = 0.0  # has no effect, and torch warns about it
        lstms = []
        for group in range(self.groups):
            lstm = nn.LSTM(**settings, batch_first=True, device=weight.device, dtype=weight.dtype)
            with torch.no_grad():
                for name, parameter in lstm.named_parameters():
                    parameter.copy_(getattr(self, name)[group])
            lstms.append(lstm.train(self.training))
        return lstms

    def reset_parameters(self) -> None:
        """Draw all weights anew, uniform within 1 / sqrt(hidden_size), as ``torch.nn.LSTM`` does."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def weights(self) -> list[LSTMLayer]:
        """Weights of all layers as the op takes them; differentiable."""
        layers = []
        for layer in range(self.num_layers):
            weight_ih, weight_hh = (getattr(self, f"weight_{kind}_l{layer}") for kind in ("ih", "hh"))
            if self.bias:
                bias = getattr(self, f"bias_ih_l{layer}") + getattr(self, f"bias_hh_l{layer}")
            else:
                bias = weight_ih.new_zeros(weight_ih.shape[:2])
            layers.append(LSTMLayer(weight_ih, weight_hh, bias))
        return layers

    def forward(
        self,
        input: Tensor,
        state: LSTMState | tuple[Tensor, Tensor] | None = None,
        lengths: Tensor | None = None,
    ) -> BatchedLSTMResult:
        """Run all groups over their sequences: ``output, (h_n, c_n) = lstm(input)``.

        Args:
            input: ``(G, B, T, I)``; one sequence for all groups is ``sequence.expand(G, B, T, I)``, which takes no
                memory.
            state: initial ``h`` and ``c``, each ``(L, G, B, K)``; zeros if ``None``.
            lengths: ``(B,)`` integers, as for the op, in place of a packed sequence.

        Returns:
            ``output`` ``(G, B, T, K)`` and the final ``(h, c)``, each ``(L, G, B, K)``.

        Raises:
            ValueError: shapes, dtypes or devices do not fit together.
        """
        return batched_lstm(
            input,
            self.weights(),
            state,
            lengths=lengths,
            dropout=self.dropout,
            training=self.training,
            backend=self.backend,
        )

    def extra_repr(self) -> str:
        """The arguments that make this module what it is."""
        usual = {"num_layers": 1, "dropout": 0.0, "bias": True, "backend": "auto"}
        settings = {name: getattr(self, name) for name in usual}
        shown = [f"{name}={value!r}" for name, value in settings.items() if value != usual[name]]
        return ", ".join([f"{self.groups}, {self.input_size}, {self.hidden_size}", *shown])
