"""Settings of encoding. Imports no torch: the command line reads this for its help."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from sgela_fast.errors import ConfigError
from sgela_fast.models.checks import require_at_least, require_choices
from sgela_fast.models.config import Feature, Variant


@dataclass(frozen=True)
class EncodingConfig:
    """How an archive becomes a store of gait encodings.

    Attributes:
        stride: frames between the starts of two windows; 0 stands for that of the run's training windows. The released
            code tests on windows that do not overlap.
        feature: ``ages`` are the attention-based gait encodings (Eq. 11); ``states`` the encoded gait states h_t of the
            encoder's top layer (Eq. 1), which take no decoder and are all that a model without attention has.
        pooling: ``none`` keeps the encoding of every frame (T x D a window), ``mean`` their mean (D).
        dtype: of the stored values; ``float16`` halves the store and keeps over 99.9 % of nearest neighbours,
            ``bfloat16`` (as uint16 bits) halves it and keeps fewer, ``int8`` quarters it with a scale for each window.
        precision: of the model's arithmetic: ``fp32``, ``tf32``, ``bf16``, ``fp16`` or ``int8``.
        batch: windows encoded at once.
        drop_invalid: leave out windows with a lost joint instead of marking them ``valid = false``.
        part_mb: values of one part of the store, in MiB: what is encoded and committed as a whole.
        device: ``auto``, ``cpu`` or ``cuda``.
        backend: ``auto``, ``reference`` or ``fused``.
        threads: CPU threads; 0 leaves torch's own choice.

    Raises:
        ConfigError: a setting is out of range or not among its choices.
    """

    stride: int = 0
    feature: Literal["ages", "states"] = "ages"
    pooling: Literal["none", "mean"] = "none"
    dtype: Literal["float32", "float16", "bfloat16", "int8"] = "float32"
    precision: Literal["fp32", "tf32", "bf16", "fp16", "int8"] = "fp32"
    batch: int = 256
    drop_invalid: bool = False
    part_mb: float = 64
    device: Literal["auto", "cpu", "cuda"] = "auto"
    backend: Literal["auto", "reference", "fused"] = "auto"
    threads: int = 0

    def __post_init__(self) -> None:
        require_choices(
            "encoding",
            self,
            {
                "feature": get_args(Feature),
                "pooling": ("none", "mean"),
                "dtype": ("float32", "float16", "bfloat16", "int8"),
                "precision": ("fp32", "tf32", "bf16", "fp16", "int8"),
                "device": ("auto", "cpu", "cuda"),
                "backend": get_args(Literal["auto", "reference", "fused"]),
            },
        )
        require_at_least("encoding", self, 0, "stride", "threads")
        require_at_least("encoding", self, 1, "batch")
        require_at_least("encoding", self, 0.001, "part_mb")

    def binding(self) -> dict[str, Any]:
        """The settings that the content of a store follows from and that are not resolved elsewhere."""
        return {name: value for name, value in asdict(self).items() if name in ("batch", "drop_invalid", "part_mb")}


@dataclass(frozen=True)
class EngineConfig:
    """Where an archive is encoded; the store is the same whatever is chosen here.

    Attributes:
        engine: ``local`` is this process, ``ray`` the workers of a Ray cluster.
        workers: processes of an engine that has several.
        cpus: CPUs of each, which are also its threads.
        gpus: CUDA devices of each; fractions share one.
        address: of a running cluster; empty starts one on this machine.

    Raises:
        ConfigError: a setting is out of range or not among its choices.
    """

    engine: Literal["local", "ray"] = "local"
    workers: int = 2
    cpus: int = 1
    gpus: float = 0.0
    address: str = ""

    def __post_init__(self) -> None:
        require_choices("engine", self, {"engine": ("local", "ray")})
        require_at_least("engine", self, 1, "workers", "cpus")
        require_at_least("engine", self, 0, "gpus")


def require_one_model(run: str | Path | None, untrained: Variant | None) -> None:
    """Refuse what names no model, or two.

    Raises:
        ConfigError: both or neither are given.
    """
    if bool(run) == bool(untrained):
        raise ConfigError("give either --model RUN or --untrained VARIANT")
