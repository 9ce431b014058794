# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets by hand, and sums and hashes bit by bit: independent of ``nicmodel.offload``."""

import struct


def ones(data: bytes) -> int:
    """RFC 1071: words added, carries folded."""
    total = 0
    for at in range(0, len(data), 2):
        total += int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big")
        total = (total & 0xFFFF) + (total >> 16)
    return total


def ethernet(dst: bytes, src: bytes, ethertype: int, payload: bytes) -> bytes:
    return dst + src + struct.pack(">H", ethertype) + payload


def udp(source: bytes, target: bytes, sport: int, dport: int, payload: bytes) -> bytes:
    """IPv4 and UDP with both checksum fields zero."""
    length = 8 + len(payload)
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + length, 1, 0x4000, 64, 17, 0) + source + target
    return ip + struct.pack(">HHHH", sport, dport, length, 0) + payload


def tcp(source: bytes, target: bytes, sport: int, dport: int, payload: bytes) -> bytes:
    """IPv4 and TCP with ACK and PSH, both checksum fields zero."""
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 40 + len(payload), 7, 0x4000, 64, 6, 0)
    head = struct.pack(">HHIIBBHHH", sport, dport, 1000, 2000, 0x50, 0x18, 500, 0, 0)
    return ip + source + target + head + payload


def right(packet: bytes) -> bool:
    """Are the checksums of an IPv4 TCP or UDP packet right?"""
    (length,) = struct.unpack_from(">H", packet, 2)
    pseudo = packet[12:20] + struct.pack(">HH", packet[9], length - 20)
    return ones(packet[:20]) == 0xFFFF and ones(pseudo + packet[20:length]) == 0xFFFF
