# SPDX-License-Identifier: GPL-2.0-or-later
"""The oracle is seen to catch what it is for: each kind of bad capture beside a good one."""

from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from struct import pack

import pytest

from tests.oracles.tshark import (
    CaptureUnreadable,
    Conversation,
    bad_checksums,
    conversations,
    faults,
    fields,
    frames,
    malformed,
    needs_tshark,
)

pytestmark = needs_tshark

A, B = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58


def checksum(data: bytes) -> int:
    """Internet checksum (RFC 1071)."""
    total = sum(
        int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big") for at in range(0, len(data), 2)
    )
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(protocol: int, payload: bytes, *, at: int | None = None, reverse: bool = False) -> bytes:
    """Ethernet, IPv4 and ``payload``, whose checksum at offset ``at`` is filled in."""
    ends = [ip_address("192.0.2.1").packed, ip_address("192.0.2.2").packed]
    src, dst = reversed(ends) if reverse else ends
    if at is not None:
        pseudo = b"" if protocol == ICMP else src + dst + pack(">HH", protocol, len(payload))
        payload = _fill(payload, at, checksum(pseudo + payload))
    head = pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 7, 0x4000, 64, protocol, 0, src, dst)
    return B + A + b"\x08\x00" + _fill(head, 10, checksum(head)) + payload


def ipv6(protocol: int, payload: bytes, at: int) -> bytes:
    src, dst = ip_address("2001:db8::1").packed, ip_address("2001:db8::2").packed
    pseudo = src + dst + pack(">II", len(payload), protocol)
    payload = _fill(payload, at, checksum(pseudo + payload))
    head = pack(">IHBB16s16s", 0x60000000, len(payload), protocol, 64, src, dst)
    return B + A + b"\x86\xdd" + head + payload


