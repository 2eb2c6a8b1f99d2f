"""Luong attention whose alignment is taught to be local, as a module with weights: score, loss, attentional vector.

The arithmetic is :func:`sgela_fast.ops.locality_attention.locality_attention`; this file adds the learned projections.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from sgela_fast.ops._attention_arguments import Backend, check_settings
from sgela_fast.ops._library import autocasts
from sgela_fast.ops.locality_attention import locality_attention
from sgela_fast.reference.locality_attention import Centers, Mode

Score = Literal["dot", "general"]
Fusion = Literal["tanh", "linear"]


class AttentionOutput(NamedTuple):
    """Result of :class:`LocalityAttention`.

    Attributes:
        output: attentional vectors (Eq. 9), ``(..., Tq, output_size)``; the context itself if there is no fusion.
        context: context vectors (Eq. 8), ``(..., Tq, value_size)``.
        loss: L_A of each sequence (Eq. 7), ``(...)``, float32 (float64 for float64); zeros for ``bas`` and ``mbas``.
        alignment: ``(..., Tq, Tk)``, or ``None`` if not asked for.
    """

    output: Tensor
    context: Tensor
    loss: Tensor
    alignment: Tensor | None


class LocalityAttention(nn.Module):
    """Attend to a memory; return the attentional vector and a loss that pulls the alignment to expected positions.

    With ``mode="las"`` the context is that of plain attention, and ``loss`` (to be weighted and added to the model's
    own) makes weight far from the expected position cost something. Parameters, each with a leading ``groups``
    dimension if there are groups:

    * ``key_weight (query_size, key_size)``: score ``general``
    * ``fusion_weight (output_size, query_size + value_size)``: columns for the query first, then for the context
    * ``fusion_bias (output_size,)``: with ``bias``

    They start as those of ``torch.nn.Linear``.

    Args:
        query_size: features of a query row (the decoder's state).
        key_size: features of a memory row; ``None`` for ``query_size``.
        sigma: width of the locality mask, in positions (Eq. 5). A ``torch.nn.Parameter`` of one number is learned, by
            the reference backend.
        window: half width outside which the mask is 0; ``None`` for none.
        centers: where the mask expects row t: ``reverse`` (p_t = Tk - 1 - t) or ``identity`` (p_t = t). A call can give
            positions of its own.
        mode: ``las`` (context of Eq. 4, loss of Eq. 7), ``mbas`` (Eq. 6, not renormalised) or ``bas`` (Eq. 4).
        score: ``dot`` (query . key) or ``general`` (query . W key: the memory is projected, without a bias; the values
            stay raw).
        fusion: ``tanh`` (Eq. 9), ``linear`` or ``None`` for no attentional layer.
        value_size: features of the values; ``None`` for ``key_size``, as values are the memory if a call gives none.
        output_size: features of the attentional vector; ``None`` for ``query_size``.
        bias: a bias in the attentional layer; Eq. 9 has none.
        groups: number of independent attentions of one shape, for the first dimension of every input; each has weights
            of its own. ``None`` for a single one, shared by all leading dimensions.
        scale: factor on the scores; the paper has 1. Learned as ``sigma`` is if it is a parameter.
        detach_target: treat the masked alignment as a constant in the loss's gradient.
        backend: ``auto``, ``reference`` or ``fused``, as for the op.
        device: where the weights are made.
        dtype: of the weights.

    Raises:
        ValueError: an argument is unknown, out of range or contradicts another one.
    """

    key_weight: nn.Parameter | None
    fusion_weight: nn.Parameter | None
    fusion_bias: nn.Parameter | None

    def __init__(
        self,
        query_size: int,
        key_size: int | None = None,
        *,
        sigma: float | Tensor,
        window: float | None = None,
        centers: Centers = "reverse",
        mode: Mode = "las",
        score: Score = "dot",
        fusion: Fusion | None = "tanh",
        value_size: int | None = None,
        output_size: int | None = None,
        bias: bool = False,
        groups: int | None = None,
        scale: float | Tensor = 1.0,
        detach_target: bool = False,
        backend: Backend = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_settings(mode, sigma, window, backend, centers, scale)
        if score not in ("dot", "general"):
            raise ValueError(f"score is {score!r}; choose dot or general")
        if fusion not in ("tanh", "linear", None):
            raise ValueError(f"fusion is {fusion!r}; choose tanh, linear or None")
        if fusion is None and (output_size is not None or bias):
            raise ValueError("output_size and bias belong to the attentional layer; choose fusion tanh or linear")
        self.query_size = query_size
        self.key_size = query_size if key_size is None else key_size
        self.value_size = self.key_size if value_size is None else value_size
        fused_size = query_size if output_size is None else output_size
        self.output_size = self.value_size if fusion is None else fused_size
        for name in ("query_size", "key_size", "value_size", "output_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if groups is not None and groups < 1:
            raise ValueError(f"groups is {groups}; it must be 1 or more, or None")
        if score == "dot" and self.key_size != query_size:
            raise ValueError(
                f"score dot needs queries and keys of one size, not {query_size} and {self.key_size}; choose general"
            )
        self.sigma, self.window, self.scale = sigma, window, scale
        self.centers, self.mode, self.detach_target = centers, mode, detach_target
        self.score, self.fusion, self.bias = score, fusion, bias
        self.groups, self.backend = groups, backend

        def weight(*shape: int) -> nn.Parameter:
            leading = () if groups is None else (groups,)
            return nn.Parameter(torch.empty(*leading, *shape, device=device, dtype=dtype))

        self.key_weight = weight(query_size, self.key_size) if score == "general" else None
        self.fusion_weight = weight(self.output_size, query_size + self.value_size) if fusion else None
        self.fusion_bias = weight(self.output_size) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew, uniform within 1 / sqrt(inputs), as ``torch.nn.Linear`` does."""
        if self.key_weight is not None:
            nn.init.uniform_(self.key_weight, -1 / math.sqrt(self.key_size), 1 / math.sqrt(self.key_size))
        bound = 1 / math.sqrt(self.query_size + self.value_size)
        for parameter in (self.fusion_weight, self.fusion_bias):
            if parameter is not None:
                nn.init.uniform_(parameter, -bound, bound)

    def project_keys(self, memory: Tensor) -> Tensor:
        """Keys of a memory, to be made once and given to every decoding step: ``attention(row, memory, keys=keys)``.

        Args:
            memory: ``(..., Tk, key_size)``.

        Returns:
            ``(..., Tk, query_size)``; ``memory`` itself for score ``dot``.

        Raises:
            ValueError: the memory has another size, or another number of groups.
        """
        self._check("memory", memory, self.key_size)
        return memory if self.key_weight is None else _project(memory, self.key_weight, None)

    def forward(
        self,
        query: Tensor,
        memory: Tensor,
        *,
        keys: Tensor | None = None,
        value: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        centers: Centers | Tensor | None = None,
        first_step: int = 0,
        return_alignment: bool = False,
    ) -> AttentionOutput:
        """Attend to ``memory``.

        Leading dimensions, of the same number everywhere, are broadcast. With groups the first of them is the group.

        Args:
            query: ``(..., Tq, query_size)``; one decoding step is a query of one row.
            memory: ``(..., Tk, key_size)``.
            keys: ``project_keys(memory)``, if it is at hand; ``(..., Tk, query_size)``.
            value: ``(..., Tk, value_size)``; ``None`` for the memory.
            key_padding_mask: ``(..., Tk)`` bool, True where a memory row is padding. Padded rows must be finite.
            centers: expected positions of this call: ``reverse``, ``identity`` or a tensor ``(..., Tq)``; ``None`` for
                the module's. ``reverse`` counts from the padded end: sequences of several lengths need a tensor,
                ``lengths[:, None] - 1 - steps``.
            first_step: decoding step of the first query row.
            return_alignment: also return the weights that made the context.

        Raises:
            ValueError: shapes, dtypes or devices do not fit together.
        """
        self._check("query", query, self.query_size)
        self._check("memory", memory, self.key_size)
        if query.dim() != memory.dim():
            raise ValueError(
                f"query {tuple(query.shape)} and memory {tuple(memory.shape)} need the same number of dimensions; "
                f"a single decoding step is a query of one row, (..., 1, {self.query_size})"
            )
        if keys is None:
            keys = self.project_keys(memory)
        else:
            self._check("keys", keys, self.query_size)
        if value is not None:
            self._check("value", value, self.value_size)
        elif self.value_size != self.key_size:
            raise ValueError(
                f"no value was given, and a memory of {self.key_size} features cannot stand in for {self.value_size}"
            )
        elif keys is not memory:
            value = memory
        attended = locality_attention(
            query,
            keys,
            value,
            centers=self.centers if centers is None else centers,
            sigma=self.sigma,
            window=self.window,
            scale=self.scale,
            key_padding_mask=key_padding_mask,
            first_step=first_step,
            mode=self.mode,
            detach_target=self.detach_target,
            return_alignment=return_alignment,
            backend=self.backend,
        )
        return AttentionOutput(self._fuse(query, attended.context), *attended)

    def extra_repr(self) -> str:
        """The arguments that make this attention what it is."""
        usual = {
            "window": None,
            "centers": "reverse",
            "mode": "las",
            "score": "dot",
            "fusion": "tanh",
            "value_size": self.key_size,
            "output_size": self.value_size if self.fusion is None else self.query_size,
            "bias": False,
            "groups": None,
            "scale": 1.0,
            "detach_target": False,
            "backend": "auto",
        }
        settings = {name: getattr(self, name) for name in usual}
        settings = {"sigma": self.sigma, **settings}
        shown = [
            f"{name}={'learned' if isinstance(value, nn.Parameter) else repr(value)}"
            for name, value in settings.items()
            if name not in usual or value != usual[name]
        ]
        return ", ".join([f"{self.query_size}, {self.key_size}", *shown])

    def _fuse(self, query: Tensor, context: Tensor) -> Tensor:
        if self.fusion_weight is None:
            return context
        # The query may be shared by leading dimensions that the memory alone has.
        query = query.expand(*context.shape[:-1], self.query_size)
        fused = _project(torch.cat([query, context], dim=-1), self.fusion_weight, self.fusion_bias)  # Eq. 9
        return fused.tanh() if self.fusion == "tanh" else fused

    def _check(self, name: str, tensor: Tensor, size: int) -> None:
        shape = tuple(tensor.shape)
        if len(shape) < (2 if self.groups is None else 3):
            leading = "..." if self.groups is None else f"{self.groups} groups, ..."
            raise ValueError(f"{name} has shape {shape}; it needs ({leading}, rows, {size})")
        if shape[-1] != size:
            raise ValueError(f"{name} has {shape[-1]} features, and this attention was made for {size}")
        weight = self.fusion_weight if self.key_weight is None else self.key_weight
        if weight is not None and tensor.dtype != weight.dtype and not autocasts(tensor.device.type):
            raise ValueError(
                f"{name} is {tensor.dtype} and this attention's weights {weight.dtype}; convert one of them"
            )
        if weight is not None and tensor.device != weight.device:
            raise ValueError(f"{name} is on {tensor.device} and this attention on {weight.device}; move one of them")
        if self.groups is not None and shape[0] != self.groups:
            raise ValueError(f"{name} has {shape[0]} groups in its first dimension, and this attention {self.groups}")


def _project(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``(..., T, in)`` times ``weight (out, in)``; or ``(G, ..., T, in)`` times ``(G, out, in)``, group by group."""
    if weight.dim() == 2:
        return nn.functional.linear(rows, weight, bias)
    # One product a group. Broadcasting the weights over further dimensions would copy them for each.
    flat = rows.flatten(1, -2)  # (G, ... T, in)
    projected = flat @ weight.mT if bias is None else torch.baddbmm(bias[:, None], flat, weight.mT)
    return projected.reshape(*rows.shape[:-1], weight.shape[-2])
