# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets longer than the wire carries, as ``programs/supersend.c`` takes them."""

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

POOL_SIZE = 1 << 17
"""Bytes of the file that payloads are parts of."""

TCPV4, TCPV6, ECN = 1, 4, 0x80
"""``virtio_net_hdr.gso_type`` (VIRTIO_NET_HDR_GSO_*)."""
NEEDS_CSUM = 1
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))

SMALLEST_MSS = 8
"""``TCP_MIN_GSO_SIZE``: the kernel takes no smaller ``gso_size``."""


@dataclass(frozen=True)
class SuperPacket:
    """Headers from the IP header on, and where the payload lies in the pool.

    ``l4`` is the offset of the TCP header in ``headers``; ``linear`` bytes of the payload lie in
    the same piece of memory as the headers (``hdr_len``). A packet that fits into one frame has
    no ``gso_type``, as the kernel itself would send it.
    """

    headers: bytes
    l4: int
    mss: int
    payload_at: int
    payload_length: int
    linear: int = 0
    ecn: bool = False
    tag: bytes = b""

    @property
    def frames(self) -> int:
        """How many frames it takes."""
        return max(1, -(-self.payload_length // self.mss))

    @property
    def ipv6(self) -> bool:
        """Which IP it is."""
        return self.headers[0] >> 4 == 6

    def record(self, destination: bytes, source: bytes) -> bytes:
        """The record for ``supersend frames``."""
        ethertype = b"\x86\xdd" if self.ipv6 else b"\x08\x00"
        ethernet = destination + source + self.tag + ethertype
        header = ethernet + self.headers
        kind = 0
        if self.payload_length > self.mss:
            kind = (TCPV6 if self.ipv6 else TCPV4) | (ECN if self.ecn else 0)
        start = len(ethernet) + self.l4
        linear = len(header) + self.linear
        vnet = struct.pack("<BBHHHH", NEEDS_CSUM, kind, linear, self.mss if kind else 0, start, 16)
        return _record(vnet, 0, header, self.payload_at, self.payload_length)


@dataclass(frozen=True)
class Datagrams:
    """Datagrams of ``mss`` bytes in one send of a UDP socket (UDP_SEGMENT)."""

    port: int
    mss: int
    payload_at: int
    payload_length: int

    @property
    def frames(self) -> int:
        """How many datagrams it are."""
        return -(-self.payload_length // self.mss)

    def record(self) -> bytes:
        """The record for ``supersend datagrams``."""
        vnet = struct.pack("<BBHHHH", 0, 0, 0, self.mss, 0, 0)
        return _record(vnet, self.port, b"", self.payload_at, self.payload_length)


def frame_record(frame: bytes) -> bytes:
    """The record for ``supersend frames`` of a plain frame."""
    return _record(bytes(10), 0, frame, 0, 0)


def _record(vnet: bytes, port: int, header: bytes, at: int, length: int) -> bytes:
    return vnet + struct.pack("<HHII", port, len(header), at, length) + header


def tcp(
    *,
    ipv6: bool,
    mss: int,
    payload: tuple[int, int],
    sequence: int = 1,
    flags: int = ACK,
    ident: int = 0,
    fragment: int = 0x4000,
    ip_options: bytes = b"",
    tcp_options: bytes = b"",
    extensions: tuple[tuple[int, bytes], ...] = (),
    window: int = 0x1234,
    urgent: int = 0,
    traffic_class: int = 0,
    linear: int = 0,
    ecn: bool = False,
    tag: bytes = b"",
) -> SuperPacket:
    """A TCP packet.

    ``ident`` and ``fragment`` (flags and offset) are IPv4's; ``extensions`` are IPv6 headers by
    number, without their next-header octet. The checksum field holds the pseudo header's sum, as
    CHECKSUM_PARTIAL wants it.
    """
    at, length = payload
    doff = 20 + len(tcp_options)
    if ipv6:
        source, destination = ip_address("fd00:77::1").packed, ip_address("fd00:77::99").packed
    else:
        source, destination = ip_address("10.77.0.1").packed, ip_address("10.77.0.99").packed
    l4_length = doff + length
    pseudo = _sum(source + destination + struct.pack(">II", 6, l4_length))
    segment = struct.pack(
        ">HHIIBBHHH", 4000, 5000, sequence & 0xFFFFFFFF, 0x01020304, doff // 4 << 4, flags,
        window, pseudo, urgent,
    )  # fmt: skip
    segment += tcp_options
    if ipv6:
        chain, following = b"", 6
        for number, body in reversed(extensions):
            chain = bytes((following,)) + body + chain
            following = number
        head = struct.pack(
            ">IHBB", 6 << 28 | traffic_class << 20 | 0x12345, len(chain) + l4_length & 0xFFFF,
            following, 64,
        )  # fmt: skip
        headers = head + source + destination + chain
    else:
        ihl = 20 + len(ip_options)
        headers = struct.pack(
            ">BBHHHBBH", 0x40 | ihl // 4, traffic_class, ihl + l4_length & 0xFFFF, ident & 0xFFFF,
            fragment, 64, 6, 0,
        )  # fmt: skip
        headers += source + destination + ip_options
        # right for the packet as it is: of one that fits, software computes TCP's checksum only
        headers = headers[:10] + struct.pack(">H", 0xFFFF - _sum(headers)) + headers[12:]
    return SuperPacket(headers + segment, len(headers), mss, at, length, linear, ecn, tag)


def _sum(data: bytes) -> int:
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    return int((total - 1) % 0xFFFF + 1) if total else 0


_FLAGS = (
    *(ACK, ACK | PSH, ACK | FIN, ACK | FIN | PSH, CWR | ACK, CWR | ECE | ACK | PSH | FIN),
    *(ACK | URG | PSH, SYN | ACK, RST | ACK, 0xFF),
)
_PADDING = (0, bytes((0, 1, 4)) + bytes(4))
_DESTINATION = (60, bytes((2, 1, 20)) + bytes(20))
_ROUTING = (43, bytes((2, 4, 0, 0, 0, 0, 0)) + bytes(16))
_CHAINS = ((_PADDING,), (_DESTINATION,), (_ROUTING,), (_PADDING, _DESTINATION, _ROUTING))
"""IPv6 extension headers by number, without their first octet (RFC 8200 4)."""


def edges(ipv6: bool) -> Iterator[SuperPacket]:
    """What is most easily got wrong, one by one."""
    payload = (0, 3000)
    for flags in _FLAGS:
        yield tcp(ipv6=ipv6, mss=1000, payload=payload, flags=flags, urgent=flags & URG)
    yield tcp(ipv6=ipv6, mss=1428, payload=payload, flags=CWR | ACK, ecn=True)
    for sequence in (0, 0xFFFFFFFF, 0xFFFFFFFF - 1500, 0x7FFFFFFF):
        yield tcp(ipv6=ipv6, mss=1000, payload=payload, sequence=sequence)
    # sizes around one and two segments
    for length in (1, 999, 1000, 1001, 1999, 2000, 2001):
        yield tcp(ipv6=ipv6, mss=1000, payload=(7, length), flags=ACK | PSH | FIN)
    # the shortest segments, padded to the shortest frame, odd and even
    for mss in (SMALLEST_MSS, 9, 13):
        yield tcp(ipv6=ipv6, mss=mss, payload=(3, 50), flags=ACK | PSH)
    for mss in (536, 1220, 1440):
        yield tcp(ipv6=ipv6, mss=mss, payload=(100, 65000), flags=ACK | PSH)
    # TCP options, up to all 40 bytes of them
    for options in (b"\1\1\x08\x0a" + bytes(range(8)), bytes((1,)) * 20, b"\1" * 39 + b"\0"):
        yield tcp(ipv6=ipv6, mss=1400, payload=(0, 9000), tcp_options=options)
    # payload beside the headers in the first piece of memory
    for linear in (1, 17, 999, 1500):
        yield tcp(ipv6=ipv6, mss=1000, payload=(0, 2500), linear=linear)
    if ipv6:
        for chain in _CHAINS:
            yield tcp(ipv6=True, mss=1000, payload=(0, 5000), extensions=chain)
    else:
        for ident in (0, 1, 0x7FFF, 0xFFFE, 0xFFFF):
            yield tcp(ipv6=False, mss=700, payload=payload, ident=ident)
            yield tcp(ipv6=False, mss=700, payload=payload, ident=ident, fragment=0)
        for options in (b"\1" * 4, b"\x94\4\0\0" + b"\1" * 16, b"\1" * 40):
            yield tcp(ipv6=False, mss=900, payload=payload, ip_options=options)


def datagrams(rng: random.Random, longest: int, first_port: int, count: int) -> list[Datagrams]:
    """Sends whose datagrams have at most ``longest`` bytes of payload."""
    found = [(longest, 3 * longest), (longest, longest), (1, 64), (2, 7), (1000, 1001)]
    while len(found) < count:
        mss = rng.randint(1, longest)
        # the kernel's limits: UDP_MAX_SEGMENTS, and what one IP packet could hold
        found.append((mss, rng.randint(1, min(64 * mss, 65000))))
    return [
        Datagrams(first_port + number, mss, rng.randint(0, POOL_SIZE - length), length)
        for number, (mss, length) in enumerate(found)
    ]


def anything(rng: random.Random, longest: int) -> SuperPacket:
    """Any packet whose IP packets on the wire are of ``longest`` bytes at most."""
    ipv6 = rng.random() < 0.5
    words = rng.randint(0, 10)
    ip_words = 0 if ipv6 else rng.choice((0, 0, rng.randint(0, 10)))
    room = longest - (40 if ipv6 else 20 + ip_words * 4) - 20 - words * 4
    mss = rng.choice((rng.randint(SMALLEST_MSS, 100), rng.randint(100, room), room))
    length = rng.randint(1, min(64500, mss * rng.choice((1, 3, 45))))
    headers = {
        "tcp_options": bytes((1,)) * (words * 4),
        "flags": ACK | rng.randrange(256),
        "sequence": rng.choice((rng.getrandbits(32), 0xFFFFFFFF - rng.randint(0, 70000))),
        "window": rng.getrandbits(16),
        "urgent": rng.getrandbits(16),
        "traffic_class": rng.getrandbits(8),
        "linear": rng.choice((0, rng.randint(0, min(length, 1500)))),
    }
    if not ipv6:
        headers["ident"] = rng.choice((rng.getrandbits(16), 0xFFFF - rng.randint(0, 50)))
        headers["fragment"] = rng.choice((0, 0x4000))
        headers["ip_options"] = bytes((1,)) * (ip_words * 4)
    at = rng.randint(0, POOL_SIZE - length)
    return tcp(ipv6=ipv6, mss=mss, payload=(at, length), **headers)  # type: ignore[arg-type]
