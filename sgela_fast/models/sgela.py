"""The SGE-LA model on its backends: plain PyTorch, or the fused ops under the same state dict."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor

from sgela_fast.errors import ConfigError
from sgela_fast.models.backend import BackendChoice, choose_backend, float32_products
from sgela_fast.models.config import Backend, DecoderInput, Feature, Precision, SGELAConfig
from sgela_fast.models.initialisation import initialise
from sgela_fast.ops._library import autocast, autocasts
from sgela_fast.ops.attention_decoder import PackedDecoder, attention_decoder, pack_decoder_weights, why_not_fused
from sgela_fast.ops.batched_lstm import PackedLSTM, batched_lstm, pack_lstm_weights
from sgela_fast.reference import sgela as reference
from sgela_fast.reference.attention_decoder import DecoderOutput, DecoderWeights
from sgela_fast.reference.batched_lstm import LSTMLayer, LSTMState

__all__ = ["SGELA", "Backend", "BackendChoice", "FusedSGELA", "build_model", "choose_backend"]

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
# What the ops call the precision of packed weights.
_STORAGE: dict[Precision, Literal["full", "bfloat16", "int8"]] = {"fp32": "full", "bf16": "bfloat16", "int8": "int8"}


class SGELA(reference.SGELA):
    """The model in plain PyTorch at a chosen precision.

    * ``fp32``: products in the weights' dtype, exact on every device (TF32 off).
    * ``tf32``: float32 products by TF32, inside the model's calls and :meth:`arithmetic` alone.
    * ``bf16``, ``fp16``: products under autocast; the weights stay as they are.
    * ``int8``: encoding by the fused backend alone.

    Args:
        config: what the model is.
        choice: which backend this is, and why.
        precision: of the arithmetic.
    """

    def __init__(
        self,
        config: SGELAConfig,
        choice: BackendChoice = BackendChoice("reference", "as asked for"),  # noqa: B008
        precision: Precision = "fp32",
    ) -> None:
        super().__init__(config)
        self.choice = choice
        self.precision: Precision = precision
        self._frozen = False

    def arithmetic(self) -> AbstractContextManager[None]:
        """Inside, float32 products are made as the model's calls make them; for what follows, as the backward pass."""
        return float32_products(self.precision, self.output_weight.device.type)

    def forward(self, skeletons: Tensor, decoder_input: DecoderInput | None = None) -> reference.SGELAOutput:
        """Encode and reconstruct windows; arguments, results and errors as for the reference.

        Raises:
            ConfigError: the precision is int8, which only :meth:`ages` and :meth:`states` have.
        """
        if self.precision == "int8":
            raise ConfigError("precision int8 is for encoding alone; build the model with fp32 or bf16 to train it")
        with self._at_precision(skeletons.device.type):
            return super().forward(skeletons, decoder_input)

    def states(self, windows: Tensor) -> Tensor:
        """Encoded gait states; arguments, results and errors as for the reference."""
        with self._at_precision(windows.device.type):
            return super().states(windows)

    def encodings(self, windows: Tensor, feature: Feature) -> Tensor:
        """:meth:`ages` or :meth:`states` of windows, as ``feature`` says."""
        return self.states(windows) if feature == "states" else self.ages(windows)

    def _at_precision(self, device: str) -> AbstractContextManager[Any]:
        dtype = _AUTOCAST.get(self.precision)
        return self.arithmetic() if dtype is None else torch.autocast(device, dtype)

    def freeze(self) -> Self:
        """Get ready for encoding: weights take no gradients any more, and the fused backend packs them once.

        :meth:`ages` then neither looks for changed weights nor packs them. Loading a state dict and moving the model
        pack them anew; after any other change :meth:`ages` raises until ``freeze()`` is called again (writes that
        torch does not count, through ``.data`` or NumPy, are not noticed).
        """
        self.requires_grad_(False)
        self._frozen = True
        return self

    def unfreeze(self) -> Self:
        """Undo :meth:`freeze`: weights may change and take gradients again."""
        self._frozen = False
        self.requires_grad_(True)
        return self

    @property
    def frozen(self) -> bool:
        """Whether :meth:`freeze` was called last."""
        return self._frozen


