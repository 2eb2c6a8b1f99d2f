"""Arguments of locality_attention: what is refused, and how any shape becomes the four dimensions of the kernels."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from sgela_fast.ops._library import autocasts
from sgela_fast.reference.locality_attention import Centers

Backend = Literal["auto", "reference", "fused"]
BACKENDS = get_args(Backend)
# Query, key, value, positions, padding mask.
Inputs = tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None]

MODES: dict[str, int] = {"bas": 0, "mbas": 1, "las": 2}
DIRECTIONS: dict[str, int] = {"reverse": -1, "identity": 1}


def check_number(name: str, value: Any) -> None:
    """Raise ValueError for a setting that is neither a number nor a tensor of one."""
    if isinstance(value, (float, int)):
        return
    if not isinstance(value, (Tensor, Real, torch.SymFloat, torch.SymInt)):
        raise ValueError(f"{name} is {value!r}; give a number")
    if isinstance(value, Tensor) and value.numel() != 1:
        raise ValueError(f"{name} has shape {tuple(value.shape)}; it is one number for all sequences of a call")


def why_learned_settings_are_not_fused(sigma: float | Tensor, scale: float | Tensor = 1.0) -> str | None:
    """Why the kernels cannot run with these settings, or ``None``: they hand back no gradients of numbers."""
    if torch.is_grad_enabled():
        for name, value in (("sigma", sigma), ("scale", scale)):
            if isinstance(value, Tensor) and value.requires_grad:
                return f"its kernels have no gradient of {name}; give a number"
    return None


def as_number(value: float | Tensor) -> float:
    """A setting as the ops take it."""
    return value.detach().item() if isinstance(value, Tensor) else value


def check_settings(
    mode: str,
    sigma: float | Tensor,
    window: float | None,
    backend: str,
    centers: Centers | Tensor | None,
    scale: float | Tensor,
    first_step: Any = 0,
) -> None:
    """Raise ValueError for a setting that is unknown or out of range."""
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}; choose las, mbas or bas")
    check_number("sigma", sigma)
    check_number("scale", scale)
    if window is not None:
        check_number("window", window)
    if not isinstance(first_step, (int, Integral, torch.SymInt, Tensor)):
        raise ValueError(f"first_step is {first_step!r}; it must be an integer")
    if not sigma > 0:
        raise ValueError(f"sigma is {sigma}; it must be positive")
    if window is not None and not window >= 0:
        raise ValueError(f"window is {window}; it must be 0 or more, or None")
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}; choose auto, reference or fused")
    named = isinstance(centers, str) and centers in DIRECTIONS
    if centers is not None and not isinstance(centers, Tensor) and not named:
        raise ValueError(f"centers is {centers!r}; give reverse, identity or a tensor of positions")


def leading_shape_of_checked(
    query: Tensor,
    key: Tensor,
    value: Tensor | None,
    key_padding_mask: Tensor | None,
    centers: Centers | Tensor | None,
) -> torch.Size:
    """Leading dimensions of the result, after all checks; the commonest case in the fewest steps.

    A call on one window spends more time here than in the kernel.
    """
    rows, keys = query.shape, key.shape
    batch = rows[:-2]
    plain = value is None and key_padding_mask is None and not isinstance(centers, Tensor)
    if (
        plain
        and len(rows) >= 2
        and rows[-1] == keys[-1]
        and keys[:-2] == batch
        and query.dtype == key.dtype
        and query.device == key.device
        and query.is_floating_point()
    ):
        return batch
    check_tensors(query, key, value, key_padding_mask, centers)
    return leading_shape(query, key, value, key_padding_mask, centers)


def check_tensors(
    query: Tensor,
    key: Tensor,
    value: Tensor | None,
    key_padding_mask: Tensor | None,
    centers: Centers | Tensor | None,
) -> None:
    """Raise ValueError for tensors whose own shapes, dtypes or devices do not fit together."""
    if query.dim() < 2 or key.dim() < 2:
        raise ValueError(
            f"query {tuple(query.shape)} and key {tuple(key.shape)} need two dimensions: (..., Tq, K) and (..., Tk, K)"
        )
    if query.shape[-1] != key.shape[-1]:
        raise ValueError(f"query has {query.shape[-1]} features and key {key.shape[-1]}; both need K")
    if value is not None and (value.dim() < 2 or value.shape[-2] != key.shape[-2]):
        raise ValueError(f"value has shape {tuple(value.shape)}; it needs one row for each of the {key.shape[-2]} keys")
    for name, tensor in (("key", key), ("value", value)):
        if tensor is not None and tensor.dtype != query.dtype and not autocasts(query.device.type):
            raise ValueError(f"{name} is {tensor.dtype} and query {query.dtype}; convert one of them")
    if not query.is_floating_point():
        raise ValueError(f"query is {query.dtype}; it must be a floating-point tensor")
    if key_padding_mask is not None:
        if key_padding_mask.dtype != torch.bool:
            raise ValueError(
                f"key_padding_mask is {key_padding_mask.dtype}; it must be bool, True where a key is padding"
            )
        if key_padding_mask.dim() < 1 or key_padding_mask.shape[-1] != key.shape[-2]:
            shape = tuple(key_padding_mask.shape)
            raise ValueError(f"key_padding_mask has shape {shape}; its last dimension must be Tk = {key.shape[-2]}")
    if isinstance(centers, Tensor) and (centers.dim() < 1 or centers.shape[-1] != query.shape[-2]):
        raise ValueError(f"centers has shape {tuple(centers.shape)}; its last dimension must be Tq = {query.shape[-2]}")
    for name, other in (("key", key), ("value", value), ("key_padding_mask", key_padding_mask), ("centers", centers)):
        if isinstance(other, Tensor) and other.device != query.device:
            raise ValueError(f"{name} is on {other.device} and query on {query.device}; move one of them")


def leading_shape(
    query: Tensor,
    key: Tensor,
    value: Tensor | None,
    key_padding_mask: Tensor | None,
    centers: Centers | Tensor | None,
) -> torch.Size:
    """Leading dimensions of the result, to which everything is broadcast."""
    batch = query.shape[:-2]
    for name, tensor in (("key", key), ("value", value)):
        if tensor is not None and tensor.shape[:-2] != batch:
            batch = _broadcast(name, tensor.shape[:-2], batch)
    for name, other in (("key_padding_mask", key_padding_mask), ("centers", centers)):
        if (
            isinstance(other, Tensor)
            and other.shape[:-1] != batch
            and _broadcast(name, other.shape[:-1], batch) != batch
        ):
            shape = tuple(other.shape[:-1])
            raise ValueError(f"{name} has leading dimensions {shape}, more than those of query and key, {tuple(batch)}")
    return batch


def _broadcast(name: str, shape: torch.Size, batch: torch.Size) -> torch.Size:
    try:
        return torch.broadcast_shapes(shape, batch)
    except RuntimeError:
        message = f"{name} has leading dimensions {tuple(shape)}, which do not broadcast with {tuple(batch)}"
        raise ValueError(message) from None


def expand(
    batch: torch.Size,
    query: Tensor,
    key: Tensor,
    value: Tensor | None,
    positions: Tensor | None,
    key_padding_mask: Tensor | None,
) -> Inputs:
    """All inputs with the leading dimensions ``batch``, as views."""
    if value is None and positions is None and key_padding_mask is None and query.shape[:-2] == key.shape[:-2] == batch:
        return query, key, None, None, None
    return (
        query if query.shape[:-2] == batch else query.expand(*batch, -1, -1),
        key if key.shape[:-2] == batch else key.expand(*batch, -1, -1),
        value if value is None or value.shape[:-2] == batch else value.expand(*batch, -1, -1),
        positions if positions is None or positions.shape[:-1] == batch else positions.expand(*batch, -1),
        key_padding_mask
        if key_padding_mask is None or key_padding_mask.shape[:-1] == batch
        else key_padding_mask.expand(*batch, -1),
    )


def for_kernels(inputs: Inputs, leading: int) -> Inputs:
    """Inputs with ``leading`` dimensions before those of one sequence as the kernels take them.

    Returns:
        Query, key and value ``(N0, N1, T, K)`` or ``(N1, T, K)`` with a unit stride at the end, positions and mask
        ``(N0, N1, T)`` or ``(N1, T)``.
    """
    query, key, value, positions, mask = inputs
    return (
        one_or_two_leading(unit_stride(query), leading),
        one_or_two_leading(unit_stride(key), leading),
        None if value is None else one_or_two_leading(unit_stride(value), leading),
        None if positions is None else one_or_two_leading(positions, leading),
        None if mask is None else one_or_two_leading(mask, leading),
    )


def unit_stride(tensor: Tensor) -> Tensor:
    """The tensor itself, or a copy if its last dimension has gaps."""
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] <= 1 else tensor.contiguous()


def one_or_two_leading(tensor: Tensor, leading: int) -> Tensor:
    """``leading`` dimensions as one or two: a view unless there are more and their strides do not allow it."""
    if leading == 0:
        return tensor.unsqueeze(0)
    return tensor if leading <= 2 else tensor.flatten(0, leading - 2)


def from_kernels(tensor: Tensor, batch: torch.Size) -> Tensor:
    """A result with the leading dimensions ``batch`` in place of the kernels' one or two."""
    if 0 < len(batch) <= 2:
        return tensor
    kernels_own = 1 if len(batch) == 0 else 2
    return tensor.reshape((*batch, *tensor.shape[kernels_own:]))
