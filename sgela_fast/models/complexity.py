"""How large the model is and what a window costs, counted from the model itself and by formula.

A FLOP is one multiplication or one addition inside a matrix product, so a product of ``(m, k)`` and ``(k, n)`` has
2 m k n; gates, softmax, masks and biases are a hundredth of that and left out, as torch's counter does.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

import torch

from sgela_fast.models.config import SGELAConfig
from sgela_fast.reference.sgela import SGELA


@dataclass(frozen=True)
class Parts:
    """A number for each part of the model, all axes together.

    Attributes:
        encoder: LSTM of the gait encoder.
        decoder: LSTM of the gait decoder.
        keys: W_mem, learned keys (``score="general"``).
        attention: scores and context vectors, Eq. 4 and 8; has no parameters.
        fusion: W_att, attentional state vectors, Eq. 9.
        output: W_F, reconstructed skeletons, Eq. 10.
    """

    encoder: int
    decoder: int
    keys: int
    attention: int
    fusion: int
    output: int

    @property
    def total(self) -> int:
        """Sum of the parts."""
        return sum(getattr(self, item.name) for item in fields(self))

    def as_dict(self) -> dict[str, int]:
        """The parts and their ``total``, for JSON."""
        return {**asdict(self), "total": self.total}


@dataclass(frozen=True)
class Parameters:
    """Trainable parameters.

    Attributes:
        live: those that the model computes with.
        dead: copies of two LSTM tensors that the released code creates, trains by weight decay alone and never reads;
            its own counts, and the published 7.15 million (J = 25), include them.
        projection: the head that the journal extension adds to each axis, f K - K - K; with it and the dead copies
            they are the published 8.47 million (J = 20).
    """

    live: Parts
    dead: int
    projection: int

    @property
    def released(self) -> int:
        """What the released code counts."""
        return self.live.total + self.dead

    @property
    def journal(self) -> int:
        """What the code of the journal extension counts."""
        return self.released + self.projection


def count_parameters(config: SGELAConfig) -> Parameters:
    """Count the parameters of a model without allocating it."""
    model = _on_meta(config)

    def size(*prefixes: str) -> int:
        named = model.named_parameters()
        return sum(parameter.numel() for name, parameter in named if name.startswith(prefixes))

    live = Parts(size("encoder."), size("decoder."), size("key_weight"), 0, size("fusion_weight"), size("output_"))
    assert live.total == sum(parameter.numel() for parameter in model.parameters())
    hidden, axes = config.hidden, config.axes
    # A copy of the encoder's bottom kernel, and one of its next layer's bias.
    dead = axes * 4 * hidden * (config.joints + hidden + (config.layers > 1))
    projection = axes * hidden * (config.frames * hidden + hidden + 2)
    return Parameters(live, dead, projection)


def window_flops(config: SGELAConfig, *, reconstruction: bool = True) -> Parts:
    """FLOPs of one window, forward, by formula.

    Args:
        config: the model; windows have its ``frames``.
        reconstruction: count what training computes, as the reference does also while encoding. Otherwise what AGEs
            need: no last attentional vector, and predictions only where they are fed back. Encoded gait states cost the
            encoder alone.
    """
    frames, joints, hidden, axes = config.frames, config.joints, config.hidden, config.axes
    attends = config.attention != "none"

    def product(rows: int, inner: int, outer: int) -> int:
        return axes * 2 * rows * inner * outer

    def lstm(inputs: int) -> int:
        """All layers over all frames: 4 K gates from the layer's input and its state."""
        gates = 4 * hidden
        upper = (config.layers - 1) * product(frames, 2 * hidden, gates)
        return product(frames, inputs + hidden, gates) + upper

    needed = frames if reconstruction else frames - 1
    predicted = frames if reconstruction else frames - 1 if config.encoding_input == "feedback" else 0
    if not attends and not reconstruction:
        raise ValueError("a model with attention 'none' has no AGEs; its encoded gait states cost the encoder alone")
    return Parts(
        encoder=lstm(joints),
        decoder=lstm(joints + hidden if attends else joints),
        keys=product(frames, hidden, hidden) if attends and config.score == "general" else 0,
        attention=2 * product(frames, hidden, frames) if attends else 0,
        fusion=product(needed, 2 * hidden, hidden) if attends else 0,
        output=product(predicted, hidden, joints),
    )


def counted_flops(config: SGELAConfig) -> tuple[int, int]:
    """FLOPs of one window as torch counts them in the reference model: of the encoder, and in all with reconstruction.

    Nothing is computed: the tensors have shapes alone.
    """
    from torch.utils.flop_counter import FlopCounterMode

    model = _on_meta(config)
    skeletons = torch.empty(config.axes, 1, config.frames, config.joints, device="meta")
    found = []
    for call in (model.encode, model):
        with FlopCounterMode(display=False) as counter:
            call(skeletons)
        found.append(int(counter.get_total_flops()))
    return found[0], found[1]


def _on_meta(config: SGELAConfig) -> SGELA:
    with torch.device("meta"):
        return SGELA(config)
