"""Encodes on a Ray cluster of two workers and kills one of them behind the first part: ``ARCHIVE OUT``."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from sgela_fast.encoding.config import EncodingConfig, EngineConfig
from sgela_fast.encoding.encode import encode
from sgela_fast.encoding.encoder import Encoder
from sgela_fast.models.config import SGELAConfig
from sgela_fast.models.sgela import build_model
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.skeletons.layouts import get_layout


def descends(process: int, ancestor: int) -> bool:
    """Whether a process was begun by another one."""
    while process > 1:
        if process == ancestor:
            return True
        stat = Path(f"/proc/{process}/stat").read_text()
        process = int(stat.rpartition(")")[2].split()[1])
    return False


def workers() -> list[int]:
    """Our workers' processes."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "cmdline").read_bytes()
            if name.startswith(b"ray::UnitWorker") and descends(int(folder.name), os.getpid()):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def main(archive: str, out: str) -> None:
    """Encode."""
    model = build_model(SGELAConfig(hidden=4, frames=3), seed=3).eval()
    encoder = Encoder(model, WindowConfig(frames=3, trim=2), get_layout("kinect-v1"), "0" * 64, "test")
    killed: list[int] = []

    def kill(units: int = 1, *, note: str = "") -> None:
        if not killed:
            killed.append(workers()[0])
            os.kill(killed[0], signal.SIGKILL)

    settings = EncodingConfig(part_mb=0.006, batch=32, stride=2, threads=1)
    encode(archive, encoder, out, settings, engine=EngineConfig("ray", workers=2), progress=kill)
    print("killed", killed)


if __name__ == "__main__":
    main(*sys.argv[1:])
