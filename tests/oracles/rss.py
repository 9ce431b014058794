# SPDX-License-Identifier: GPL-2.0-or-later
"""The receive hash and the queue of a flow, bit by bit as the texts have it.

Sources: Microsoft, "RSS hashing functions"; Linux 6.12 ``include/uapi/linux/ethtool.h``
(RXH_XFRM_SYM_OR_XOR).
"""

from collections.abc import Sequence
from ipaddress import ip_address


def toeplitz(key: bytes, data: bytes) -> int:
    """For each set bit of the input, XOR the 32 bits of the key that begin at its position."""
    key_bits = "".join(f"{byte:08b}" for byte in key)
    result = 0
    for position, bit in enumerate("".join(f"{byte:08b}" for byte in data)):
        if bit == "1":
            result ^= int(key_bits[position : position + 32], 2)
    return result


def flow_hash(
    key: bytes,
    source: str | bytes,
    destination: str | bytes,
    sport: int | None = None,
    dport: int | None = None,
    *,
    symmetric: bool = True,
) -> int:
    """The hash of a flow by its addresses, and by its ports if they are given."""
    pairs = [(ip_address(source).packed, ip_address(destination).packed)]
    if sport is not None and dport is not None:
        pairs.append((sport.to_bytes(2, "big"), dport.to_bytes(2, "big")))
    data = b""
    for one, other in pairs:
        if symmetric:
            data += bytes(a | b for a, b in zip(one, other, strict=True))
            data += bytes(a ^ b for a, b in zip(one, other, strict=True))
        else:
            data += one + other
    return toeplitz(key, data)


def queue(table: Sequence[int], result: int) -> int:
    """The queue that an indirection table of 2^n entries has for a hash."""
    return table[result % len(table)]
