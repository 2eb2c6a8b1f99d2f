"""Arguments of locality_attention: what is refused, and how any shape becomes the four dimensions of the kernels."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from sgela_fast.reference.locality_attention import Centers

Backend = Literal["auto", "reference", "fused"]

MODES: dict[str, int] = {"bas": 0, "mbas": 1, "las": 2}
DIRECTIONS: dict[str, int] = {"reverse": -1, "identity": 1}


def autocasts(device: str) -> bool:
    """Whether autocast is on for devices of this type; for some (meta) it does not exist."""
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def check_settings(
    mode: str, sigma: float, window: float | None, backend: str, centers: Centers | Tensor | None
) -> None:
    """Raise ValueError for a setting that is unknown or out of range."""
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}; choose las, mbas or bas")
    if not sigma > 0:
        raise ValueError(f"sigma is {sigma}; it must be positive")
    if window is not None and not window >= 0:
        raise ValueError(f"window is {window}; it must be 0 or more, or None")
    if backend not in get_args(Backend):
        raise ValueError(f"backend is {backend!r}; choose auto, reference or fused")
    if not isinstance(centers, Tensor) and centers not in (None, *DIRECTIONS):
        raise ValueError(f"centers is {centers!r}; give reverse, identity or a tensor of positions")


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


def four_dimensions(tensor: Tensor, batch: torch.Size) -> Tensor:
    """``(..., T, K)`` as ``(N0, N1, T, K)`` with a unit stride at the end."""
    if tensor.shape[:-2] != batch:
        tensor = tensor.expand(*batch, -1, -1)
    if tensor.stride(-1) != 1 and tensor.shape[-1] > 1:
        tensor = tensor.contiguous()
    return _two_leading(tensor, len(batch))


def rows_of(tensor: Tensor, batch: torch.Size) -> Tensor:
    """``(..., T)`` as ``(N0, N1, T)``, a view: padding masks and positions may be shared by many sequences."""
    if tensor.shape[:-1] != batch:
        tensor = tensor.expand(*batch, -1)
    return _two_leading(tensor, len(batch))


def _two_leading(tensor: Tensor, leading: int) -> Tensor:
    if leading == 2:
        return tensor
    if leading == 1:
        return tensor.unsqueeze(0)
    if leading == 0:
        return tensor[None, None]
    return tensor.flatten(0, leading - 2)
