"""Images of silhouettes: reading them, and bringing frames of a camera to 64 x 64 as GaitSet's preparation does."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgela_fast.errors import DataError, MissingDependencyError, one_line
from sgela_fast.silhouettes.config import SIZE

Frame = NDArray[np.uint8]
_SHARPNESS = -0.75  # the cubic's slope at 1, as OpenCV has it
_LARGEST = 1 << 24  # pixels of an image; a larger one is none of a camera that sees people


def pillow() -> Any:
    """The module ``PIL.Image``.

    Raises:
        MissingDependencyError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependencyError(
            'images need the package pillow; install it with pip install "sgela_fast[silhouettes]"'
        ) from error
    return Image


def read_image(file: Path) -> Frame:
    """The grey levels of an image, ``(rows, columns)``; of a coloured one its first channel.

    Raises:
        DataError: it cannot be read, is cut off, or is no image.
        MissingDependencyError: Pillow is not installed.
    """
    image_module = pillow()
    try:
        with image_module.open(file, formats=("PNG",)) as image:
            if image.width * image.height > _LARGEST:
                raise ValueError(f"{image.width} x {image.height} pixels")
            if image.mode in ("1", "P"):
                image = image.convert("L")
            pixels = np.asarray(image)
    except (OSError, ValueError, SyntaxError, image_module.DecompressionBombError) as error:
        reason = one_line(error).replace(str(file), file.name)
        raise DataError(f"{file} cannot be read as an image ({reason}); copy it again") from error
    pixels = pixels if pixels.ndim == 2 else pixels[..., 0]
    if pixels.dtype != np.uint8:
        raise DataError(f"{file} has grey levels of type {pixels.dtype}, not of 8 bits; save it again as 8-bit PNG")
    return pixels


def write_image(file: Path, pixels: Frame) -> None:
    """Write grey levels ``(rows, columns)`` as PNG.

    Raises:
        OSError: the file cannot be written.
        MissingDependencyError: Pillow is not installed.
    """
    pillow().fromarray(pixels).save(file, format="PNG", compress_level=1)


def normalise(pixels: Frame, min_mass: int = 10_000) -> Frame | None:
    """Bring a frame to 64 x 64: the figure fills the height, the column that halves its mass is the middle.

    The rule of GaitSet's preparation. A frame that has this size already stays as it is.

    Args:
        pixels: ``(rows, columns)`` grey levels, the figure bright.
        min_mass: a frame whose grey levels add up to no more is empty.

    Returns:
        ``(64, 64)``, or ``None`` for an empty frame.
    """
    if pixels.sum(dtype=np.int64) <= min_mass:
        return None
    if pixels.shape == (SIZE, SIZE):
        return pixels
    filled = np.flatnonzero(pixels.any(axis=1))
    figure = pixels[filled[0] : filled[-1] + 1]
    width = int(SIZE * (figure.shape[1] / figure.shape[0]))
    if width < 1:
        return None  # a stripe
    return centre(resize(figure, SIZE, width))


def centre(figure: Frame) -> Frame:
    """Cut 64 columns about the one that halves the mass of ``figure`` ``(64, columns)``, filled up with zeros."""
    mass = figure.sum(axis=0, dtype=np.int64).cumsum()
    middle = int(np.searchsorted(mass, mass[-1] / 2, side="right"))
    padded = np.pad(figure, ((0, 0), (SIZE // 2, SIZE // 2)))
    return padded[:, middle : middle + SIZE]


def resize(pixels: Frame, rows: int, columns: int) -> Frame:
    """Cubic interpolation between pixels as OpenCV's INTER_CUBIC does it: four taps, borders repeated.

    Equal to OpenCV but for the rounding of its fixed-point weights.
    """
    down = _taps(pixels.shape[0], rows) @ pixels.astype(np.float32)  # (rows, old columns)
    return np.clip(np.rint(down @ _taps(pixels.shape[1], columns).T), 0, 255).astype(np.uint8)


@functools.lru_cache(maxsize=64)  # sizes of figures recur from frame to frame
def _taps(old: int, new: int) -> NDArray[np.float32]:
    """Weights of the old pixels in each new one, ``(new, old)``."""
    places = (np.arange(new) + 0.5) * (old / new) - 0.5
    first = np.floor(places).astype(np.int64)
    weights = np.zeros((new, old), np.float32)
    for offset in (-1, 0, 1, 2):
        distance = np.abs(places - (first + offset))
        near = ((_SHARPNESS + 2) * distance - (_SHARPNESS + 3)) * distance**2 + 1
        far = _SHARPNESS * (((distance - 5) * distance + 8) * distance - 4)
        np.add.at(weights, (np.arange(new), np.clip(first + offset, 0, old - 1)), np.where(distance <= 1, near, far))
    return weights
