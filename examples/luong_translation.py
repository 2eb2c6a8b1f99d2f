"""A letter-by-letter translation learnt with and without a locality loss on a Luong decoder's attention.

Every source letter becomes one target letter, in order: row t of the alignment is expected at position t. Trained on
words of 4 to 12 letters; tested, greedily decoded, on such words and on words of 20 to 30.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from sgela_fast.nn import LocalityAttention

LETTERS, START = 10, 10
CIPHER = torch.randperm(LETTERS, generator=torch.Generator().manual_seed(0))


class Batch(NamedTuple):  # each (B, T); padding is True behind a word's end
    source: Tensor
    target: Tensor
    padding: Tensor


def words(batch: int, shortest: int, longest: int) -> Batch:
    lengths = torch.randint(shortest, longest + 1, (batch, 1))
    source = torch.randint(LETTERS, (batch, longest))
    return Batch(source, CIPHER[source], torch.arange(longest) >= lengths)


class Translator(nn.Module):
    def __init__(self, hidden: int = 64) -> None:
        super().__init__()
        self.embed_source, self.embed_target = nn.Embedding(LETTERS, hidden), nn.Embedding(LETTERS + 1, hidden)
        self.encoder, self.decoder = (nn.LSTM(hidden, hidden, batch_first=True) for _ in range(2))
        self.attention = LocalityAttention(hidden, score="general", centers="identity", sigma=1.0)
        self.output = nn.Linear(hidden, LETTERS)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits of all letters ``(B, T, LETTERS)`` from the true previous ones, and L_A ``(B,)``."""
        memory, _ = self.encoder(self.embed_source(batch.source))  # (B, T, K)
        previous = torch.cat([torch.full_like(batch.target[:, :1], START), batch.target[:, :-1]], dim=1)
        states, _ = self.decoder(self.embed_target(previous))  # (B, T, K)
        # Targets are padded too: a row of zeros adds a constant to the loss and nothing to any gradient.
        states = states.masked_fill(batch.padding[..., None], 0)
        attended = self.attention(states, memory, key_padding_mask=batch.padding)
        return self.output(attended.output), attended.loss

    @torch.no_grad()
    def translate(self, batch: Batch) -> Tensor:
        """Greedy letters and positions of the largest weights ``(2, B, T)``, one step after the other."""
        memory, _ = self.encoder(self.embed_source(batch.source))
        keys = self.attention.project_keys(memory)  # once for all steps
        letter, state, found = torch.full_like(batch.source[:, :1], START), None, []
        for step in range(batch.source.shape[1]):
            row, state = self.decoder(self.embed_target(letter), state)
            step_of = {"keys": keys, "key_padding_mask": batch.padding, "first_step": step}
            attended = self.attention(row, memory, return_alignment=True, **step_of)
            letter = self.output(attended.output).argmax(dim=-1)  # (B, 1)
            found.append(torch.stack([letter, attended.alignment.argmax(dim=-1)]))
        return torch.cat(found, dim=2)


def run(weight: float, steps: int = 300, seed: int = 0) -> dict[str, float]:
    """Train with ``weight`` times the locality loss; percentages."""
    torch.manual_seed(seed)
    model = Translator()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.003)
    for _ in range(steps):
        batch = words(32, 4, 12)
        logits, locality = model(batch)
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(logits[~batch.padding], batch.target[~batch.padding])
        (loss + weight * locality.mean()).backward()
        optimiser.step()
    figures = {}
    for name, shortest, longest in (("short", 4, 12), ("long", 20, 30)):
        letters, positions = model.translate(batch := words(200, shortest, longest))
        right = {"letters right": letters == batch.target, "on the diagonal": positions == torch.arange(longest)}
        for claim, where in right.items():
            figures[f"{name} words, {claim}"] = 100 * where[~batch.padding].float().mean().item()
    return figures


if __name__ == "__main__":
    for weight in (0.0, 5.0):
        figures = run(weight)
        print(f"weight {weight}:", ", ".join(f"{name} {figure:.0f} %" for name, figure in figures.items()))
