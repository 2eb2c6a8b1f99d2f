"""Settings of the SelfGait model. Imports no torch: the command line reads this for its help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from sgela_fast.errors import ConfigError
from sgela_fast.models.checks import require_at_least, require_choices, require_positive

SelfGaitVariant = Literal["canonical", "released"]
Objective = Literal["future", "clip", "aliased"]


@dataclass(frozen=True)
class SelfGaitConfig:
    """What the model is and what it is trained for; every ``None`` is filled in by ``variant``.

    ``variant="canonical"`` is the method as its figure and BYOL describe it, ``variant="released"`` what the public
    code does (docs/selfgait.md lists every difference). The networks are the same in both.

    Attributes:
        variant: which of the two.
        frames: frames of a training clip, T.
        height: rows of a silhouette.
        width: columns of a silhouette.
        channels: channels of the frame network's stages, two convolutions each, halved in size between stages.
        bins: horizontal strips of each scale; their sum is the number of strips S.
        embedding: features of a strip's embedding, E.
        projector: hidden units of projector and predictor.
        norm: batch statistics of projector and predictor: ``shared`` by all strips, as the public code has them, or of
            each ``strip`` by itself, so that what tells strips apart cannot stand in for what tells walks apart.
        momentum: of the target network's moving average.
        objective: ``future`` (the online network sees frames 0 to T-2 of one view, the target network frame T-1 of the
            other), ``clip`` (both see all frames) or ``aliased`` (both see frame T-2 alone: what the public code's
            future-frame trainer does, because both of its lists are one).
        cosine: axis of the loss's cosine: ``features`` (one for each strip) or ``strips`` (one for each feature).
        loss_factor: 2 for BYOL's 2 - 2 cos, 1 for 1 - cos.
        buffers: running statistics of the target's projector: ``average`` (moved like its weights, its own batches
            leave them alone) or ``own`` (only its own batches move them).

    Raises:
        ConfigError: a setting is out of range or not among its choices, or the strips do not fit the height.
    """

    variant: SelfGaitVariant = "canonical"
    frames: int = 30
    height: int = 64
    width: int = 44
    channels: tuple[int, ...] = (32, 64, 128)
    bins: tuple[int, ...] = (1, 2, 4, 8, 16)
    embedding: int = 128
    projector: int = 256
    norm: Literal["shared", "strip"] = "shared"
    momentum: float = 0.996
    objective: Objective | None = None
    cosine: Literal["features", "strips"] | None = None
    loss_factor: float | None = None
    buffers: Literal["average", "own"] | None = None

    def __post_init__(self) -> None:
        require_choices("selfgait", self, {"variant": get_args(SelfGaitVariant)})
        for name, value in SELFGAIT_VARIANTS[self.variant].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        for name in ("channels", "bins"):  # lists, as JSON and YAML have them
            object.__setattr__(self, name, tuple(getattr(self, name)))
        require_choices(
            "selfgait",
            self,
            {
                "objective": get_args(Objective),
                "cosine": ("features", "strips"),
                "buffers": ("average", "own"),
                "norm": ("shared", "strip"),
            },
        )
        require_at_least("selfgait", self, 2, "frames")
        require_at_least("selfgait", self, 1, "height", "width", "embedding", "projector")
        require_positive("selfgait", self, "loss_factor")
        require_at_least("selfgait", self, 0, "momentum")
        if self.momentum > 1:
            raise ConfigError(f"selfgait.momentum is {self.momentum}; it must be in [0, 1]")
        for name in ("channels", "bins"):
            values = getattr(self, name)
            if not values or min(values) < 1:
                raise ConfigError(f"selfgait.{name} is {list(values)}; give one or more numbers of at least 1")
        if self.channels[-1] % 4:
            raise ConfigError(f"selfgait.channels ends with {self.channels[-1]}; the last one must be a multiple of 4")
        rows, columns = self.map_size
        if columns < 1 or any(rows % bins for bins in self.bins):
            raise ConfigError(
                f"selfgait.height {self.height} and width {self.width} leave {rows} rows and {columns} columns of "
                f"features, which selfgait.bins {list(self.bins)} do not divide; give a height of {self._reduction} "
                "times a multiple of every number of strips"
            )

    @property
    def _reduction(self) -> int:
        return int(2 ** (len(self.channels) - 1))

    @property
    def map_size(self) -> tuple[int, int]:
        """Rows and columns of the frame network's output."""
        return self.height // self._reduction, self.width // self._reduction

    @property
    def strips(self) -> int:
        """Strips S of all scales together."""
        return sum(self.bins)

    @property
    def embedding_width(self) -> int:
        """Numbers of a sequence's embedding, S * E."""
        return self.strips * self.embedding


SELFGAIT_VARIANTS: dict[str, dict[str, object]] = {
    "canonical": {"objective": "future", "cosine": "features", "loss_factor": 2.0, "buffers": "average"},
    "released": {"objective": "aliased", "cosine": "strips", "loss_factor": 1.0, "buffers": "own"},
}