class _Packed(NamedTuple):
    """The weights of a frozen model, and what tells that they have changed since."""

    encoder: PackedLSTM
    decoder: PackedDecoder | None
    versions: list[tuple[Tensor, int]]


class FusedSGELA(SGELA):
    """The model on :func:`batched_lstm` and :func:`attention_decoder`.

    On CUDA devices an op without kernels there is the reference's; ``choice`` says so. Under autocast weights and
    encoded states are rounded to its dtype and all arithmetic is float32.
    """

    _packed: _Packed | None = None

    def encode(self, skeletons: Tensor) -> tuple[Tensor, LSTMState]:
        """As the reference, by the fused op."""
        return batched_lstm(skeletons, self.encoder.weights(), backend="fused")

    def decode(self, encoded: Tensor, state: LSTMState, target: Tensor, decoder_input: DecoderInput) -> DecoderOutput:
        """As the reference, by the fused op."""
        weights = self.decoder_weights()
        device = encoded.device.type
        if autocasts(device):
            exact = self.output_weight.dtype
            weights = _map_weights(lambda tensor: autocast(tensor, device).to(exact), weights)
            encoded, state = encoded.to(exact), LSTMState(state.h.to(exact), state.c.to(exact))
            with torch.autocast(device, enabled=False):
                return self._decode(encoded, state, weights, target, decoder_input)
        return self._decode(encoded, state, weights, target, decoder_input)

    def _decode(
        self,
        encoded: Tensor,
        state: LSTMState,
        weights: DecoderWeights,
        target: Tensor,
        decoder_input: DecoderInput,
    ) -> DecoderOutput:
        return attention_decoder(
            encoded,
            state,
            weights,
            teacher=target if decoder_input == "teacher" else None,
            feedback=decoder_input == "feedback",
            backend=_decoder_backend(encoded),
            **self.decoder_settings(target.shape[2]),
        )

    def ages(self, windows: Tensor) -> Tensor:
        """Attention-based gait encodings of windows (Eq. 11), without what they do not need.

        Args:
            windows: centred skeletons ``(B, T, J, A)``, metres.

        Returns:
            ``(B, T, A * K)``: for each step [c^X; c^Y; c^Z].

        Raises:
            ValueError: the windows do not have the configuration's axes and joints, or the model has no attention.
            RuntimeError: the model is frozen and its weights have changed since.
        """
        self.require_attention()
        if not windows.is_cpu:
            if self.precision in _AUTOCAST:
                return super().ages(windows)
            with self.arithmetic():
                return self._ages(windows, None)
        return self._ages(windows, self._packed_for_encoding())

    def states(self, windows: Tensor) -> Tensor:
        """As the reference, by the fused encoder alone, from the packed weights of a frozen model."""
        if not windows.is_cpu:
            return super().states(windows)
        skeletons = windows.movedim(-1, 0)  # (A, B, T, J)
        self.check_windows(skeletons)
        return reference.side_by_side(self._states(skeletons, self._packed_for_encoding())[0])

    def _states(self, skeletons: Tensor, packed: _Packed | None) -> tuple[Tensor, LSTMState]:
        encoder = self.encoder.weights() if packed is None else packed.encoder
        return batched_lstm(skeletons, encoder, backend="fused")  # (A, B, T, K)

    def _ages(self, windows: Tensor, packed: _Packed | None) -> Tensor:
        skeletons = windows.movedim(-1, 0)  # (A, B, T, J)
        self.check_windows(skeletons)
        chosen = self.config.encoding_input
        encoded, state = self._states(skeletons, packed)
        target = skeletons.flip(2) if self.config.reverse else skeletons
        decoder = self.decoder_weights() if packed is None else packed.decoder
        assert decoder is not None
        context = attention_decoder(
            encoded,
            state,
            decoder,
            teacher=target if chosen == "teacher" else None,
            feedback=chosen == "feedback",
            outputs="context",
            backend=_decoder_backend(encoded),
            **self.decoder_settings(skeletons.shape[2]),
        )
        return reference.side_by_side(context)

    def freeze(self) -> Self:
        """As the base class; packs the weights at the model's precision."""
        self._packed = self._pack()
        return super().freeze()

    def unfreeze(self) -> Self:
        """As the base class; gives the packed weights back."""
        self._packed = None
        return super().unfreeze()

    def load_state_dict(self, *arguments: Any, **named: Any) -> Any:
        """As ``nn.Module``; a frozen model packs the new weights."""
        result = super().load_state_dict(*arguments, **named)
        self._pack_again()
        return result

    def _apply(self, *arguments: Any, **named: Any) -> Self:
        super()._apply(*arguments, **named)  # type: ignore[no-untyped-call]
        self._pack_again()
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_packed": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._pack_again()

    def _pack_again(self) -> None:
        if self._frozen:
            self._packed = self._pack()

    @torch.no_grad()
    def _pack(self) -> _Packed | None:
        device = self.output_weight.device.type
        if device != "cpu" or self.precision not in _STORAGE:
            return None
        storage = _STORAGE[self.precision]
        feedback = self.config.encoding_input == "feedback"
        decoder = None
        if self.config.attention != "none":
            decoder = pack_decoder_weights(self.decoder_weights(), feedback=feedback, precision=storage)
        return _Packed(
            pack_lstm_weights(self.encoder.weights(), precision=storage),
            decoder,
            [(parameter, parameter._version) for parameter in self.parameters() if not parameter.is_inference()],
        )

    def _packed_for_encoding(self) -> _Packed | None:
        """What encoding on the CPU takes in place of the parameters: always, where they are rounded."""
        packed = self._current()
        return self._pack() if packed is None and self.precision in ("bf16", "int8") else packed

    def _current(self) -> _Packed | None:
        """The packed weights of a frozen model."""
        packed = self._packed
        if packed is not None and any([parameter._version != version for parameter, version in packed.versions]):  # noqa: C419
            raise RuntimeError("the weights of a frozen model have changed; call freeze() again to encode with them")
        return packed


