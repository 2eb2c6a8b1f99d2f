"""Settings of the skeleton floor. Imports nothing heavy: the command line reads this for its help."""

from __future__ import annotations

from dataclasses import dataclass, field

from sgela_fast.errors import ConfigError

JOINT_MAPS = ("anatomical", "compat")
SLOTS = ("0", "1", "auto")
PATHS = ("arc", "corridor")


@dataclass(frozen=True)
class WindowConfig:
    """How recordings become windows.

    Attributes:
        frames: frames of a window (the paper's f).
        stride: frames between the starts of two windows; 0 stands for half a window (the paper's overlap of f/2).
        trim: frames dropped at each end of a recording.
        center: joint that becomes the origin of every frame: ``root`` (the layout's own), a joint's name, or
            ``none`` for raw camera coordinates. The place where somebody walks can give the identity away: the raw hip
            position alone names the person in 15 % (KGBD) to 74 % (GIST) of windows.
    """

    frames: int = 6
    stride: int = 0
    trim: int = 10
    center: str = "root"

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ConfigError(f"window.frames is {self.frames}; it must be at least 1")
        if self.stride < 0:
            raise ConfigError(f"window.stride is {self.stride}; give a positive number, or 0 for half a window")
        if self.trim < 0:
            raise ConfigError(f"window.trim is {self.trim}; it must not be negative")

    @property
    def step(self) -> int:
        """The stride with 0 resolved to half a window."""
        return self.stride or max(1, self.frames // 2)

    def starts(self, frames: int) -> range:
        """First frames of the windows of a recording with ``frames`` frames.

        Empty if the recording is too short to hold one window between its trimmed ends.
        """
        return range(self.trim, frames - self.trim - self.frames + 1, self.step)


@dataclass(frozen=True)
class ReaderOptions:
    """What some file formats leave open; the other formats ignore it.

    Attributes:
        slot: which of the two users in a Kinect v1 frame of 40 rows is read (BIWI, IAS): ``0``, ``1``, or ``auto`` for
            the one that is tracked in more frames. The released code reads slot 0.
        keep_untracked: keep frames with an untracked joint (BIWI, IAS) and mark that joint as lost; by default such a
            frame is dropped, as the released code does.
        every: keep every n-th frame of motion capture (CMU, 120 frames per second); 4 gives a Kinect's 30.
        pickled_ids: read the persons of the authors' preprocessed arrays from their pickled ``ids_*.npy`` where there
            is no plain ``frame_id_*.npy``. The file is interpreted, never executed.
    """

    slot: str = "0"
    keep_untracked: bool = False
    every: int = 4
    pickled_ids: bool = False

    def __post_init__(self) -> None:
        if self.slot not in SLOTS:
            raise ConfigError(f"slot is {self.slot!r}; choose one of: {', '.join(SLOTS)}")
        if self.every < 1:
            raise ConfigError(f"every is {self.every}; it must be at least 1")


@dataclass(frozen=True)
class ConvertConfig:
    """How recordings become an archive.

    Attributes:
        format: name of the file format, or ``auto`` to tell it from the content.
        layout: joint layout of the archive, or ``keep`` for the recordings' own.
        joint_map: ``anatomical`` takes left and right from the joints' names; ``compat`` exchanges them, which for KGBD
            gives the joint order of the released code.
        manifest: CSV file whose persons, splits and further columns override what names and folders say.
        strict: stop at the first recording at fault instead of leaving it out and listing it.
        min_frames: recordings with fewer frames are left out.
        frames_per_shard: a shard of the archive is closed once it holds this many frames.
        reader: what some formats leave open.
    """

    format: str = "auto"
    layout: str = "keep"
    joint_map: str = "anatomical"
    manifest: str | None = None
    strict: bool = False
    min_frames: int = 1
    frames_per_shard: int = 1_000_000
    reader: ReaderOptions = field(default_factory=ReaderOptions)

    def __post_init__(self) -> None:
        if self.joint_map not in JOINT_MAPS:
            raise ConfigError(f"joint_map is {self.joint_map!r}; choose one of: {', '.join(JOINT_MAPS)}")
        for name in ("min_frames", "frames_per_shard"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1")


@dataclass(frozen=True)
class WalkerConfig:
    """Synthetic walkers: how many, how different, how badly seen.

    Attributes:
        persons: number of identities. Person i is the same however many there are.
        walks: recordings of each person, at least 2: one of them is for testing.
        min_frames: least frames of a recording, at 30 frames per second.
        max_frames: most frames of a recording.
        seed: everything random follows from it; the same seed gives the same bits.
        path: ``arc`` walks a half circle round a camera that turns along, as in KGBD; ``corridor`` walks up and down
            before a fixed camera, with turns.
        shape_spread: scales how much persons differ in bone lengths; 0 gives all the same bones.
        motion_spread: scales how much persons differ in cadence, posture and motion; 0 gives all the same gait.
        variation: scales how much the walks of one person differ.
        noise: scales the sensor's errors; 0 gives exact joints.
        jump_rate: fraction of frames in which some joint leaps by more than 0.3 m (times ``noise``).
        lost_rate: fraction of frames in which some joint is lost (times ``noise``).
    """

    persons: int = 40
    walks: int = 4
    min_frames: int = 180
    max_frames: int = 320
    seed: int = 0
    path: str = "arc"
    shape_spread: float = 1.0
    motion_spread: float = 1.0
    variation: float = 1.0
    noise: float = 1.0
    jump_rate: float = 0.025
    lost_rate: float = 0.0005

    def __post_init__(self) -> None:
        for name, least in (("persons", 1), ("walks", 2), ("min_frames", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"walkers: {name} is {getattr(self, name)}; it must be at least {least}")
        if self.max_frames < self.min_frames:
            raise ConfigError(
                f"walkers: max_frames is {self.max_frames}, less than min_frames = {self.min_frames}; raise it"
            )
        if self.path not in PATHS:
            raise ConfigError(f"walkers: path is {self.path!r}; choose one of: {', '.join(PATHS)}")
        for name in ("shape_spread", "motion_spread", "variation", "noise"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"walkers: {name} is {getattr(self, name)}; it must be a number from 0 on")
        for name in ("jump_rate", "lost_rate"):
            if not 0 <= getattr(self, name) * self.noise <= 1:
                raise ConfigError(f"walkers: {name} times noise must lie between 0 and 1; lower {name}")


@dataclass(frozen=True)
class QualityConfig:
    """From where on a recording is at fault. A few jumps and lost joints are usual and only counted.

    Attributes:
        min_frames: a recording with fewer frames is too short; 26 hold one window of 6 between trimmed ends of 10.
        jump: a joint that moves farther between two frames jumps, metres.
        jumping_frames: largest fraction of frames with a jump.
        lost_frames: largest fraction of frames with a lost joint.
        bone_spread: largest spread of bone lengths within a recording, metres, as the mean of the bones' standard
            deviations.
    """

    min_frames: int = 26
    jump: float = 0.3
    jumping_frames: float = 0.2
    lost_frames: float = 0.1
    bone_spread: float = 0.08

    def __post_init__(self) -> None:
        for name in ("min_frames", "jump", "jumping_frames", "lost_frames", "bone_spread"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must not be negative")
