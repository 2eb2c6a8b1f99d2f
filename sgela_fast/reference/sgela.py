"""The SGE-LA model in plain PyTorch: one gait encoder and decoder per axis, held as one module.

Every parameter carries a leading axis dimension A; the axes share nothing. The fused model has the same state dict.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypedDict

import torch
from torch import Tensor, nn

from sgela_fast.reference.attention_decoder import DecoderOutput, DecoderWeights, attention_decoder
from sgela_fast.reference.batched_lstm import LSTMLayer, LSTMState, batched_lstm
from sgela_fast.reference.locality_attention import Mode
from sgela_fast.reference.losses import Losses, sgela_loss

if TYPE_CHECKING:
    from sgela_fast.models.config import DecoderInput, SGELAConfig


class DecoderSettings(TypedDict):
    """Keyword arguments of the decoder ops that the configuration fixes."""

    steps: int
    mode: Mode | None
    centers: Literal["reverse", "identity"]
    sigma: float
    window: float
    fusion: Literal["tanh", "linear"]


class SGELAOutput(NamedTuple):
    """One pass through encoder and decoder.

    Attributes:
        reconstruction: ``(A, B, T, J)``, in decoding order.
        target: what it should be, ``(A, B, T, J)``.
        encoded: encoded gait states h_1 ... h_f (Eq. 1), ``(A, B, T, K)``.
        encoder_state: final state of all encoder layers, each ``(L, A, B, K)``.
        context: context vectors c_t (Eq. 8), ``(A, B, T, K)``; ``None`` without attention.
        alignment: ``(A, B, T, T)``, decoding step by position; ``None`` without attention.
        alignment_loss: L_A of each window and axis, ``(A, B)``.
        attentional: attentional state vectors (Eq. 9), ``(A, B, T, K)``.
        decoder_h: hidden states of all decoder layers after each step, ``(L, A, B, T, K)``.
        decoder_c: cell states, likewise.
    """

    reconstruction: Tensor
    target: Tensor
    encoded: Tensor
    encoder_state: LSTMState
    context: Tensor | None
    alignment: Tensor | None
    alignment_loss: Tensor
    attentional: Tensor
    decoder_h: Tensor
    decoder_c: Tensor


class StackedLSTM(nn.Module):
    """Parameters of the A stacked LSTMs of one role.

    ``weight_ih_l{n} (A, 4K, I)``, ``weight_hh_l{n} (A, 4K, K)``, ``bias_l{n} (A, 4K)``, gates in the order i, f, g, o.
    The forget bias is a constant of the model, not a part of the stored bias, so that weight decay leaves it alone.
    """

    forget: Tensor

    def __init__(self, axes: int, inputs: int, hidden: int, layers: int, forget_bias: float) -> None:
        super().__init__()
        self.layers = layers
        for index in range(layers):
            width = inputs if index == 0 else hidden
            self.register_parameter(f"weight_ih_l{index}", nn.Parameter(torch.empty(axes, 4 * hidden, width)))
            self.register_parameter(f"weight_hh_l{index}", nn.Parameter(torch.empty(axes, 4 * hidden, hidden)))
            self.register_parameter(f"bias_l{index}", nn.Parameter(torch.empty(axes, 4 * hidden)))
        forget = torch.zeros(4 * hidden)
        forget[hidden : 2 * hidden] = forget_bias
        self.register_buffer("forget", forget, persistent=False)

    def weights(self) -> list[LSTMLayer]:
        """Weights as the LSTM ops take them, the forget bias added."""
        return [
            LSTMLayer(
                self.get_parameter(f"weight_ih_l{index}"),
                self.get_parameter(f"weight_hh_l{index}"),
                self.get_parameter(f"bias_l{index}") + self.forget,
            )
            for index in range(self.layers)
        ]


class SGELA(nn.Module):
    """Gait encoder, attention and gait decoder of all axes (section 3 of the paper).

    Weights are left uninitialised; :func:`sgela_fast.models.sgela.build_model` initialises them.

    Args:
        config: what the model is.
    """

    key_weight: nn.Parameter | None
    fusion_weight: nn.Parameter | None
    output_bias: nn.Parameter | None

    def __init__(self, config: SGELAConfig) -> None:
        super().__init__()
        self.config = config
        axes, joints, hidden = config.axes, config.joints, config.hidden
        attends = config.attention != "none"
        fed = joints + (hidden if attends else 0)
        self.encoder = StackedLSTM(axes, joints, hidden, config.layers, config.forget_bias)
        self.decoder = StackedLSTM(axes, fed, hidden, config.layers, config.forget_bias)
        general = attends and config.score == "general"
        self.key_weight = nn.Parameter(torch.empty(axes, hidden, hidden)) if general else None
        self.fusion_weight = nn.Parameter(torch.empty(axes, hidden, 2 * hidden)) if attends else None
        self.output_weight = nn.Parameter(torch.empty(axes, joints, hidden))
        self.output_bias = nn.Parameter(torch.empty(axes, joints)) if config.output_bias else None

    def forward(self, skeletons: Tensor, decoder_input: DecoderInput | None = None) -> SGELAOutput:
        """Encode and reconstruct windows.

        Args:
            skeletons: one coordinate of all joints per axis model, ``(A, B, T, J)``.
            decoder_input: what the decoder reads; the configuration's training choice if ``None``.

        Raises:
            ValueError: the windows do not have the configuration's axes and joints.
        """
        self.check_windows(skeletons)
        chosen = decoder_input or self.config.decoder_input
        assert chosen is not None  # filled in by the variant
        target = skeletons.flip(2) if self.config.reverse else skeletons
        encoded, state = self.encode(skeletons)
        decoded = self.decode(encoded, state, target, chosen)
        return SGELAOutput(
            reconstruction=decoded.reconstruction,
            target=target,
            encoded=encoded,
            encoder_state=state,
            context=decoded.context,
            alignment=decoded.alignment,
            alignment_loss=decoded.loss,
            attentional=decoded.attentional,
            decoder_h=decoded.h,
            decoder_c=decoded.c,
        )

    def check_windows(self, skeletons: Tensor) -> None:
        """Raise ValueError unless ``skeletons (A, B, T, J)`` have the configuration's axes and joints."""
        config = self.config
        if skeletons.ndim != 4 or skeletons.shape[0] != config.axes or skeletons.shape[3] != config.joints:
            raise ValueError(
                f"skeletons have the shape {tuple(skeletons.shape)} but the model reads "
                f"(axes {config.axes}, windows, frames, joints {config.joints})"
            )

    def encode(self, skeletons: Tensor) -> tuple[Tensor, LSTMState]:
        """Encoded gait states ``(A, B, T, K)`` (Eq. 1) of ``(A, B, T, J)``, and the final state of all layers."""
        return batched_lstm(skeletons, self.encoder.weights())

    def decode(self, encoded: Tensor, state: LSTMState, target: Tensor, decoder_input: DecoderInput) -> DecoderOutput:
        """Rebuild ``target (A, B, T, J)`` from the encoded gait states (Eq. 2 and 4 to 10)."""
        return attention_decoder(
            encoded,
            state,
            self.decoder_weights(),
            teacher=target if decoder_input == "teacher" else None,
            feedback=decoder_input == "feedback",
            **self.decoder_settings(target.shape[2]),
        )

    def decoder_weights(self) -> DecoderWeights:
        """Weights as the decoder ops take them, the forget bias added."""
        return DecoderWeights(
            self.decoder.weights(), self.key_weight, self.fusion_weight, self.output_weight, self.output_bias
        )

    def decoder_settings(self, steps: int) -> DecoderSettings:
        """What the configuration says of the decoder, but for what it reads."""
        config = self.config
        return {
            "steps": steps,
            "mode": None if config.attention == "none" else config.attention,
            "centers": "reverse" if config.reverse else "identity",
            "sigma": config.sigma,
            "window": float(config.window),
            "fusion": config.fusion or "linear",
        }

    def loss(self, output: SGELAOutput) -> Losses:
        """The training objective of ``output`` (Eq. 12)."""
        config = self.config
        return sgela_loss(
            output.reconstruction,
            output.target,
            output.alignment_loss,
            self.parameters(),
            lambda_reconstruction=config.lambda_reconstruction,
            lambda_attention=config.lambda_attention,
            beta=config.beta,
            factor=config.loss_factor or 1.0,
        )

    def ages(self, windows: Tensor) -> Tensor:
        """Attention-based gait encodings of windows (Eq. 11).

        Args:
            windows: centred skeletons ``(B, T, J, A)``, metres.

        Returns:
            ``(B, T, A * K)``: for each step [c^X; c^Y; c^Z].

        Raises:
            ValueError: the windows do not have the configuration's axes and joints, or the model has no attention.
        """
        self.require_attention()
        context = self(windows.movedim(-1, 0), self.config.encoding_input).context  # (A, B, T, K)
        assert context is not None
        return side_by_side(context)

    def states(self, windows: Tensor) -> Tensor:
        """Encoded gait states of windows (Eq. 1), which need no decoder.

        Args:
            windows: centred skeletons ``(B, T, J, A)``, metres.

        Returns:
            ``(B, T, A * K)``: for each frame [h^X; h^Y; h^Z] of the encoder's top layer.

        Raises:
            ValueError: the windows do not have the configuration's axes and joints.
        """
        skeletons = windows.movedim(-1, 0)  # (A, B, T, J)
        self.check_windows(skeletons)
        return side_by_side(self.encode(skeletons)[0])

    def require_attention(self) -> None:
        """Raise ValueError for a model without attention, which has no context vectors."""
        if self.config.attention == "none":
            raise ValueError("a model with attention 'none' has no AGEs; take its encoded gait states, states(windows)")


def side_by_side(features: Tensor) -> Tensor:
    """Features of all axes ``(A, B, T, K)`` as one row for each frame, ``(B, T, A * K)`` (Eq. 11)."""
    return features.movedim(0, 2).flatten(2)