def _decoder_backend(encoded: Tensor) -> Backend:
    """``fused``, or the reference where there is no kernel, as the choice's reason says; on CUDA also for gradients."""
    learns = encoded.is_cuda and torch.is_grad_enabled()
    return "reference" if learns or why_not_fused(encoded.device.type, encoded.dtype) else "fused"


def _map_weights(function: Callable[[Tensor], Tensor], weights: DecoderWeights) -> DecoderWeights:
    key, fusion, output, output_bias = (None if tensor is None else function(tensor) for tensor in weights[1:])
    assert output is not None
    layers = [LSTMLayer(*map(function, layer)) for layer in weights.layers]
    return DecoderWeights(layers, key, fusion, output, output_bias)


def build_model(
    config: SGELAConfig,
    backend: Backend = "auto",
    precision: Precision = "fp32",
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> SGELA:
    """Build a model with fresh weights.

    Args:
        config: what the model is.
        backend: ``reference`` is plain PyTorch, ``fused`` the compiled ops, ``auto`` the faster one that is proven on
            the device; ``model.choice`` says which it is and why.
        precision: of the arithmetic; ``int8`` is for encoding alone.
        seed: the weights are a function of it alone, whatever the backend.
        dtype: of weights and arithmetic.
        device: where the weights live.

    Raises:
        ConfigError: backend or precision cannot run on the device.
    """
    choice = choose_backend(backend, device, precision)
    if precision != "fp32" and dtype != torch.float32:
        raise ConfigError(f"precision {precision} is for float32 weights and dtype is {dtype}; choose fp32")
    model = (FusedSGELA if choice.name == "fused" else SGELA)(config, choice, precision)
    initialise(model, seed)
    return model.to(device=device, dtype=dtype)
