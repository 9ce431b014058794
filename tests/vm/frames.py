# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames by hand, right and wrong, and their way from the host's tap to a guest."""

import struct
from collections.abc import Iterable
from ipaddress import ip_address

from nicmodel.testbed.hostnet import HostNetwork

SPOILER = "02:00:00:00:5b:ad"
"""Source address of frames that are wrong on purpose; tshark does not judge them."""

SPOILED_PORT = 7099
"""TCP port of segments that the wire corrupts; tshark does not judge them either."""

EXEMPT = f"eth.src == {SPOILER} || tcp.port == {SPOILED_PORT}"
"""Display filter of all of these."""

UDP, TCP = 17, 6
CLOSED = 7
"""A port on which no guest listens."""


def inject(host: HostNetwork, frames: Iterable[bytes]) -> None:
    """Send frames from the host's tap."""
    with host.packet_socket() as out:
        for frame in frames:
            out.send(frame)


def ones(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of ``data``, complemented."""
    even = data + bytes(len(data) & 1)
    total: int = sum(struct.unpack(f">{len(even) // 2}H", even))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def ethernet(target: str, payload: bytes, ethertype: int, *tags: tuple[int, int]) -> bytes:
    """A frame from ``SPOILER``; each tag is TPID and VID. Nothing is padded."""
    macs = bytes.fromhex((target + SPOILER).replace(":", ""))
    return macs + b"".join(struct.pack(">HH", *tag) for tag in tags) + struct.pack(
        ">H", ethertype
    ) + payload  # fmt: skip


def l4(proto: int, source: str, target: str, data: bytes, *, wrong: bool = False) -> bytes:
    """A UDP datagram or a TCP ACK to the port ``CLOSED``."""
    addresses = ip_address(source).packed + ip_address(target).packed
    if proto == UDP:
        head = struct.pack(">HHHH", 4711, CLOSED, 8 + len(data), 0)
        at = 6
    else:
        head = struct.pack(">HHIIBBHHH", 4711, CLOSED, 1, 1, 0x50, 0x10, 500, 0, 0)
        at = 16
    packet = head + data
    check = ones(addresses + struct.pack(">HH", proto, len(packet)) + packet) or 0xFFFF
    check ^= 0x0101 if wrong else 0
    return packet[:at] + check.to_bytes(2, "big") + packet[at + 2 :]


def ipv4(
    source: str,
    target: str,
    payload: bytes,
    proto: int,
    *,
    fragment: int = 0,
    options: bytes = b"",
    wrong: bool = False,
) -> bytes:
    """An IPv4 packet; ``fragment`` is the whole 16-bit field."""
    size = 20 + len(options)
    head = struct.pack(">BBHHHBBH", 0x40 | size // 4, 0, size + len(payload), 9, fragment, 64,
                       proto, 0)  # fmt: skip
    head += ip_address(source).packed + ip_address(target).packed + options
    check = ones(head) ^ (0x0101 if wrong else 0)
    return head[:10] + check.to_bytes(2, "big") + head[12:] + payload


def ipv6(source: str, target: str, payload: bytes, proto: int) -> bytes:
    """An IPv6 packet."""
    head = struct.pack(">IHBB", 6 << 28, len(payload), proto, 64)
    return head + ip_address(source).packed + ip_address(target).packed + payload
