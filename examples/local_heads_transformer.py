"""A transformer layer whose heads are taught where to look: one loss per head, next to plain self-attention.

Task: turn every token into (token 3 places to the left + token 2 places to the right) mod 16; zeros lie behind the
ends. Two heads are expected at the two offsets, two are free: a head's strength is the weight of its loss.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sgela_fast.nn import LocalityAttention

TOKENS, LEFT, RIGHT = 16, 3, 2


class Layer(nn.Module):
    """Self-attention and feed-forward part; head h of row t is expected at position t + offsets[h]."""

    offsets: Tensor
    strengths: Tensor

    def __init__(self, width: int, offsets: tuple[float, ...], strengths: tuple[float, ...]) -> None:
        super().__init__()
        self.heads = len(offsets)
        self.register_buffer("offsets", torch.tensor(offsets))  # (H,)
        self.register_buffer("strengths", torch.tensor(strengths))  # (H,)
        self.project, self.merge = nn.Linear(width, 3 * width), nn.Linear(width, width)
        size = width // self.heads
        self.attention = LocalityAttention(size, sigma=1.0, scale=size**-0.5, fusion=None)  # no weights
        self.feed = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))

    def forward(self, x: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        """``x (B, T, K)`` and ``padding (B, T)``; the layer's output, and the loss of each sequence ``(B,)``."""
        projected = self.project(self.norms[0](x)).unflatten(-1, (3, self.heads, -1))  # (B, T, 3, H, K / H)
        query, key, value = projected.permute(2, 0, 3, 1, 4)  # each (B, H, T, K / H), a view: nothing is copied
        centers = torch.arange(x.shape[1], device=x.device) + self.offsets[:, None]  # (H, T), shared by the batch
        attended = self.attention(query, key, value=value, key_padding_mask=padding[:, None], centers=centers)
        x = x + self.merge(attended.output.transpose(1, 2).flatten(2))
        return x + self.feed(self.norms[1](x)), attended.loss @ self.strengths


class Tagger(nn.Module):
    places: Tensor

    def __init__(self, strengths: tuple[float, ...], width: int = 64, longest: int = 64) -> None:
        super().__init__()
        self.embed, self.output = nn.Embedding(TOKENS, width), nn.Linear(width, TOKENS)
        self.layer = Layer(width, (-LEFT, RIGHT, 0.0, 0.0), strengths)
        angles = torch.arange(longest)[:, None] / 10000 ** (torch.arange(0, width, 2) / width)
        self.register_buffer("places", torch.cat([angles.sin(), angles.cos()], dim=1))  # (longest, K)

    def forward(self, tokens: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        x, locality = self.layer(self.embed(tokens) + self.places[: tokens.shape[1]], padding)
        return self.output(x), locality


def sentences(batch: int, shortest: int, longest: int) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, what becomes of them, and where a sentence has ended; each ``(B, T)``."""
    padding = torch.arange(longest) >= torch.randint(shortest, longest + 1, (batch, 1))
    tokens = torch.randint(TOKENS, (batch, longest)).masked_fill(padding, 0)
    around = nn.functional.pad(tokens, (LEFT, RIGHT))
    return tokens, (around[:, :longest] + around[:, LEFT + RIGHT :]) % TOKENS, padding


def run(strength: float, steps: int = 400, seed: int = 0) -> dict[str, float]:
    """Train with ``strength`` times the loss of two heads; percentages of tokens that come out right."""
    torch.manual_seed(seed)
    model = Tagger((strength, strength, 0.0, 0.0))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.003)
    for _ in range(steps):
        tokens, target, padding = sentences(32, 16, 32)
        logits, locality = model(tokens, padding)
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(logits[~padding], target[~padding])
        (loss + locality.mean()).backward()
        optimiser.step()
    figures = {}
    for name, longest in (("as long as in training", 32), ("twice as long", 64)):
        tokens, target, padding = sentences(200, longest // 2, longest)
        right = model(tokens, padding)[0].argmax(dim=-1) == target
        figures[name] = 100 * right[~padding].float().mean().item()
    return figures


if __name__ == "__main__":
    for strength in (0.0, 0.1):
        print(f"strength {strength}:", ", ".join(f"{name} {figure:.0f} %" for name, figure in run(strength).items()))
