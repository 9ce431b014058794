# SPDX-License-Identifier: GPL-2.0-or-later
"""SMT packets made from the protocol's description alone, right ones and, on demand, wrong ones."""

import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MACS = bytes.fromhex("020000000002020000000001")
PROTOCOLS = {"A": 253, "B": 146}
HEADERS = {"A": 40, "B": 52}
FRAMINGS = {"A": 20, "B": 4}
DATA, GRANT, RESEND, UNKNOWN, BUSY, CUTOFFS, FREEZE, NEED_ACK, ACK = range(0x10, 0x19)


@dataclass(frozen=True)
class End:
    """Keys and addresses of one direction; ``macs``: destination and source of Ethernet."""

    key: bytes = bytes(range(16))
    salt: bytes = b"salt"
    src: str = "10.77.0.1"
    sport: int = 40000
    dst: str = "10.77.0.2"
    dport: int = 4000
    variant: str = "A"
    macs: bytes = MACS

    @property
    def reversed(self) -> "End":
        """The other direction, with the same key."""
        macs = self.macs[6:] + self.macs[:6]
        return End(
            self.key, self.salt, self.dst, self.dport, self.src, self.sport, self.variant, macs
        )


def number_of(variant: str, sender_id: int, index: int) -> int:
    return index if variant == "B" else ((sender_id % (1 << 49)) >> 1) << 16 | index


def room(variant: str, mtu: int = 1500) -> int:
    """M: application bytes of a packet in the middle of a segment."""
    return mtu - 20 - HEADERS[variant] - FRAMINGS[variant]


def framing(
    variant: str, offset: int, octets: int, *, length: int | None = None, ack: bytes = b""
) -> bytes:
    """``length``: that of the message, in the first one of a record."""
    if variant == "B":
        return struct.pack(">I", offset)
    tail = ack or bytes(8) + struct.pack(">I", length or 0)
    return struct.pack(">II", offset, octets) + tail


def record(
    end: End,
    sender_id: int,
    index: int,
    offset: int,
    data: bytes,
    *,
    length: int,
    mtu: int = 1500,
    authenticated: bool = True,
    number: int | None = None,
    nonce: int | None = None,
) -> bytes:
    """One sealed record of a message of ``length`` bytes, as the packets' stream has it."""
    variant, m = end.variant, room(end.variant, mtu)
    cuts = [data[: m - 13]] + [data[at : at + m] for at in range(m - 13, len(data), m)]
    text = b""
    for place, cut in enumerate(cuts):
        told = length if place == 0 and authenticated else None
        # as ranges to resend are counted: all overhead in the first packet, the tag where it lies
        at = offset + place * m - (29 if place else 0)
        tag = min(16, m - len(cut) - (0 if place else 13)) if place == len(cuts) - 1 else 0
        counted = len(cut) + tag - (0 if place else 16)
        text += framing(variant, at, max(counted, 0), length=told) + cut
    number = number_of(variant, sender_id, index) if number is None else number
    return seal(end, number, text, nonce=nonce)


def seal(end: End, number: int, text: bytes, *, nonce: int | None = None) -> bytes:
    """A record of any plaintext; ``nonce`` is the one on the wire, and the one that is used."""
    written = struct.pack(">Q", number if nonce is None else nonce)
    aad = struct.pack(">Q3sH", number, b"\x17\x03\x03", len(text))
    sealed = AESGCM(end.key).encrypt(end.salt + written, text, aad)
    return b"\x17\x03\x03" + struct.pack(">H", 8 + len(sealed)) + written + sealed


