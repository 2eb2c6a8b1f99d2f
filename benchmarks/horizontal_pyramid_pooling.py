"""Benchmark of horizontal pyramid pooling, forward and backward, against PyTorch's ways to compute it.

    python -m benchmarks.horizontal_pyramid_pooling          # this machine's CPU, one thread
    python -m benchmarks.horizontal_pyramid_pooling --quick  # does it run at all?

Images are the frames of a batch of clips (N * T of them); maps are those of SelfGait's and GaitSet's frame network, 128
channels of 16 x 11 pixels in 31 strips, contiguous or channels-last, and larger ones of a network for larger
silhouettes.
"""

from __future__ import annotations

from itertools import product

from sgela_fast.benchmarks import horizontal_pyramid_pooling_providers as providers
from sgela_fast.benchmarks.harness.arguments import Choice, Grid
from sgela_fast.benchmarks.harness.command import main
from sgela_fast.benchmarks.harness.suite import Case, Cost, Suite
from sgela_fast.benchmarks.horizontal_pyramid_pooling_providers import BINS

FLOAT_BYTES = 4
GAIT, LARGER = (128, 16, 11), (256, 32, 22)  # C, H, W
LAYOUTS = ("contiguous", "channels last")
# Maps and numbers of images.
Sizes = tuple[tuple[tuple[int, int, int], tuple[int, ...]], ...]
GRIDS: dict[Grid, Sizes] = {
    "quick": (((3, 16, 11), (2,)),),
    "standard": ((GAIT, (8, 128, 960)), (LARGER, (128,))),
    "full": ((GAIT, (1, 8, 128, 960, 3840)), (LARGER, (8, 128, 960))),
}


def cost(images: int, channels: int, height: int, width: int, *, backward: bool) -> Cost:
    """Work of one call: an addition and a comparison a pixel; the map read once, the strips written once.

    The backward pass reads the strips' gradients and writes the map's, adding a few times a pixel. Positions of the
    maxima are temporary and count for nobody.
    """
    pixels, strips = float(images * channels * height * width), float(images * channels * sum(BINS))
    passes = 2 if backward else 1
    return Cost(2 * pixels * passes, FLOAT_BYTES * (pixels + strips) * passes)


def case_of(images: int, shape: tuple[int, int, int], layout: str, backward: bool, device: str) -> Case:
    """One size, layout and choice of passes."""
    channels, height, width = shape
    passes = "forward and backward" if backward else "forward"
    maps = f"{channels} x {height} x {width}"
    return Case(
        name=f"{passes} {layout} {maps} images={images}",
        group=f"{passes}, float32, {layout}",
        axes={"images": images, "maps": maps},
        items=images,
        cost=cost(images, *shape, backward=backward),
        device=device,
        clock="cpu",
        settings={"images": images, "C": channels, "H": height, "W": width, "layout": layout, "backward": backward},
    )


def build(choice: Choice) -> Suite:
    """The suite for a device and a grid."""
    sizes = [(images, shape) for shape, numbers in GRIDS[choice.grid] for images in choice.sizes or numbers]
    return Suite.of(
        providers,
        name="horizontal_pyramid_pooling",
        title="Horizontal pyramid pooling",
        unit="images",
        cases=(
            case_of(*size, layout, backward, choice.device)
            for backward, layout, size in product((False, True), LAYOUTS, sizes)
        ),
    )


if __name__ == "__main__":
    raise SystemExit(main("horizontal_pyramid_pooling"))
