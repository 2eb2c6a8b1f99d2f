"""Settings of the SGE-LA model. Imports no torch: the command line reads this for its help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from sgela_fast.models.checks import require_at_least, require_choices, require_positive

Variant = Literal["paper", "official"]
Attention = Literal["las", "mbas", "bas", "none"]
DecoderInput = Literal["teacher", "zeros", "feedback"]
Backend = Literal["auto", "reference", "fused"]
Precision = Literal["fp32", "tf32", "bf16", "fp16", "int8"]
Feature = Literal["ages", "states"]


@dataclass(frozen=True)
class SGELAConfig:
    """What the model is; every ``None`` is filled in by ``variant``.

    ``variant="paper"`` follows the equations, ``variant="official"`` the released code (docs/model.md lists every
    difference).

    Attributes:
        variant: which of the two.
        attention: ``las`` (softmax alignment guided by the locality loss, Eq. 7), ``mbas`` (alignment times the
            locality mask, Eq. 6), ``bas`` (plain softmax alignment, Eq. 4), ``none`` (no attention).
        frames: frames of a window (the paper's f).
        joints: joints of a skeleton (J).
        hidden: hidden units of each LSTM layer (the paper's k).
        layers: LSTM layers of the encoder and of the decoder.
        axes: coordinate axes, each with a model of its own.
        reverse: reconstruct the window backwards; off reconstructs it as it is (Table 2, without "Rev.").
        mask_window: attentional range D of the locality mask (Eq. 5, sigma = D/2); ``None`` is ``frames``.
        score: ``dot`` (Eq. 4) or ``general`` (keys pass a learned matrix first, as in the released code).
        fusion: activation of the attentional layer: ``tanh`` (Eq. 9) or ``linear`` (released code).
        decoder_input: what the decoder reads in training: ``teacher`` (the true previous frame, Eq. 2), ``zeros``
            (released code) or ``feedback`` (its own previous prediction).
        encoding_input: the same, while encoding.
        output_bias: whether the output layer has a bias (released code) or not (Eq. 10).
        forget_bias: added to the forget gate in the forward pass, outside the stored bias.
        loss_factor: 1 for the plain sums of squares of Eq. 3, 7 and 12; 1/2 for the released code's half sums.
        lambda_reconstruction: weight of L_R.
        lambda_attention: weight of L_A; used by ``las`` only.
        beta: weight of the squared norm of all parameters.

    Raises:
        ConfigError: a setting is out of range or not among its choices.
    """

    variant: Variant = "official"
    attention: Attention = "las"
    frames: int = 6
    joints: int = 20
    hidden: int = 256
    layers: int = 2
    axes: int = 3
    reverse: bool = True
    mask_window: int | None = None
    score: Literal["dot", "general"] | None = None
    fusion: Literal["tanh", "linear"] | None = None
    decoder_input: DecoderInput | None = None
    encoding_input: DecoderInput | None = None
    output_bias: bool | None = None
    forget_bias: float = 1.0
    loss_factor: float | None = None
    lambda_reconstruction: float = 1.0
    lambda_attention: float = 1.0
    beta: float = 0.02

    def __post_init__(self) -> None:
        require_choices("model", self, {"variant": get_args(Variant), "attention": get_args(Attention)})
        for name, value in VARIANTS[self.variant].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        inputs = get_args(DecoderInput)
        require_choices(
            "model",
            self,
            {
                "score": ("dot", "general"),
                "fusion": ("tanh", "linear"),
                "decoder_input": inputs,
                "encoding_input": inputs,
            },
        )
        require_at_least("model", self, 1, "frames", "joints", "hidden", "layers", "axes")
        if self.mask_window is not None:
            require_at_least("model", self, 1, "mask_window")
        require_at_least("model", self, 0, "forget_bias", "lambda_reconstruction", "lambda_attention", "beta")
        require_positive("model", self, "loss_factor")

    @property
    def window(self) -> int:
        """The attentional range D in frames."""
        return self.mask_window or self.frames

    @property
    def sigma(self) -> float:
        """Width of the locality mask, D/2 (Eq. 5)."""
        return self.window / 2

    @property
    def width(self) -> int:
        """Features of one frame's encoding: all axes side by side (Eq. 11)."""
        return self.axes * self.hidden


VARIANTS: dict[str, dict[str, object]] = {
    "paper": {
        "score": "dot",
        "fusion": "tanh",
        "decoder_input": "teacher",
        "encoding_input": "feedback",
        "output_bias": False,
        "loss_factor": 1.0,
    },
    "official": {
        "score": "general",
        "fusion": "linear",
        "decoder_input": "zeros",
        "encoding_input": "zeros",
        "output_bias": True,
        "loss_factor": 0.5,
    },
}
