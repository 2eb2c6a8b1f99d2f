"""The command line of ``python -m benchmarks`` and ``sgela-fast bench``. No torch is imported: help answers at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

Grid = Literal["quick", "standard", "full"]
Precision = Literal["ieee", "tf32"]
Drawn = Literal["none", "png", "svg", "pdf"]

# Modules of sgela_fast.benchmarks that have a function `build(choice) -> Suite`.
SUITES = {
    "locality_attention": "the attention op alone, forward and backward, short and long sequences",
    "batched_lstm": "three LSTMs of the encoder's shape, forward and backward",
    "attention_decoder": "the decoding loop from encoded states to gait encodings",
    "horizontal_pyramid_pooling": "strips of feature maps, mean plus maximum, forward and backward",
    "gated_temporal_pooling": "micro-motion templates of all strips, forward and backward",
    "encoding": "windows in memory to gait encodings: the whole model",
    "training_step": "one training step: forward, losses, backward, optimiser",
    "selfgait": "SelfGait on clips of silhouettes: a step of pre-training, encoding",
    "search": "the ten nearest of many windows, exhaustive and approximate",
    "end_to_end": "an archive on disk to a store of gait encodings on disk",
}


@dataclass(frozen=True)
class Choice:
    """What the command line says about the cases.

    Attributes:
        device: ``cpu`` or ``cuda``.
        grid: how many sizes.
        precision: of float32 products on CUDA.
        sizes: numbers of windows (or sequences) in place of the suite's own.
    """

    device: str = "cpu"
    grid: Grid = "standard"
    precision: str = "ieee"
    sizes: tuple[int, ...] = ()

    @property
    def quick(self) -> bool:
        """Whether tiny cases will do."""
        return self.grid == "quick"

    def numbers(
        self, quick: tuple[int, ...], usual: tuple[int, ...], cuda: tuple[int, ...] | None = None
    ) -> tuple[int, ...]:
        """Those that were asked for, or a suite's own: for a quick run, on CUDA devices where they differ, or else."""
        on_cuda = usual if cuda is None else cuda
        return self.sizes or (quick if self.quick else on_cuda if self.device == "cuda" else usual)


def add_arguments(parser: ArgumentParser, out: str) -> None:
    """Declare all arguments.

    Args:
        parser: of the command.
        out: folder of the results by default.
    """
    add = parser.add_argument
    add("suites", type=str, nargs="*", default=[], help=f"of {', '.join(SUITES)}; all without any")
    add(
        "--list",
        action="store_true",
        help="print suites, sizes and providers, or all cases of the suites named; measure nothing",
    )
    add("--device", type=Literal["cpu", "cuda"], default="cpu", help="where to compute")
    add("--precision", type=Precision, default="ieee", help="float32 products on CUDA")
    add("--threads", type=int, default=1, help="CPU threads, each pinned to a core")
    add("--grid", type=Literal["standard", "full"], default="standard", help="which sizes")
    add("--sizes", type=int, nargs="+", default=[], help="numbers of windows, in place of the suite's own")
    add("--quick", action="store_true", help="a few tiny cases: a smoke test, not a measurement")
    add("--select", type=str, default="", help="regular expression; only cases whose name has a match")
    add("--providers", type=str, default="", help="regular expression; only providers whose name has a match")
    add("--seconds", type=float, default=2.0, help="timed seconds for each case")
    add("--no_memory", action="store_true", help="do not measure peak memory")
    add("--tag", type=str, default="", help="word added to the results' file names")
    add("--out", type=str, default=out, help="folder of the results")
    add("--plot", type=Drawn, default="none", help="draw throughput and roofline beside each results file")
    add("--report", type=str, nargs="+", default=[], help="measure nothing: write report and plots of these results")
    add("--compare", type=str, nargs=2, default=[], metavar=("OLD", "NEW"), help="compare two results files or folders")
    add("--threshold", type=float, default=1.1, help="ratio from which --compare calls a change a regression, at least")
    add("--statistic", type=Literal["median", "min", "p20", "p80"], default="median", help="which time --compare takes")
    add("--relative_to", type=str | None, default=None, help="provider whose time divides the others in --compare")
    add("--provider", type=str | None, default=None, help="the only provider that --compare looks at")
