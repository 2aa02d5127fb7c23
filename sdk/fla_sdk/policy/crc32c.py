"""CRC-32C (Castagnoli, RFC 3720) of files, in numpy: object stores give no other checksum for large objects.

A buffer is cut into many equal strips whose sums advance together, one byte of each strip per step; then the sums of
neighbours are joined. Joining needs the effect of a run of zero bytes on a sum, which is linear in the sum's bits.
"""

import functools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Sums = NDArray[Any]
"""uint32; numpy's types lose sight of that in shifts."""

_REFLECTED = 0x82F63B78
_STRIPS = 2**15
_BLOCK = 2**23
"""Bytes at a time; a multiple of `_STRIPS`."""


def _byte_table() -> Sums:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_REFLECTED), table >> 1)
    return table


_TABLE = _byte_table()


@functools.cache
def _zeros(length: int) -> Sums:
    """`[32]`: what `length` zero bytes make of each single bit of a sum."""
    columns = np.uint32(1) << np.arange(32, dtype=np.uint32)
    power = (columns >> 8) ^ _TABLE[columns & 0xFF]
    while length:
        if length & 1:
            columns = _apply(power, columns)
        power = _apply(power, power)
        length >>= 1
    return columns


def _apply(columns: Sums, sums: Sums) -> Sums:
    out = np.zeros_like(sums)
    for bit, column in enumerate(columns):
        out ^= np.where((sums >> np.uint32(bit)) & 1, column, np.uint32(0))
    return out


def _strips(block: NDArray[np.uint8]) -> int:
    """The sum of a block of `_BLOCK` bytes, started at 0 and not inverted."""
    length = _BLOCK // _STRIPS
    columns = np.ascontiguousarray(block.reshape(_STRIPS, length).T)
    sums = np.zeros(_STRIPS, np.uint32)
    for column in columns:
        sums = (sums >> 8) ^ _TABLE[(sums ^ column) & 0xFF]
    while len(sums) > 1:
        sums = _apply(_zeros(length), sums[::2]) ^ sums[1::2]
        length *= 2
    return int(sums[0])


def crc32c(path: Path) -> int:
    """The checksum of a file's content."""
    total = np.array([0xFFFFFFFF], np.uint32)
    past_block = _zeros(_BLOCK)
    with path.open("rb") as file:
        while chunk := file.read(_BLOCK):
            data = np.frombuffer(chunk, np.uint8)
            if len(data) == _BLOCK:
                total = _apply(past_block, total) ^ np.uint32(_strips(data))
                continue
            # The end is short of a block: zeros in front of it change nothing about its own sum.
            padded = np.zeros(_BLOCK, np.uint8)
            padded[_BLOCK - len(data) :] = data
            total = _apply(_zeros(len(data)), total) ^ np.uint32(_strips(padded))
    return int(total[0]) ^ 0xFFFFFFFF
