"""What an encoder takes and gives: frames as arrays or tensors, encodings of the same kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias, TypedDict, get_args

import numpy as np
import torch
from torch import Tensor

from sgela_fast.encoding.normalisation import find_origin
from sgela_fast.errors import ConfigError, DataError
from sgela_fast.models.config import Feature, SGELAConfig
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.skeletons.layouts import Layout
from sgela_fast.skeletons.recording import Recording

Pooling = Literal["none", "mean"]
Frames: TypeAlias = np.ndarray | Tensor | Recording
Array: TypeAlias = np.ndarray | Tensor
DType: TypeAlias = torch.dtype | str | type[np.floating] | np.dtype

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_IN_NUMPY = {torch.float32: np.float32, torch.float16: np.float16}


class EncodeOptions(TypedDict, total=False):
    """Options of :meth:`Encoder.encode` that do not change what kind of result it returns."""

    feature: Feature
    pooling: Pooling
    dtype: DType
    batch: int | None


class Encoding(NamedTuple):
    """Encodings of one recording with what is known of its windows.

    Attributes:
        ages: ``(windows, T, D)``, or pooled ``(windows, D)``; encoded gait states where those were asked for.
        starts: ``(windows,)`` int64, first frame of each window in the recording.
        valid: ``(windows,)`` bool: no joint of the window is lost.
    """

    ages: Array
    starts: np.ndarray
    valid: np.ndarray


def resolve_dtype(dtype: DType) -> torch.dtype:
    """The torch dtype that ``dtype`` names, as torch, NumPy or a string spells it.

    Raises:
        ConfigError: it is none of float32, float16 and bfloat16.
    """
    name = str(dtype).removeprefix("torch.") if isinstance(dtype, torch.dtype | str) else np.dtype(dtype).name
    if name not in _DTYPES:
        raise ConfigError(f"dtype is {name}; encodings are float32, float16 or bfloat16")
    return _DTYPES[name]


def require_pooling(pooling: str) -> None:
    """Raise :class:`ConfigError` for an unknown kind of pooling."""
    if pooling not in ("none", "mean"):
        raise ConfigError(f"pooling is {pooling!r}; choose none or mean")


def require_feature(feature: str, model: SGELAConfig) -> None:
    """Raise :class:`ConfigError` for an unknown feature, or one that ``model`` does not have."""
    if feature not in get_args(Feature):
        raise ConfigError(f"feature is {feature!r}; choose ages or states")
    if feature == "ages" and model.attention == "none":
        raise ConfigError(
            "feature is ages but the model has attention none and so no AGEs; choose feature states, its encoded gait "
            "states"
        )


def require_batch(batch: int) -> None:
    """Raise :class:`ConfigError` for a batch of nothing."""
    if batch < 1:
        raise ConfigError(f"batch is {batch}; it must be at least 1")


def empty_like_input(given: Array, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Array:
    """Room for results: a NumPy array for a NumPy array, a tensor on ``device`` for a tensor.

    Raises:
        ConfigError: NumPy has no such dtype.
    """
    if isinstance(given, Tensor):
        return torch.empty(shape, dtype=dtype, device=device)
    if dtype not in _IN_NUMPY:
        raise ConfigError("NumPy has no bfloat16; give a torch tensor (torch.from_numpy) to get one, or take float16")
    return np.empty(shape, _IN_NUMPY[dtype])


def as_tensor(values: Array) -> Tensor:
    """The memory of ``values`` as a tensor."""
    return values if isinstance(values, Tensor) else torch.from_numpy(values)


def is_one_recording(given: object) -> bool:
    """Whether ``given`` is a single recording rather than several."""
    return isinstance(given, np.ndarray | Tensor | Recording)


def array_of(frames: object, layout: Layout, what: str) -> Array:
    """The frames of one recording, checked.

    Args:
        frames: an array or tensor ``(frames, J, 3)`` of numbers, or a recording.
        layout: what the model reads.
        what: how messages call it.

    Raises:
        DataError: another kind of object, shape, layout or type of numbers.
    """
    if isinstance(frames, Recording):
        if frames.layout != layout.name:
            raise DataError(
                f"recording {frames.name!r} has joint layout {frames.layout!r} but the model reads {layout.name!r}; "
                f"convert it with --layout {layout.name}"
            )
        frames = frames.joints
    require_skeletons(frames, layout, ("frames",), what)
    assert isinstance(frames, np.ndarray | Tensor)
    return frames


def require_skeletons(values: object, layout: Layout, dimensions: tuple[str | int, ...], what: str) -> None:
    """Check kind, numbers and shape of skeletons, whose leading ``dimensions`` are free where they are names.

    Raises:
        DataError: something does not fit; the message says what.
    """
    if not isinstance(values, np.ndarray | Tensor):
        raise DataError(f"{what} is of type {type(values).__name__}; give a NumPy array or a torch tensor")
    shape, sizes = tuple(values.shape), (*dimensions, len(layout), 3)
    fits = len(shape) == len(sizes) and all(
        isinstance(size, str) or size == found for size, found in zip(sizes, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join(map(str, sizes))
        mend = "convert the frames to that layout"
        if len(shape) == 4 and len(sizes) == 3:
            mend = "ready windows go through encode_windows"
        elif len(shape) + 1 == len(sizes):
            mend = "stack single ones with np.stack"
        raise DataError(
            f"{what} {_have(what)} the shape {shape} but the model reads ({wanted}), layout {layout.name!r}; {mend}"
        )
    if isinstance(values, np.ndarray):
        numeric = values.dtype.kind in "fiu"
    else:
        numeric = not values.is_complex() and values.dtype != torch.bool
    if not numeric:
        raise DataError(f"{what} holds {values.dtype}; give coordinates as numbers, in metres")


def _have(what: str) -> str:
    return "have" if what.endswith("s") else "has"


def upload(values: Array, device: torch.device) -> Tensor:
    """``values`` as float32 on ``device``. NumPy memory is copied: it may be read-only, and belongs to the caller."""
    if isinstance(values, Tensor):
        return values.detach().to(device, torch.float32)
    return torch.from_numpy(np.array(values, np.float32)).to(device)


class WindowedFrames:
    """The frames of one recording and where its windows are.

    Attributes:
        starts: first frames of its windows.
        origin: the joint on which it was centred already.
    """

    def __init__(self, frames: Array, window: WindowConfig) -> None:
        self.frames, self.window = frames, window
        self.starts = window.starts(len(frames))
        self.origin = find_origin(frames) if len(self.starts) else None

    def frames_of(self, first: int, count: int) -> Array:
        """The frames that ``count`` windows from number ``first`` on span."""
        return self.frames[self.starts[first] : self.starts[first + count - 1] + self.window.frames]


def enumerate_recordings(recordings: Iterator[object], layout: Layout) -> Iterator[Array]:
    """Checked frames of each recording; messages number them from 0.

    Raises:
        DataError: one of them does not fit.
    """
    for number, frames in enumerate(recordings):
        yield array_of(frames, layout, f"recording {number}")
