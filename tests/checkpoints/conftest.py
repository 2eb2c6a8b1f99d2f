"""Write small TensorFlow 1 bundles, so that reading them is tested without any of the official files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from sgela_fast.checkpoints.crc32c import masked_crc32c

MAGIC = 0xDB4775248B80FB57


def varint(number: int) -> bytes:
    out = b""
    while number >= 0x80:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def block(entries: list[tuple[bytes, bytes]], compression: int = 0) -> bytes:
    """A table block whose keys share prefixes, with its type byte and checksum."""
    content, previous = b"", b""
    for key, value in entries:
        shared = 0
        while shared < min(len(key), len(previous)) and key[shared] == previous[shared]:
            shared += 1
        content += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        previous = key
    content += (0).to_bytes(4, "little") + (1).to_bytes(4, "little") + bytes([compression])
    return content + masked_crc32c(content).to_bytes(4, "little")


def write(
    prefix: Path,
    tensors: Mapping[str, np.ndarray],
    compression: int = 0,
    shards: int = 1,
    endianness: int = 0,
    header: bool = True,
    gap: int = 0,
) -> Path:
    """Write a bundle; ``gap`` is what all places in the index are too large by."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    data = [b""] * shards
    entries = [(b"", b"\x08" + varint(shards) + b"\x10" + varint(endianness))] if header else []
    for place, name in enumerate(sorted(tensors)):
        shard = place % shards
        values = np.asarray(tensors[name])
        raw = values.tobytes()
        dims = b"".join(b"\x12" + varint(len(dim)) + dim for dim in (b"\x08" + varint(n) for n in values.shape))
        dtype = {"float32": 1, "float64": 2, "int32": 3, "int64": 9}.get(str(values.dtype), 7)  # 7 is text
        message = b"\x08" + varint(dtype) + b"\x12" + varint(len(dims)) + dims
        message += b"\x18" + varint(shard) + b"\x20" + varint(gap + len(data[shard])) + b"\x28" + varint(len(raw))
        message += b"\x35" + masked_crc32c(raw).to_bytes(4, "little")
        entries.append((name.encode(errors="surrogateescape"), message))
        data[shard] += raw
    body = block(entries, compression)
    index_offset = len(body)
    index = block([(b"~", varint(0) + varint(len(body) - 5))])
    handles = varint(0) + varint(0) + varint(index_offset) + varint(len(index) - 5)
    footer = handles.ljust(40, b"\0") + MAGIC.to_bytes(8, "little")
    prefix.with_name(f"{prefix.name}.index").write_bytes(body + index + footer)
    for shard, content in enumerate(data):
        prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{shards:05d}").write_bytes(content)
    return prefix


@pytest.fixture
def write_bundle() -> Callable[..., Path]:
    """Write tensors as a bundle under a prefix."""
    return write