def _fill(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + pack(">H", value) + data[at + 2 :]


def tcp(data: bytes, ports: tuple[int, int] = (1000, 5001)) -> bytes:
    return pack(">HHIIBBHHH", *ports, 1, 1, 0x50, 0x18, 512, 0, 0) + data


def udp(data: bytes) -> bytes:
    return pack(">HHHH", 1000, 5001, 8 + len(data), 0) + data


GOOD: dict[str, bytes] = {
    "tcp": ipv4(TCP, tcp(b"abc"), at=16),
    "udp": ipv4(UDP, udp(b"abcd"), at=6),
    "icmp": ipv4(ICMP, pack(">BBHHH", 8, 0, 0, 1, 1) + b"ping", at=2),
    "tcp over ipv6": ipv6(TCP, tcp(b"abc"), 16),
    "udp over ipv6": ipv6(UDP, udp(b"abc"), 6),
    "icmpv6": ipv6(ICMPV6, pack(">BBHHH", 128, 0, 0, 1, 1) + b"ping", 2),
    "udp without checksum": ipv4(UDP, udp(b"abcd")),
}

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(*packets: bytes) -> Path:
        """Write a classic pcap file."""
        path = tmp_path / "a.pcap"
        content = pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
        for time, packet in enumerate(packets):
            content += pack("<IIII", time, 0, len(packet), len(packet)) + packet
        path.write_bytes(content)
        return path

    return write


def flip(packet: bytes, at: int) -> bytes:
    return packet[:at] + bytes([packet[at] ^ 0x10]) + packet[at + 1 :]


def test_good_frames_pass(write: Write) -> None:
    path = write(*GOOD.values())
    assert bad_checksums(path) == []
    assert malformed(path) == []
    assert frames(path) == len(GOOD)


def test_all_faults_at_once(write: Write) -> None:
    path = write(GOOD["tcp"], flip(GOOD["udp"], len(GOOD["udp"]) - 1), GOOD["tcp"][:40])
    wrong_sum, cut = "frame 2: bad udp checksum", malformed(path)
    assert len(cut) == 1
    assert faults(path) == [*cut, wrong_sum]
    assert faults(path, unsummed="frame.number >= 2") == cut
    assert faults(path, exempt="frame.number == 3") == [wrong_sum]
    assert faults(path, exempt="frame.number == 3", unsummed="udp") == []


@pytest.mark.parametrize(
    ("good", "at", "protocol"),
    [
        ("tcp", 14 + 8, "ip"),
        ("tcp", -1, "tcp"),
        ("udp", -1, "udp"),
        ("icmp", -1, "icmp"),
        ("tcp over ipv6", -1, "tcp"),
        ("udp over ipv6", -1, "udp"),
        ("icmpv6", -1, "icmpv6"),
    ],
)
def test_a_flipped_bit_is_found(write: Write, good: str, at: int, protocol: str) -> None:
    packet = GOOD[good]
    path = write(GOOD["tcp"], flip(packet, at % len(packet)), GOOD["udp"])
    assert bad_checksums(path) == [f"frame 2: bad {protocol} checksum"]


def test_both_checksums_of_one_frame_are_named(write: Write) -> None:
    path = write(flip(flip(GOOD["tcp"], 14 + 8), len(GOOD["tcp"]) - 1))
    assert bad_checksums(path) == ["frame 1: bad ip checksum", "frame 1: bad tcp checksum"]


def test_missing_udp_checksum_over_ipv6_is_found(write: Write) -> None:
    """Zero means none over IPv4; RFC 8200 forbids it."""
    packet = GOOD["udp over ipv6"]
    path = write(_fill(packet, 14 + 40 + 6, 0))
    assert bad_checksums(path) == ["frame 1: bad udp checksum"]


def test_inner_packet_of_an_icmp_error_is_not_taken_for_a_bad_one(write: Write) -> None:
    """It is cut short on purpose."""
    inner = GOOD["udp"][14 : 14 + 28]
    path = write(ipv4(ICMP, pack(">BBHI", 3, 3, 0, 0) + inner, at=2))
    assert bad_checksums(path) == []
    assert malformed(path) == []


@pytest.mark.parametrize(
    "packet",
    [
        GOOD["tcp"][:40],
        ipv4(TCP, pack(">HHIIBBHHH", 1, 2, 1, 1, 0x40, 0x18, 512, 0, 0), at=16),
        ipv4(UDP, pack(">HHHH", 1, 2, 7, 0) + b"abcd"),
        ipv4(UDP, pack(">HHHH", 1, 2, 40, 0) + b"abcd"),
        _fill(GOOD["tcp"], 14 + 2, 500),
        _fill(GOOD["tcp"], 14 + 2, 19),
        flip(GOOD["tcp"], 14)[:60],
        B + A + b"\x81\x00\x00",
        B + A[:3],
        B + A + b"\x08\x06" + bytes.fromhex("00010800060400"),
    ],
    ids=[
        *("cut TCP header", "TCP data offset below 5", "UDP length below 8"),
        *("UDP length beyond datagram", "IP length beyond frame", "IP length below header"),
        *("IP version 5", "cut VLAN tag", "cut Ethernet header", "cut ARP"),
    ],
)
def test_malformed_frames_are_found(write: Write, packet: bytes) -> None:
    path = write(GOOD["tcp"], packet)
    found = malformed(path)
    assert len(found) == 1
    assert found[0].startswith("frame 2 (")


def test_conversations(write: Write) -> None:
    there = ipv4(TCP, tcp(b"abc", (1000, 5001)), at=16)
    back = ipv4(TCP, tcp(b"", (5001, 1000)), at=16, reverse=True)
    other = ipv4(TCP, tcp(b"", (1001, 5001)), at=16)
    path = write(there, back, back, other, GOOD["udp"])
    assert conversations(path) == [
        Conversation("tcp", ("192.0.2.1:1000", "192.0.2.2:5001"), (1, 2), (57, 108)),
        Conversation("tcp", ("192.0.2.1:1001", "192.0.2.2:5001"), (1, 0), (54, 0)),
    ]
    assert len(conversations(path, "udp")) == 1


def test_conversations_over_ipv6(write: Write) -> None:
    (found,) = conversations(write(GOOD["tcp over ipv6"]))
    assert found.ends == ("[2001:db8::1]:1000", "[2001:db8::2]:5001")


def test_fields_of_missing_protocols_are_empty(write: Write) -> None:
    assert fields(write(GOOD["udp"]), "udp.port", "tcp.port") == [("1000,5001", "")]


def test_missing_or_wrong_file_is_no_clean_capture(tmp_path: Path) -> None:
    for path in (tmp_path / "none", Path(__file__)):
        for oracle in (malformed, bad_checksums, conversations):
            with pytest.raises(CaptureUnreadable):
                oracle(path)
