"""CRC-32C (Castagnoli) of large buffers in NumPy.

A plain loop over bytes would take a minute for a gait encoder's checkpoint. The buffer is cut into lanes of equal
length whose checksums advance together, one byte of every lane at a time; neighbouring lanes are then joined pairwise,
each join moving the left checksum past the right lane's length with a power of the "one more zero byte" matrix.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]

_POLYNOMIAL = 0x82F63B78  # bit-reversed
_MASK_DELTA = 0xA282EAD8
_LANES = 1 << 14


def _table() -> Words:
    entries = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        entries = np.where(entries & 1, (entries >> 1) ^ np.uint32(_POLYNOMIAL), entries >> 1)
    return entries.astype(np.uint32)


_TABLE = _table()


def crc32c(data: bytes | memoryview) -> int:
    """CRC-32C of ``data``."""
    content = np.frombuffer(data, np.uint8)
    lanes = _LANES if len(content) > 4 * _LANES else 1
    length = -(-len(content) // lanes)
    # Leading zeros leave a checksum that starts from zero as it is.
    padded = np.zeros(lanes * length, np.uint8)
    padded[lanes * length - len(content) :] = content
    sums = np.zeros(lanes, np.uint32)
    for column in np.ascontiguousarray(padded.reshape(lanes, length).T):
        sums = _TABLE[(sums ^ column) & 0xFF] ^ (sums >> np.uint32(8))
    matrix = _zero_bytes(length)
    while len(sums) > 1:
        sums = _apply(matrix, sums[0::2]) ^ sums[1::2]
        matrix = _apply(matrix, matrix)
    start = _apply(_zero_bytes(len(content)), np.array([0xFFFFFFFF], np.uint32))
    return int(sums[0] ^ start[0]) ^ 0xFFFFFFFF


def masked_crc32c(data: bytes | memoryview) -> int:
    """CRC-32C in the masked form that LevelDB and TensorFlow write beside their data."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def _apply(matrix: Words, words: Words) -> Words:
    """Product of a 32 x 32 bit matrix, given by its columns, with each of ``words``."""
    product = np.zeros_like(words)
    for bit in range(32):
        product ^= np.where((words >> np.uint32(bit)) & 1, matrix[bit], np.uint32(0)).astype(np.uint32)
    return product


def _zero_bytes(count: int) -> Words:
    """The matrix that moves a checksum past ``count`` zero bytes."""
    result = np.uint32(1) << np.arange(32, dtype=np.uint32)
    power = _TABLE[result & 0xFF] ^ (result >> np.uint32(8))
    while count:
        if count & 1:
            result = _apply(power, result)
        power = _apply(power, power)
        count >>= 1
    return result
