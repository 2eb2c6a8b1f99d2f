"""Settings of silhouettes. Imports nothing heavy: the command line reads this for its help."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from sgela_fast.errors import ConfigError

SIZE = 64  # rows and columns of a normalised silhouette
CASIA_B_VIEWS = tuple(f"{angle:03d}" for angle in range(0, 181, 18))
CASIA_B_CONDITIONS = (*(f"nm-{walk:02d}" for walk in range(1, 7)), "bg-01", "bg-02", "cl-01", "cl-02")

Flip = Literal["sequence", "frame", "none"]
_CONDITION = re.compile(r"(nm|bg|cl)-\d\d")


def _at_least(section: str, settings: object, name: str, least: float) -> None:
    value = getattr(settings, name)
    if not value >= least:
        raise ConfigError(f"{section}.{name} is {value}; it must be at least {least}")


@dataclass(frozen=True)
class RenderConfig:
    """Silhouettes drawn from skeletons.

    Attributes:
        persons: synthetic walkers to draw; skeletons of an archive bring their own persons.
        frames: frames of a walk at most; the middle of a longer one is taken.
        views: angles between the walking direction and the camera, degrees as three figures: ``000`` faces the camera,
            ``090`` is seen from the left, ``180`` walks away.
        conditions: walks of a person in order: ``nm`` normal, ``bg`` with a bag, ``cl`` in a coat, and their number.
        seed: of the walkers, their build, clothes and bags.
        shape_spread: scales how much persons differ in build; 0 gives all the same flesh on their bones.
        distance: of the camera from the middle of the path, metres.
        camera_height: metres.
        smooth: frames over which an archive's joints are averaged; 1 for none.

    Raises:
        ConfigError: a setting is out of range.
    """

    persons: int = 10
    frames: int = 60
    views: tuple[str, ...] = CASIA_B_VIEWS
    conditions: tuple[str, ...] = CASIA_B_CONDITIONS
    seed: int = 0
    shape_spread: float = 1.0
    distance: float = 6.0
    camera_height: float = 1.2
    smooth: int = 5

    def __post_init__(self) -> None:
        for name, least in (("persons", 1), ("frames", 2), ("seed", 0), ("shape_spread", 0), ("smooth", 1)):
            _at_least("render", self, name, least)
        _at_least("render", self, "distance", 3)
        for name in ("views", "conditions"):
            values = tuple(getattr(self, name))
            if not values or len(set(values)) < len(values):
                raise ConfigError(f"render.{name} is {list(values)}; name one or more, each once")
            object.__setattr__(self, name, values)
        for view in self.views:
            if not re.fullmatch(r"\d{3}", view) or int(view) > 359:
                raise ConfigError(f"render.views names {view!r}; an angle has three figures, 000 to 359")
        for condition in self.conditions:
            if not _CONDITION.fullmatch(condition):
                raise ConfigError(f"render.conditions names {condition!r}; give names such as nm-01, bg-01, cl-01")


@dataclass(frozen=True)
class PackConfig:
    """How a folder of images becomes a packed set.

    Attributes:
        min_frames: sequences with fewer usable frames are left out and counted.
        min_mass: frames whose grey levels add up to no more than this are empty (10,000 in GaitSet's preparation:
            40 white pixels) and left out.
        strict: stop at the first image at fault instead of leaving it out and listing it.
        frames_per_shard: a shard is closed once it holds this many frames.
        threads: that read images.

    Raises:
        ConfigError: a setting is out of range.
    """

    min_frames: int = 1
    min_mass: int = 10_000
    strict: bool = False
    frames_per_shard: int = 65_536
    threads: int = 4

    def __post_init__(self) -> None:
        for name, least in (("min_frames", 1), ("min_mass", 0), ("frames_per_shard", 1), ("threads", 1)):
            _at_least("pack", self, name, least)


@dataclass(frozen=True)
class ClipConfig:
    """How clips are cut from sequences and changed.

    Attributes:
        frames: contiguous frames of a clip T.
        crop: columns cut off at either side: 10 leave 64 x 44.
        shrink: mean over squares of so many pixels, for small models; it divides 64 and 64 - 2 crop.
        redraw: draw the place of the clip at each access; off, it is drawn once for each sequence, as the released code
            does.
        apart: cut every view of a clip at a place of its own, so that the views of a pair differ in their frames; off,
            they are changed copies of the same frames, as the released code has them.
        flip: mirror whole clips (``sequence``), frames independently (``frame``, as the released code does) or not at
            all (``none``).
        flip_share: chance to be mirrored.
        rotate: largest turn, degrees.
        scale: largest relative change of size.
        shift: largest shift, as a share of the height.
        erase: chance that a rectangle of a clip is blanked.

    Raises:
        ConfigError: a setting is out of range.
    """

    frames: int = 30
    crop: int = 10
    shrink: int = 1
    redraw: bool = True
    apart: bool = False
    flip: Flip = "sequence"
    flip_share: float = 0.5
    rotate: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    erase: float = 0.0

    def __post_init__(self) -> None:
        for name, least in (("frames", 1), ("crop", 0), ("shrink", 1), ("rotate", 0), ("scale", 0), ("shift", 0)):
            _at_least("clips", self, name, least)
        for name in ("flip_share", "erase"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"clips.{name} is {getattr(self, name)}; it must be between 0 and 1")
        if self.flip not in get_args(Flip):
            raise ConfigError(f"clips.flip is {self.flip!r}; choose sequence, frame or none")
        if self.apart and not self.redraw:
            raise ConfigError(
                "clips.apart cuts each view at a place of its own but clips.redraw is off, which gives a sequence one "
                "place; leave one of them as it was"
            )
        if self.scale >= 1:
            raise ConfigError(f"clips.scale is {self.scale}; it must be below 1")
        width = SIZE - 2 * self.crop
        if width < 1 or SIZE % self.shrink or width % self.shrink:
            raise ConfigError(
                f"clips.crop {self.crop} and clips.shrink {self.shrink} do not fit {SIZE} x {SIZE} silhouettes; "
                f"shrink must divide {SIZE} and {SIZE} less twice the crop"
            )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a clip's frames."""
        return SIZE // self.shrink, (SIZE - 2 * self.crop) // self.shrink


RELEASED_CLIPS = ClipConfig(redraw=False, flip="frame")
