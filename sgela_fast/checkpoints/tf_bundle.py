"""Read a TensorFlow 1 checkpoint bundle without TensorFlow.

``PREFIX.index`` is a LevelDB-style sorted table from tensor name to a small protocol buffer (dtype, shape, place);
``PREFIX.data-00000-of-00001`` holds the raw little-endian values. Every block and every tensor carries a checksum, and
all are verified.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sgela_fast.checkpoints.crc32c import masked_crc32c
from sgela_fast.errors import CheckpointError

_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48
_DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8"}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

Fields = dict[int, list[int | bytes]]


@dataclass(frozen=True)
class _Entry:
    """Where a tensor lies."""

    dtype: str | None
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int


class TFBundle:
    """A checkpoint bundle, opened.

    Args:
        path: the prefix, one of its files, or a folder that holds one bundle.

    Raises:
        CheckpointError: there is no bundle, or its index is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.prefix = find_prefix(Path(path))
        self._index = self.prefix.with_name(f"{self.prefix.name}.index")
        entries = dict(self._read_table())
        if b"" not in entries:
            raise self._damaged("its header is missing")
        header = _fields(entries.pop(b""), self._index)
        self.shards = _number(header, 1, default=1)
        if _number(header, 2) != 0:
            raise CheckpointError(
                f"{self._index} is of a big-endian machine, which is not supported; save it on another"
            )
        try:
            self._entries = {key.decode(): self._entry(raw) for key, raw in entries.items()}
        except UnicodeDecodeError:
            raise self._damaged("a tensor's name is not text") from None

    @property
    def names(self) -> list[str]:
        """Names of all tensors, sorted."""
        return sorted(self._entries)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        return self._entries[name].shape

    def tensor(self, name: str) -> np.ndarray:
        """Values of a tensor.

        Raises:
            CheckpointError: the data file is missing, cut off or damaged, or the dtype is not a plain number.
        """
        entry = self._entries[name]
        path = self.prefix.with_name(f"{self.prefix.name}.data-{entry.shard:05d}-of-{self.shards:05d}")
        if entry.dtype is None or entry.size != math.prod(entry.shape) * np.dtype(entry.dtype).itemsize:
            raise CheckpointError(f"tensor {name!r} of {self._index} is not of plain numbers; leave it out")
        try:
            with path.open("rb") as file:
                if file.seek(0, os.SEEK_END) < entry.offset + entry.size:
                    raise CheckpointError(f"{path} ends within tensor {name!r}; the file seems cut off, copy it again")
                file.seek(entry.offset)
                content = file.read(entry.size)
        except OSError as error:
            raise CheckpointError(
                f"{path} cannot be read ({error.strerror}); copy it beside its .index file"
            ) from error
        if masked_crc32c(content) != entry.crc:
            raise CheckpointError(f"tensor {name!r} in {path} does not fit its checksum; copy the checkpoint again")
        return np.frombuffer(content, entry.dtype).reshape(entry.shape).copy()

    def tensors(self) -> dict[str, np.ndarray]:
        """All tensors of plain numbers."""
        return {name: self.tensor(name) for name, entry in self._entries.items() if entry.dtype is not None}

    def _entry(self, raw: bytes) -> _Entry:
        fields = _fields(raw, self._index)
        shape = []
        for part in fields.get(2, []):
            dims = _fields(part, self._index).get(2, []) if isinstance(part, bytes) else []
            shape += [_number(_fields(dim, self._index), 1) for dim in dims if isinstance(dim, bytes)]
        dtype = _DTYPES.get(_number(fields, 1))
        place = (_number(fields, number) for number in (3, 4, 5, 6))
        return _Entry(dtype, tuple(shape), *place)

    def _read_table(self) -> Iterator[tuple[bytes, bytes]]:
        try:
            content = self._index.read_bytes()
        except OSError as error:
            raise CheckpointError(f"{self._index} cannot be read ({error.strerror}); check the path") from error
        if len(content) < _FOOTER or int.from_bytes(content[-8:], "little") != _MAGIC:
            raise CheckpointError(
                f"{self._index} is not the index of a TensorFlow checkpoint, or is cut off; copy it again"
            )
        place = 0
        handle = []
        for _ in range(4):  # offset and size of the metaindex block, then of the index block
            number, place = self._varint(content[-_FOOTER:-8], place)
            handle.append(number)
        for _, block in self._read_block(content, handle[2], handle[3]):
            offset, place = self._varint(block, 0)
            size, _ = self._varint(block, place)
            yield from self._read_block(content, offset, size)

    def _read_block(self, content: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
        """Entries of a block; keys are stored as what they differ in from the one before."""
        end = offset + size
        if end + 5 > len(content):
            raise self._damaged("a block lies behind the file's end")
        if masked_crc32c(content[offset : end + 1]) != int.from_bytes(content[end + 1 : end + 5], "little"):
            raise self._damaged("a block does not fit its checksum")
        if content[end] != 0:
            raise CheckpointError(f"{self._index} is compressed, which is not supported; save the checkpoint without")
        restarts = int.from_bytes(content[end - 4 : end], "little")
        stop, key = end - 4 - 4 * restarts, b""
        while offset < stop:
            shared, offset = self._varint(content, offset)
            fresh, offset = self._varint(content, offset)
            length, offset = self._varint(content, offset)
            key = key[:shared] + content[offset : offset + fresh]
            offset += fresh
            yield key, content[offset : offset + length]
            offset += length

    def _varint(self, content: bytes, place: int) -> tuple[int, int]:
        try:
            return _varint(content, place)
        except IndexError:
            raise self._damaged("a number is cut off") from None

    def _damaged(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self._index} is damaged ({what}); copy the checkpoint again")


def find_prefix(path: Path) -> Path:
    """The bundle that ``path`` stands for.

    Raises:
        CheckpointError: there is none, or several.
    """
    if path.suffix in (".index", ".meta") and path.with_suffix(".index").is_file():
        return path.with_suffix("")
    if re.search(r"\.data-\d{5}-of-\d{5}$", path.name):
        return path.with_name(path.name.rpartition(".data-")[0])
    if path.with_name(f"{path.name}.index").is_file():
        return path
    found = sorted(path.glob("*.index")) if path.is_dir() else []
    if len(found) > 1:
        raise CheckpointError(f"{path} holds {len(found)} checkpoints; give one of them, such as {found[-1]}")
    if not found:
        raise CheckpointError(f"{path} holds no TensorFlow checkpoint: there is no .index file; check the path")
    return found[0].with_suffix("")


def _varint(content: bytes, place: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = content[place]
        place += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, place
        shift += 7


def _fields(message: bytes, path: Path) -> Fields:
    """Fields of a protocol buffer, by number."""
    fields: Fields = {}
    place = 0
    try:
        while place < len(message):
            tag, place = _varint(message, place)
            value: int | bytes
            if tag & 7 == _VARINT:
                value, place = _varint(message, place)
            elif tag & 7 == _BYTES:
                size, place = _varint(message, place)
                value, place = message[place : place + size], place + size
            elif tag & 7 in (_FIXED32, _FIXED64):
                size = 4 if tag & 7 == _FIXED32 else 8
                value, place = int.from_bytes(message[place : place + size], "little"), place + size
            else:
                raise IndexError
            fields.setdefault(tag >> 3, []).append(value)
    except IndexError:
        raise CheckpointError(f"{path} is damaged (an entry cannot be read); copy the checkpoint again") from None
    return fields


def _number(fields: Fields, number: int, default: int = 0) -> int:
    value = fields.get(number, [default])[-1]
    return value if isinstance(value, int) else default
