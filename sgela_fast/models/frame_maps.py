"""Feature maps of silhouettes on the CPU: the frame network's convolutions, in the order of memory that suits them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, leaky_relu_, max_pool2d, pad

from sgela_fast.reference.selfgait import SLOPE, FrameNetwork


def suits(frames: Tensor) -> bool:
    """Whether :func:`frame_maps` is for such frames: on the CPU, where oneDNN computes the convolutions.

    In float64 torch's own convolution computes them, which gains nothing and refuses such weights backward; off the CPU
    nobody has measured which order of memory is faster.
    """
    return frames.is_cpu and frames.dtype != torch.float64 and torch.backends.mkldnn.is_available()


def frame_maps(frames: Tensor, network: FrameNetwork) -> Tensor:
    """What ``network(frames)`` gives, channels last in memory; differentiable in the frames and the weights.

    The order of memory makes convolutions read and write whole vectors, and maxima of 2 x 2 pixels as fast as memory.
    The leaky ReLU, which rises everywhere, is taken after the maximum: of a quarter of the pixels.

    Args:
        frames: ``(frames, 1, H, W)``, such that they :func:`suit <suits>`.
        network: whose weights are used, in whatever order of memory they are.

    Returns:
        ``(frames, C, H', W')``.
    """
    maps = frames
    for number, stage in enumerate(network.stages):
        assert isinstance(stage, nn.ModuleList)
        first, second = (convolution.weight for convolution in stage if isinstance(convolution, nn.Conv2d))
        if number == 0:
            maps = _convolve_columns(frames, first)  # (frames, C, H, W)
        else:
            maps = _convolve(leaky_relu_(max_pool2d(maps, 2), SLOPE), first)  # (frames, C, H / 2, W / 2)
        maps = _convolve(leaky_relu_(maps, SLOPE), second)
    return leaky_relu_(maps, SLOPE)


def _convolve(maps: Tensor, weight: Tensor) -> Tensor:
    # Maps in channels-last order are answered in that order, whatever the weight's; torch's convolution of very few
    # pixels, which oneDNN leaves to it, has gradients for contiguous weights alone.
    return conv2d(maps, weight.contiguous(), padding=weight.shape[-1] // 2)


def _convolve_columns(frames: Tensor, weight: Tensor) -> Tensor:
    """Convolve ``frames (N, 1, H, W)`` with ``weight (C, 1, K, K)``, the kernel's columns as K input channels.

    With one input channel a library's convolution has nothing to fill its vectors with, and runs at a tenth of its
    rate. K shifted copies of the frames, K x 1 kernels over them: the same products, the same sums.
    """
    size = weight.shape[-1]
    padded = pad(frames.squeeze(1), (size // 2, size // 2))  # (N, H, W + K - 1)
    columns = padded.unfold(2, size, 1).contiguous().permute(0, 3, 1, 2)  # (N, K, H, W), channels last
    kernels = weight.permute(0, 3, 2, 1).contiguous()  # (C, K, K, 1)
    return conv2d(columns, kernels, padding=(size // 2, 0))
