"""Encodes in forked processes for the tests that kill them; torch is imported once.

Each line of standard input, ``ARCHIVE OUT``, starts a process that encodes with ``resume``. Its number is printed,
then, when it has ended, its status.
"""

from __future__ import annotations

import os
import sys

from sgela_fast.encoding.config import EncodingConfig
from sgela_fast.encoding.encode import encode
from sgela_fast.encoding.encoder import Encoder
from sgela_fast.models.config import SGELAConfig
from sgela_fast.models.sgela import build_model
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.skeletons.layouts import get_layout

SETTINGS = EncodingConfig(part_mb=0.006, batch=32, stride=2, threads=1)


def serve() -> None:
    """Read lines until standard input is closed."""
    model = build_model(SGELAConfig(hidden=4, frames=3), seed=3).eval()
    encoder = Encoder(model, WindowConfig(frames=3, trim=2), get_layout("kinect-v1"), "0" * 64, "test")
    for line in sys.stdin:
        archive, out = line.split()
        child = os.fork()
        if not child:
            status = 1
            try:
                encode(archive, encoder, out, SETTINGS, resume=True)
                status = 0
            finally:
                os._exit(status)
        print(child, flush=True)
        print(os.waitpid(child, 0)[1], flush=True)


if __name__ == "__main__":
    serve()
