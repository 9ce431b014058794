# SPDX-License-Identifier: GPL-2.0-or-later
"""Receive side scaling: the Toeplitz hash over addresses and ports.

Source: Microsoft's "RSS hashing types" and its verification vectors; ``en/rss.c`` for what the
driver asks for.
"""

from functools import lru_cache

_MASK = 0xFFFFFFFF


@lru_cache(maxsize=16)
def _tables(key: bytes) -> tuple[tuple[int, ...], ...]:
    """For each input byte position, the hash contribution of each of its 256 values."""
    bits = int.from_bytes(key, "big")
    width = len(key) * 8
    windows = [bits >> (width - 32 - i) & _MASK for i in range(width - 31)]
    tables = []
    for position in range((width - 32) // 8):
        row = [0] * 256
        for value in range(256):
            total = 0
            for bit in range(8):
                if value >> (7 - bit) & 1:
                    total ^= windows[position * 8 + bit]
            row[value] = total
        tables.append(tuple(row))
    return tuple(tables)


def toeplitz(key: bytes, data: bytes) -> int:
    """Hash ``data`` (at most ``len(key) - 4`` bytes) with ``key`` (40 bytes on this device)."""
    total = 0
    for table, byte in zip(_tables(key), data, strict=False):
        total ^= table[byte]
    return total


def symmetric_input(source: bytes, destination: bytes) -> bytes:
    """What both directions of a flow have in common: their OR, then their XOR.

    The driver sets ``rx_hash_symmetric`` and does not say how hardware makes the hash symmetric.
    Linux has names for two ways (``include/uapi/linux/ethtool.h``, 6.12): RXH_XFRM_SYM_XOR and
    RXH_XFRM_SYM_OR_XOR. That this device does the second is *assumption*. Of a pair that is hashed
    by one of its halves only, that half remains.
    """
    if len(source) != len(destination):
        return source + destination
    one, other = int.from_bytes(source, "big"), int.from_bytes(destination, "big")
    width = len(source)
    return (one | other).to_bytes(width, "big") + (one ^ other).to_bytes(width, "big")