def ip(end: End, body: bytes, *, ident: int = 0, ttl: int = 64) -> bytes:
    """An Ethernet frame with ``body`` behind its IP header."""
    head = struct.pack(
        ">BBHHHBBH4s4s",
        *(0x45, 0, 20 + len(body), ident, 0x4000, ttl, PROTOCOLS[end.variant], 0),
        *(socket.inet_aton(end.src), socket.inet_aton(end.dst)),
    )
    total = sum(struct.unpack(">10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    total = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return end.macs + b"\x08\x00" + head[:10] + struct.pack(">H", total) + head[12:] + body


def common(end: End, kind: int, sender_id: int, *, offset: int = 0, doff: int = 0) -> bytes:
    """The first 28 bytes."""
    doff = doff or (HEADERS[end.variant] // 4 << 4)
    if end.variant == "A":
        place = struct.pack(">BBHHH", doff, kind, offset >> 16, 0, offset & 0xFFFF)
        return struct.pack(">HHII", end.sport, end.dport, 0, 0) + place + sender_id.to_bytes(8)
    return (
        struct.pack(">HH7xB", end.sport, end.dport, kind)
        + struct.pack(">BBHHH", doff, 6, 0, 0, 0xB97D)
        + sender_id.to_bytes(8)
    )


def data_header(
    end: End, sender_id: int, length: int, offset: int, *, incoming: int = 10000, resent: int = -1
) -> bytes:
    """DATA up to the record bytes. ``resent``: the packet's place, if software sends it again."""
    head = common(end, DATA, sender_id, offset=offset)
    if end.variant == "A":
        again = (resent >= 0, max(resent, 0))
        return head + struct.pack(">IIHBB", length, incoming, 0, *again)
    flags = 0 if resent < 0 else 3 | resent << 4
    return (
        head
        + struct.pack(">IIQHH", length, incoming, 0, 0, 0)
        + bytes([flags])
        + offset.to_bytes(3, "big")
    )


def packets(
    end: End, sender_id: int, offset: int, sealed: bytes, length: int, *, mtu: int = 1500
) -> list[bytes]:
    """One segment as hardware or GSO sends it."""
    size = mtu - 20 - HEADERS[end.variant]
    cuts = [sealed[at : at + size] for at in range(0, len(sealed), size)]
    head = data_header(end, sender_id, length, offset)
    return [ip(end, head + cut, ident=place) for place, cut in enumerate(cuts)]


def message(
    end: End, sender_id: int, data: bytes, *, mtu: int = 1500, segment: int = 4, **options: bool
) -> list[bytes]:
    """All frames of a message in segments of at most ``segment`` packets."""
    step = segment * room(end.variant, mtu) - 29
    frames: list[bytes] = []
    for index, at in enumerate(range(0, max(len(data), 1), step)):
        piece = data[at : at + step]
        sealed = record(end, sender_id, index, at, piece, length=len(data), mtu=mtu, **options)
        frames += packets(end, sender_id, at, sealed, len(data), mtu=mtu)
    return frames


def resent(end: End, frame: bytes) -> bytes:
    """A packet as software sends it again: identification 0, its place in the header."""
    place = int.from_bytes(frame[18:20], "big")
    head = len(data_header(end, 0, 0, 0))
    sender_id = int.from_bytes(frame[54:62], "big")
    length = int.from_bytes(frame[62:66], "big")
    if end.variant == "A":
        offset = int.from_bytes(frame[48:50] + frame[52:54], "big")
    else:
        offset = int.from_bytes(frame[83:86], "big")
    again = data_header(end, sender_id, length, offset, resent=place)
    return ip(end, again + frame[34 + head :])


def write(path: str, frames: Iterable[bytes], names: tuple[str, ...] = ("a",)) -> None:
    """A pcapng file with these frames, 1 us apart, on the first of the interfaces."""

    def block(kind: int, body: bytes) -> bytes:
        size = 12 + len(body)
        return struct.pack("<II", kind, size) + body + struct.pack("<I", size)

    out = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    for name in names:
        text = name.encode()
        option = struct.pack("<HH", 2, len(text)) + text + bytes(-len(text) % 4)
        out += block(1, struct.pack("<HHI", 1, 0, 0) + option + bytes(4))
    for time, frame in enumerate(frames):
        head = struct.pack("<IIIII", 0, 0, time, len(frame), len(frame))
        out += block(6, head + frame + bytes(-len(frame) % 4))
    with open(path, "wb") as file:
        file.write(out)
