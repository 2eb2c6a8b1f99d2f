"""Settings of the skeleton floor. Imports nothing heavy: the command line reads this for its help."""

from __future__ import annotations

from dataclasses import dataclass

from sgela_fast.errors import ConfigError


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
