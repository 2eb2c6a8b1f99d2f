"""Benchmark of SelfGait: a step of pre-training and the encoding of clips, of a small and the full model.

python -m benchmarks selfgait --sizes 2 8
"""

from __future__ import annotations

from itertools import pairwise

from sgela_fast.benchmarks import selfgait_providers as providers
from sgela_fast.benchmarks.harness.arguments import Choice
from sgela_fast.benchmarks.harness.command import main
from sgela_fast.benchmarks.harness.suite import Case, Cost, Suite
from sgela_fast.benchmarks.selfgait_providers import CONFIGS
from sgela_fast.models.selfgait_config import SelfGaitConfig

FLOAT_BYTES = 4
# Clips in one call, by job and model; encoding takes fewer, as sequences come.
SIZES = {("train", "small"): (32,), ("train", "full"): (2,), ("encode", "small"): (32,), ("encode", "full"): (2,)}


def frame_flop(config: SelfGaitConfig) -> float:
    """Products of the frame network for one frame."""
    total = 0.0
    for stage, (inputs, outputs) in enumerate(pairwise((1, *config.channels))):
        pixels = (config.height >> stage) * (config.width >> stage)
        size = 5 if stage == 0 else 3
        total += 2.0 * pixels * outputs * (inputs * size**2 + outputs * 9)
    return total


def embed_flop(config: SelfGaitConfig, frames: int, *, gated: bool) -> float:
    """Products of one clip's embedding: frame network, gate networks (kernels 3, 1, 3, 3) and the strips' matrices."""
    channels = config.channels[-1]
    gates = frames * 2.0 * channels * (channels // 4) * (3 + 1 + 3 + 3) if gated else 0.0
    return frames * frame_flop(config) + config.strips * (gates + 2.0 * channels * config.embedding)


def step_flop(config: SelfGaitConfig) -> float:
    """Products of a training step for one clip: both views, three passes of the online network, one of the target."""
    head = config.strips * 4.0 * config.embedding * config.projector
    online = embed_flop(config, config.frames - 1, gated=True) + 2 * head
    return 2 * (3 * online + embed_flop(config, 1, gated=False) + head)


def cost(config: SelfGaitConfig, job: str, clips: int) -> Cost:
    """Work of one call; frames are read once and embeddings written."""
    pixels = FLOAT_BYTES * clips * config.frames * config.height * config.width
    if job == "train":
        return Cost(clips * step_flop(config), 2.0 * pixels)
    written = FLOAT_BYTES * clips * config.embedding_width
    return Cost(clips * embed_flop(config, config.frames, gated=True), float(pixels + written))


def build(choice: Choice) -> Suite:
    """The suite for a device and a grid."""
    sizes = {("train", "tiny"): (2,), ("encode", "tiny"): (2,)} if choice.quick else SIZES
    cases = [
        Case(
            name=f"{job} {name} N={clips}",
            group=f"{'a step of pre-training' if job == 'train' else 'encoding'}, float32",
            axes={"model": name, "clips": clips},
            items=clips,
            cost=cost(CONFIGS[name], job, clips),
            device=choice.device,
            clock="cpu",
            settings={
                "job": job,
                "config": name,
                "N": clips,
                "compiled": int(choice.grid == "full" or name == "small"),
            },
        )
        for (job, name), usual in sizes.items()
        for clips in choice.sizes or usual
    ]
    return Suite.of(providers, name="selfgait", title="SelfGait", unit="clips", cases=cases)


if __name__ == "__main__":
    raise SystemExit(main("selfgait"))
