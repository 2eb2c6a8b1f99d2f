"""The SelfGait model in plain PyTorch: silhouettes of a walk to one embedding for each horizontal strip of the body.

Tensors of strips carry the strips first, so that each strip's own weights are a batched product. The fused model has
the same state dict. Symbols: S strips, N clips, T frames, C channels, E features of an embedding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from sgela_fast.reference.gated_temporal_pooling import GateWeights, gated_temporal_pooling
from sgela_fast.reference.horizontal_pyramid_pooling import horizontal_pyramid_pooling

if TYPE_CHECKING:
    from sgela_fast.models.selfgait_config import SelfGaitConfig

SLOPE = 0.01  # of the frame network's leaky ReLU below zero
WINDOWS = (3, 5)  # frames of the micro-motion templates
KERNELS = ((3, 1), (3, 3))  # of each template's two convolutions over time


class SelfGaitOutput(NamedTuple):
    """One pass of two views of the same clips.

    Attributes:
        predictions: what the online network predicts from each view, two of ``(S, N, E)``.
        targets: what the target network makes of the other view, without gradients, two of ``(S, N, E)``.
        embeddings: of the online network for each view, before the projector, two of ``(S, N, E)``.
    """

    predictions: tuple[Tensor, Tensor]
    targets: tuple[Tensor, Tensor]
    embeddings: tuple[Tensor, Tensor]


class FrameNetwork(nn.Module):
    """Convolutions on single frames, ``(frames, 1, H, W)`` to ``(frames, C, H', W')``; no biases, no normalisation.

    The first convolution is 5 x 5, all others 3 x 3; two stand in a stage, and stages are halved in between.
    """

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        stages = []
        for number, (inputs, outputs) in enumerate(zip((1, *channels[:-1]), channels, strict=True)):
            size = 5 if number == 0 else 3
            stages.append(
                nn.ModuleList(
                    [
                        nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False),
                        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
                    ]
                )
            )
        self.stages = nn.ModuleList(stages)

    def forward(self, frames: Tensor) -> Tensor:
        """Feature maps of ``frames (frames, 1, H, W)``."""
        for number, stage in enumerate(self.stages):
            if number > 0:
                frames = nn.functional.max_pool2d(frames, 2)
            assert isinstance(stage, nn.ModuleList)
            for convolution in stage:
                frames = nn.functional.leaky_relu(convolution(frames), SLOPE)
        return frames


class TemporalGates(nn.Module):
    """Gate networks of the micro-motion templates: two convolutions over time for each template and strip.

    ``conv1_weight_{g} (S, C / 4, C, K)``, ``conv1_bias_{g} (S, C / 4)``, ``conv2_weight_{g} (S, C, C / 4, K)`` and
    ``conv2_bias_{g} (S, C)``.
    """

    def __init__(self, strips: int, channels: int) -> None:
        super().__init__()
        hidden = channels // 4
        for gate, (first, second) in enumerate(KERNELS):
            shapes = ((strips, hidden, channels, first), (strips, hidden), (strips, channels, hidden, second))
            for name, shape in zip(GateWeights._fields, (*shapes, (strips, channels)), strict=True):
                self.register_parameter(f"{name}_{gate}", nn.Parameter(torch.empty(shape)))

    def weights(self) -> list[GateWeights]:
        """Weights as the ops take them."""
        return [
            GateWeights(*(self.get_parameter(f"{name}_{gate}") for name in GateWeights._fields))
            for gate in range(len(KERNELS))
        ]


class Perceptron(nn.Module):
    """Linear, batch normalisation, ReLU, linear: projector and predictor, their matrices shared by all strips.

    Statistics are taken over all strips of all clips, as a convolution of width one over ``(N, E, S)`` has them, or
    over the clips of each strip by itself.

    Args:
        config: sizes, and which statistics.
    """

    def __init__(self, config: SelfGaitConfig) -> None:
        super().__init__()
        self.by_strip = config.norm == "strip"
        self.hidden = nn.Linear(config.embedding, config.projector)
        self.norm = nn.BatchNorm1d(config.projector * (config.strips if self.by_strip else 1))
        self.output = nn.Linear(config.projector, config.embedding)

    def forward(self, strips: Tensor, keep_statistics: bool = False) -> Tensor:
        """``(S, N, E)`` to the same shape.

        Args:
            strips: the input.
            keep_statistics: in training, normalise by the batch but leave the running statistics as they are.
        """
        hidden = self.hidden(strips)  # (S, N, hidden)
        # (N, S * hidden) or (S * N, hidden)
        rows = hidden.transpose(0, 1).flatten(1) if self.by_strip else hidden.flatten(0, 1)
        if keep_statistics and self.training:
            norm = self.norm
            rows = nn.functional.batch_norm(rows, None, None, norm.weight, norm.bias, training=True, eps=norm.eps)
        else:
            rows = self.norm(rows)
        if self.by_strip:
            rows = rows.unflatten(1, (len(strips), -1)).transpose(0, 1)
        return self.output(torch.relu(rows).reshape(hidden.shape))


class Embedder(nn.Module):
    """Frame network, pooling over time, and one matrix ``(C, E)`` for each strip.

    Args:
        config: sizes.
        gated: pool time by the gate networks; else by the plain maximum, as the target network does.
    """

    gates: TemporalGates | None

    def __init__(self, config: SelfGaitConfig, *, gated: bool) -> None:
        super().__init__()
        channels = config.channels[-1]
        self.frames = FrameNetwork(config.channels)
        self.gates = TemporalGates(config.strips, channels) if gated else None
        self.strip_weight = nn.Parameter(torch.empty(config.strips, channels, config.embedding))


class Head(nn.Module):
    """What stands on an embedder: the projector, and for the online network the predictor."""

    predictor: Perceptron | None

    def __init__(self, config: SelfGaitConfig, *, predicts: bool) -> None:
        super().__init__()
        self.projector = Perceptron(config)
        self.predictor = Perceptron(config) if predicts else None


class SelfGait(nn.Module):
    """Online and target network of self-supervised gait embeddings.

    Weights are left as torch makes them; :func:`sgela_fast.models.selfgait.build_selfgait` initialises them and makes
    the target a copy of the online network. The target's weights take no gradients.

    Args:
        config: what the model is.
    """

    def __init__(self, config: SelfGaitConfig) -> None:
        super().__init__()
        self.config = config
        self.online = Embedder(config, gated=True)
        self.online_head = Head(config, predicts=True)
        self.target = Embedder(config, gated=False).requires_grad_(False)
        self.target_head = Head(config, predicts=False).requires_grad_(False)

    def forward(self, first: Tensor, second: Tensor) -> SelfGaitOutput:
        """Predict each view's target from the other view.

        Args:
            first: one view of N clips, ``(N, T, H, W)`` in [0, 1].
            second: the other view of the same clips.

        Raises:
            ValueError: the clips do not have the configuration's size, or in training not its number of frames.
        """
        views = (first, second)
        for view in views:
            self.check_clips(view, exact=True)
        embeddings = [self.embed(self.seen(view)) for view in views]
        predictions = [self.predict(embedding) for embedding in embeddings]
        targets = [self.aim(self.aimed_at(view)) for view in views]
        return SelfGaitOutput(
            (predictions[0], predictions[1]), (targets[1], targets[0]), (embeddings[0], embeddings[1])
        )

    def seen(self, view: Tensor) -> Tensor:
        """Frames of ``view (N, T, H, W)`` that the online network is shown."""
        if self.config.objective == "future":
            return view[:, :-1]
        return view[:, -2:-1] if self.config.objective == "aliased" else view

    def aimed_at(self, view: Tensor) -> Tensor:
        """Frames of ``view (N, T, H, W)`` that the target network is shown."""
        return view[:, -1:] if self.config.objective == "future" else self.seen(view)

    def embed(self, clips: Tensor) -> Tensor:
        """Embeddings ``(S, N, E)`` of silhouettes ``(N, T, H, W)`` by the online network; any number of frames T >= 1.

        This is what sequences are compared by: distances of single strips, averaged.
        """
        return self._branch(self.online, clips)

    def predict(self, embeddings: Tensor) -> Tensor:
        """Projection and prediction of the online network, ``(S, N, E)`` both."""
        head = self.online_head
        assert head.predictor is not None
        return head.predictor(head.projector(embeddings))

    @torch.no_grad()
    def aim(self, clips: Tensor) -> Tensor:
        """Projections ``(S, N, E)`` of the target network for ``(N, T, H, W)``, without gradients."""
        keep = self.config.buffers == "average"
        return self.target_head.projector(self._branch(self.target, clips), keep)

    def loss(self, output: SelfGaitOutput) -> Tensor:
        """The objective: mean over clips and strips (or features) of factor * (1 - cosine), summed over the views."""
        axis = -1 if self.config.cosine == "features" else 0
        terms = [
            (1 - nn.functional.cosine_similarity(prediction, target, dim=axis)).mean()
            for prediction, target in zip(output.predictions, output.targets, strict=True)
        ]
        factor = self.config.loss_factor
        assert factor is not None  # filled in by the variant
        return factor * torch.stack(terms).sum()

    @torch.no_grad()
    def update_target(self) -> None:
        """Move the target's weights a step towards the online network's, if so configured its statistics, too."""
        share = 1 - self.config.momentum
        for target, online in self.followed():
            target.lerp_(online, share)

    def copy_target(self) -> None:
        """Make the target network a copy of the online network."""
        with torch.no_grad():
            for target, online in self.followed(start=True):
                target.copy_(online)

    def followed(self, *, start: bool = False) -> list[tuple[Tensor, Tensor]]:
        """Tensors of the target network beside those of the online network that they follow.

        Args:
            start: all of them, as at the start of training; else those of the moving average.
        """
        pairs: list[tuple[Tensor, Tensor]] = []
        statistics = start or self.config.buffers == "average"
        for target, online in ((self.target, self.online), (self.target_head, self.online_head)):
            parameters, buffers = dict(online.named_parameters()), dict(online.named_buffers())
            pairs += [(value, parameters[name]) for name, value in target.named_parameters()]
            pairs += [
                (value, buffers[name])
                for name, value in target.named_buffers()
                if statistics and (start or value.is_floating_point())
            ]
        return pairs

    def check_clips(self, clips: Tensor, *, exact: bool = False) -> None:
        """Raise ValueError unless ``clips (N, T, H, W)`` have the configuration's size, and if ``exact`` its frames."""
        config = self.config
        fits = clips.ndim == 4 and tuple(clips.shape[2:]) == (config.height, config.width) and clips.shape[1] > 0
        if not fits or (exact and clips.shape[1] != config.frames):
            frames = config.frames if exact else "frames"
            raise ValueError(
                f"silhouettes have the shape {tuple(clips.shape)} but the model reads (clips, {frames}, "
                f"{config.height}, {config.width})"
            )

    def _branch(self, embedder: Embedder, clips: Tensor) -> Tensor:
        self.check_clips(clips)
        count, frames = clips.shape[:2]
        maps = self.map_frames(clips.flatten(0, 1).unsqueeze(1), embedder.frames)  # (N * T, C, H', W')
        strips = self.pool_strips(maps.unflatten(0, (count, frames)))  # (S, N, T, C)
        pooled = strips.amax(dim=2) if embedder.gates is None else self.pool_time(strips, embedder.gates)  # (S, N, C)
        return torch.bmm(pooled, embedder.strip_weight)  # (S, N, E)

    def map_frames(self, frames: Tensor, network: FrameNetwork) -> Tensor:
        """Feature maps ``(frames, C, H', W')`` of ``frames (frames, 1, H, W)``."""
        maps: Tensor = network(frames)
        return maps

    def pool_strips(self, maps: Tensor) -> Tensor:
        """Strips ``(S, N, T, C)`` of feature maps ``(N, T, C, H', W')``."""
        return horizontal_pyramid_pooling(maps, self.config.bins, strips_first=True)

    def pool_time(self, strips: Tensor, gates: TemporalGates) -> Tensor:
        """``(S, N, C)`` of strips ``(S, N, T, C)``."""
        return gated_temporal_pooling(strips, gates.weights(), windows=WINDOWS)
