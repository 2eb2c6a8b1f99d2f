"""What names a set of silhouettes in run folders and stores."""

from __future__ import annotations

import hashlib

from sgela_fast.silhouettes.sequences import Sequences


def fingerprint(sequences: Sequences) -> str:
    """SHA-256 of a set's table: whose sequences, under which conditions and views, of how many frames, in order.

    It follows from the table alone, so that a set has the same one packed, as images or drawn; frames are not read.
    """
    digest = hashlib.sha256()
    for key, frames in zip(sequences.key.tolist(), sequences.frames.tolist(), strict=True):
        digest.update(f"{key}\0{frames}\n".encode())
    return digest.hexdigest()
