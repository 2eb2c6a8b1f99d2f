"""Gated temporal pooling: the micro-motion templates of GaitPart and SelfGait, and the maximum over time.

A strip is a horizontal slice of a silhouette's feature map; each has weights of its own. For one strip, with its frames
x (T, C), every gate g has a window w_g and two convolutions over time, both padded with zeros to keep T frames:

    template_g = mean over w_g frames (pads count as zeros) + maximum over w_g frames (pads are ignored)
    gate_g     = sigmoid(conv2_g(act(conv1_g(x))))
    out        = sum over g of template_g * gate_g

followed by the maximum over time. SelfGait's two gates: w = 3 with kernels 3 and 1, w = 5 with kernels 3 and 3, biases,
act = ReLU. GaitPart's differ in having no biases and act = leaky ReLU with slope 0.01.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

Reduction = Literal["max", "none"]


class GateWeights(NamedTuple):
    """Weights of one gate of all S strips, each as in ``torch.nn.Conv1d`` behind a dimension of strips.

    Attributes:
        conv1_weight: ``(S, H, C, K1)``, K1 odd.
        conv1_bias: ``(S, H)`` or ``None``.
        conv2_weight: ``(S, C, H, K2)``, K2 odd.
        conv2_bias: ``(S, C)`` or ``None``.
    """

    conv1_weight: Tensor
    conv1_bias: Tensor | None
    conv2_weight: Tensor
    conv2_bias: Tensor | None


def convolve_strips(frames: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``frames (N, S * I, T)`` convolved over time, each strip with its own ``weight (S, O, I, K)``: (N, S * O, T)."""
    strips, _, _, size = weight.shape
    flat_bias = None if bias is None else bias.flatten()
    return nn.functional.conv1d(frames, weight.flatten(0, 1), flat_bias, padding=size // 2, groups=strips)


def gated_temporal_pooling(
    features: Tensor,
    weights: Sequence[GateWeights],
    *,
    windows: Sequence[int] = (3, 5),
    negative_slope: float = 0.0,
    reduce: Reduction = "max",
    lengths: Tensor | None = None,
) -> Tensor:
    """Templates of short motions, gated by what the strip shows, and their maximum over time.

    Args:
        features: ``(S, N, T, C)``.
        weights: of one gate a window.
        windows: frames of each gate's template, odd.
        negative_slope: of the activation between the convolutions, 0 or more; 0 is ReLU.
        reduce: ``max`` over time or ``none``.
        lengths: ``(N,)`` frames of each sequence, all T if ``None``. Frames behind a sequence's end are pads for the
            convolutions and windows, and no candidates for the maximum; their values are ignored.

    Returns:
        ``(S, N, C)`` for ``max``, zeros for a sequence without frames; ``(S, N, T, C)`` for ``none``, zeros behind a
        sequence's end. Among equal maxima the first takes the gradient, of a window as of the sequence.
    """
    strips, count, frames, channels = features.shape
    x = features.permute(1, 0, 3, 2).flatten(1, 2)  # (N, S * C, T)
    if lengths is None:
        behind = x.new_zeros(count, 1, frames, dtype=torch.bool)
    else:
        behind = torch.arange(frames, device=x.device) >= lengths[:, None, None]  # (N, 1, T)
        x = x.masked_fill(behind, 0)
    candidates = x.masked_fill(behind, torch.finfo(x.dtype).min)  # finite: multiplied by gates that are dropped

    out = torch.zeros_like(x)
    for gate, window in zip(weights, windows, strict=True):
        hidden = convolve_strips(x, gate.conv1_weight, gate.conv1_bias)  # (N, S * H, T)
        hidden = nn.functional.leaky_relu(hidden, negative_slope) if negative_slope else nn.functional.relu(hidden)
        hidden = hidden.masked_fill(behind, 0)
        logits = convolve_strips(hidden, gate.conv2_weight, gate.conv2_bias)  # (N, S * C, T)
        template = nn.functional.avg_pool1d(x, window, stride=1, padding=window // 2)
        template = template + nn.functional.max_pool1d(candidates, window, stride=1, padding=window // 2)
        out = out + template * torch.sigmoid(logits)

    out = out.unflatten(1, (strips, channels)).transpose(0, 1)  # (S, N, C, T)
    if reduce == "none":
        return out.masked_fill(behind, 0).transpose(2, 3)  # (S, N, T, C)
    pooled = out.masked_fill(behind, -torch.inf).max(dim=-1).values  # (S, N, C)
    return pooled if lengths is None else pooled.masked_fill(lengths[:, None] < 1, 0)


class MicroMotionTemplate(nn.Module):
    """One strip as plain modules, written as GaitPart and SelfGait write theirs; the maximum over time is not in it.

    Parameters are ``gates.{g}.0`` and ``gates.{g}.2``, the two ``torch.nn.Conv1d`` of gate g.

    Args:
        channels: of the features, C.
        hidden: channels between the convolutions, H.
        windows: frames of each gate's template, odd.
        kernel_sizes: of each gate's two convolutions, odd.
        bias: whether the convolutions have biases.
        negative_slope: of the activation between them; 0 is ReLU.
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        *,
        windows: Sequence[int] = (3, 5),
        kernel_sizes: Sequence[tuple[int, int]] = ((3, 1), (3, 3)),
        bias: bool = True,
        negative_slope: float = 0.0,
    ) -> None:
        super().__init__()
        self.channels, self.hidden, self.windows = channels, hidden, tuple(windows)
        self.kernel_sizes, self.bias, self.negative_slope = tuple(kernel_sizes), bias, negative_slope
        self.gates, self.means, self.maxima = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for window, (first, second) in zip(windows, kernel_sizes, strict=True):
            activation = nn.LeakyReLU(negative_slope) if negative_slope else nn.ReLU()
            conv1 = nn.Conv1d(channels, hidden, first, padding=first // 2, bias=bias)
            conv2 = nn.Conv1d(hidden, channels, second, padding=second // 2, bias=bias)
            self.gates.append(nn.Sequential(conv1, activation, conv2))
            self.means.append(nn.AvgPool1d(window, stride=1, padding=window // 2))
            self.maxima.append(nn.MaxPool1d(window, stride=1, padding=window // 2))

    def forward(self, frames: Tensor) -> Tensor:
        """``frames (N, C, T)`` to gated templates of the same shape."""
        out = torch.zeros_like(frames)
        for gate, mean, maximum in zip(self.gates, self.means, self.maxima, strict=True):
            out = out + (mean(frames) + maximum(frames)) * torch.sigmoid(gate(frames))
        return out
