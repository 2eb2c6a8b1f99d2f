"""Settings of encoding. Imports no torch: the command line reads this for its help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from sgela_fast.models.checks import require_at_least, require_choices


@dataclass(frozen=True)
class EncodingConfig:
    """How an archive becomes a store of gait encodings.

    Attributes:
        stride: frames between the starts of two windows; 0 stands for that of the run's training windows. The released
            code tests on windows that do not overlap.
        pooling: ``none`` keeps the encoding of every frame (T x D a window), ``mean`` their mean (D).
        dtype: of the stored values; ``float16`` halves the store and keeps over 99.9 % of nearest neighbours.
        batch: windows encoded at once.
        drop_invalid: leave out windows with a lost joint instead of marking them ``valid = false``.
        part_mb: a part of the store is closed once its values reach this size, in MiB.
        device: ``auto``, ``cpu`` or ``cuda``.
        backend: ``auto``, ``reference`` or ``fused``.
        threads: CPU threads; 0 leaves torch's own choice.

    Raises:
        ConfigError: a setting is out of range or not among its choices.
    """

    stride: int = 0
    pooling: Literal["none", "mean"] = "none"
    dtype: Literal["float32", "float16"] = "float32"
    batch: int = 256
    drop_invalid: bool = False
    part_mb: int = 64
    device: Literal["auto", "cpu", "cuda"] = "auto"
    backend: Literal["auto", "reference", "fused"] = "auto"
    threads: int = 0

    def __post_init__(self) -> None:
        require_choices(
            "encoding",
            self,
            {
                "pooling": ("none", "mean"),
                "dtype": ("float32", "float16"),
                "device": ("auto", "cpu", "cuda"),
                "backend": get_args(Literal["auto", "reference", "fused"]),
            },
        )
        require_at_least("encoding", self, 0, "stride", "threads")
        require_at_least("encoding", self, 1, "batch", "part_mb")
