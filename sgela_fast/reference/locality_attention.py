"""Luong attention with a Gaussian locality mask and its alignment loss (section 3.2 of the paper).

For query row t and key j, with the expected position p_t of row t:

    s_t(j) = scale * q_t . k_j
    a_t(j) = softmax_j s_t(j)                                   basic alignment score, bas     (Eq. 4)
    l_t(j) = exp(-(j - p_t)^2 / (2 sigma^2))                    locality mask                  (Eq. 5)
    ã_t(j) = l_t(j) a_t(j)                                      masked alignment score, mbas   (Eq. 6)
    L_A    = sum_t sum_j (a_t(j) - ã_t(j))^2                    pulls a towards ã, las         (Eq. 7)
    c_t    = sum_j ā_t(j) v_j                                   context vector                 (Eq. 8)
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Mode = Literal["las", "mbas", "bas"]
Centers = Literal["reverse", "identity"]


class LocalityAttention(NamedTuple):
    """Result of :func:`locality_attention`.

    Attributes:
        context: ``(..., Tq, Kv)``.
        loss: L_A of each sequence, ``(...)``; zeros for ``bas`` and ``mbas``.
        alignment: ``(..., Tq, Tk)``, or ``None`` if not asked for.
    """

    context: Tensor
    loss: Tensor
    alignment: Tensor | None


def mask_exponent(centers: Tensor, keys: int, sigma: float | Tensor, window: float | None = None) -> Tensor:
    """Exponent of the locality mask, -(j - p_t)^2 / (2 sigma^2) (Eq. 5).

    Args:
        centers: expected positions p_t, ``(..., Tq)``.
        keys: number of key positions Tk.
        sigma: width of the Gaussian in positions.
        window: positions further than this from the centre are outside the mask: the exponent is -inf there, so the
            mask is 0 and the loss counts their whole weight. ``None`` for no window.

    Returns:
        ``(..., Tq, Tk)``, at most 0.
    """
    positions = torch.arange(keys, device=centers.device, dtype=centers.dtype)
    offset = positions - centers[..., None]  # (..., Tq, Tk)
    exponent = -(offset**2) / (2 * sigma**2)
    if window is None:
        return exponent
    return exponent.masked_fill(offset.abs() > window, -torch.inf)


def expected_positions(
    centers: Centers | Tensor | None, queries: int, keys: int, first_step: int, like: Tensor
) -> Tensor:
    """The positions p_t: counted from the end (``reverse``, the paper's), from the start, or as given."""
    if isinstance(centers, Tensor):
        return centers.to(like.dtype)
    if centers not in (None, "reverse", "identity"):
        raise ValueError(f"centers is {centers!r}; give reverse, identity or a tensor of positions")
    steps = torch.arange(first_step, first_step + queries, device=like.device, dtype=like.dtype)
    return steps if centers == "identity" else keys - 1 - steps


def locality_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor | None = None,
    *,
    centers: Centers | Tensor | None = "reverse",
    sigma: float | Tensor,
    window: float | None = None,
    scale: float | Tensor = 1.0,
    key_padding_mask: Tensor | None = None,
    first_step: int = 0,
    mode: Mode = "las",
    detach_target: bool = False,
    return_alignment: bool = False,
) -> LocalityAttention:
    """Attend to ``key`` with an alignment that is, or is taught to be, local.

    Args:
        query: ``(..., Tq, K)``.
        key: ``(..., Tk, K)``.
        value: ``(..., Tk, Kv)``; ``None`` means ``key``.
        centers: ``reverse`` (p_t = Tk - 1 - t), ``identity`` (p_t = t) or a tensor ``(..., Tq)``; ``None`` is
            ``reverse``.
        sigma: width of the locality mask, in positions: a number, or a tensor of one, which may require a gradient.
        window: half width outside which the mask is 0; ``None`` for none.
        scale: factor on the scores; the paper has 1. As ``sigma``, a number or a tensor of one.
        key_padding_mask: ``(..., Tk)`` bool, True where a key is padding. Padding takes no weight; a sequence of
            nothing but padding has zeros for context and loss. Padded keys and values must be finite.
        first_step: decoding step of the first query row, for decoding one row at a time.
        mode: ``bas`` (Eq. 4), ``mbas`` (Eq. 6, not renormalised) or ``las`` (context of Eq. 4, loss of Eq. 7).
        detach_target: treat ã as a constant in the loss's gradient. The released code does not.
        return_alignment: return the weights that made the context.

    Returns:
        Context, loss per sequence and, if asked for, the alignment.

    Raises:
        ValueError: ``mode`` or ``centers`` is unknown, or ``sigma`` is not positive.
    """
    if mode not in ("las", "mbas", "bas"):
        raise ValueError(f"mode is {mode!r}; choose las, mbas or bas")
    if not sigma > 0:
        raise ValueError(f"sigma is {sigma}; it must be positive")
    value = key if value is None else value
    scores = scale * query @ key.mT  # (..., Tq, Tk)
    if key_padding_mask is not None:
        # Not -inf: a row of padding alone would come out as 0/0, and poison every gradient.
        scores = scores.masked_fill(key_padding_mask[..., None, :], torch.finfo(scores.dtype).min)
    alignment = scores.softmax(dim=-1)  # Eq. 4
    if key_padding_mask is not None:
        alignment = alignment.masked_fill(key_padding_mask[..., None, :], 0)
    positions = expected_positions(centers, query.shape[-2], key.shape[-2], first_step, scores)
    exponent = mask_exponent(positions, key.shape[-2], sigma, window)  # (..., Tq, Tk)
    loss = scores.new_zeros(scores.shape[:-2])
    if mode == "mbas":
        alignment = alignment * exponent.exp()  # Eq. 6
    elif mode == "las":
        # a - ã = a (1 - l), and 1 - l = -expm1(exponent) keeps its digits where l is close to 1. Eq. 7
        residual = -alignment * torch.expm1(exponent)
        if detach_target:
            residual = residual.detach() + (
                alignment - alignment.detach()
            )  # the same value, and 1 as its derivative by a
        loss = residual.square().sum(dim=(-2, -1))
    context = alignment @ value  # (..., Tq, Kv), Eq. 8
    return LocalityAttention(context, loss, alignment if return_alignment else None)
