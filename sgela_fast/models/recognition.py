"""The recognition network: a small classifier of persons on frozen gait encodings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sgela_fast.errors import CheckpointError, ConfigError

Initial = Literal["official", "scaled"]

# Ours first, then the names under which the released code's checkpoints and our golden files keep them.
_TF_NAMES = {
    "hidden_weight": ("W1",),
    "hidden_bias": ("b1",),
    "output_weight": ("W", "W2"),
    "output_bias": ("Variable", "b2"),
}


class WindowClassifier(nn.Module):
    """What the recognition protocol trains: ``forward`` gives logits ``(N, C)`` of feature rows ``(N, width)``."""

    @torch.no_grad()
    def window_logits(self, windows: Tensor) -> Tensor:
        """Mean over a window's rows of their logits, taken before any softmax.

        Args:
            windows: ``(B, T, width)``; T is 1 for features that stand for a whole window.

        Returns:
            ``(B, C)``.
        """
        count, frames, width = windows.shape
        logits: Tensor = self(windows.reshape(count * frames, width))
        return logits.view(count, frames, -1).mean(dim=1)


class RecognitionNetwork(WindowClassifier):
    """One hidden layer: ``logits = relu(X W1 + b1) W2 + b2``.

    The weights keep the released code's orientation, inputs along the first axis.

    Args:
        width: features of a row (768 for one frame's AGE, 6 x 768 for a concatenated window).
        persons: classes, C.
        hidden: hidden units.

    Raises:
        ConfigError: a size is below 1.
    """

    def __init__(self, width: int, persons: int, hidden: int = 256) -> None:
        super().__init__()
        for name, size in (("width", width), ("persons", persons), ("hidden", hidden)):
            if size < 1:
                raise ConfigError(f"{name} of the recognition network is {size}; it must be at least 1")
        self.width, self.persons, self.hidden = width, persons, hidden
        self.hidden_weight = nn.Parameter(torch.zeros(width, hidden))
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))
        self.output_weight = nn.Parameter(torch.zeros(hidden, persons))
        self.output_bias = nn.Parameter(torch.zeros(persons))

    def forward(self, rows: Tensor) -> Tensor:
        """Logits ``(N, C)`` of feature rows ``(N, width)``."""
        hidden = torch.relu(torch.addmm(self.hidden_bias, rows, self.hidden_weight))  # (N, hidden)
        return torch.addmm(self.output_bias, hidden, self.output_weight)  # (N, C)


@torch.no_grad()
def initialise_recognition(network: RecognitionNetwork, initial: Initial = "official", seed: int = 0) -> None:
    """Fill ``network`` with fresh weights, a function of ``seed`` alone; biases are zero.

    Args:
        network: changed in place.
        initial: ``official`` draws weights from a standard normal, unscaled, as the released code does; ``scaled``
            divides the deviation by sqrt(inputs / 2) (He et al., 2015).
        seed: of the generator.

    Raises:
        ConfigError: ``initial`` is unknown.
    """
    if initial not in ("official", "scaled"):
        raise ConfigError(f"initial weights {initial!r} are unknown; choose official or scaled")
    generator = torch.Generator().manual_seed(seed)
    for weight in (network.hidden_weight, network.output_weight):
        deviation = 1.0 if initial == "official" else math.sqrt(2 / weight.shape[0])
        # Drawn on the CPU in float32, so that the numbers do not depend on where the network lives.
        weight.copy_(torch.randn(weight.shape, generator=generator, dtype=torch.float32) * deviation)
    network.hidden_bias.zero_()
    network.output_bias.zero_()


def recognition_from_tf(tensors: Mapping[str, Any]) -> RecognitionNetwork:
    """Build the network out of tensors of the released code's checkpoints.

    Args:
        tensors: arrays by name: ``W1``, ``b1``, ``W`` and ``Variable`` (or ``W2`` and ``b2``). Others, such as the
            optimiser's, are ignored.

    Raises:
        CheckpointError: one is missing or their shapes do not fit together.
    """
    found: dict[str, Tensor] = {}
    for ours, names in _TF_NAMES.items():
        name = next((name for name in names if name in tensors), None)
        if name is None:
            have = ", ".join(sorted(map(str, tensors))) or "none"
            raise CheckpointError(
                f"the recognition network lacks the tensor {' or '.join(names)} (tensors found: {have}); "
                "give a checkpoint that holds W1, b1, W and Variable"
            )
        found[ours] = torch.as_tensor(tensors[name])
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    width_hidden, hidden_persons = shapes["hidden_weight"], shapes["output_weight"]
    if len(width_hidden) != 2 or len(hidden_persons) != 2:
        raise CheckpointError(f"W1 {width_hidden} and W {hidden_persons} must have two axes; give another checkpoint")
    network = RecognitionNetwork(width_hidden[0], hidden_persons[1], width_hidden[1])
    expected = {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
    if shapes != expected:
        raise CheckpointError(
            f"the recognition network's tensors do not fit together: they have {shapes} where W1 asks for {expected}; "
            "give tensors of one checkpoint"
        )
    network.load_state_dict({name: tensor.float() for name, tensor in found.items()})
    return network
