# SPDX-License-Identifier: GPL-2.0-or-later
"""Read every SMT message of a capture of variant A, and say what breaks the protocol's promises.

It shares no code with the model or the kernel module: it was written from the protocol's
description. From key files it takes the JSON lines.
"""

import json
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.oracles.reencrypt import packets as frames_of

PROTOCOL = 253
HEADER, FRAMING, LEAD, TAG = 40, 20, 13, 16
OVERHEAD = LEAD + TAG
RECORD_MOST = 16384
LONGEST = 1_000_000
DATA = 0x10
SIZES = {0x11: 33, 0x12: 37, 0x13: 28, 0x14: 28, 0x15: 62, 0x16: 28, 0x17: 28, 0x18: 90}
"""Bytes of the other types."""

REORDERED = 1024
"""So many requests may a first packet be behind the newest one: as many are under way at most."""

Ends = tuple[bytes, int, bytes, int]
"""Source address and port, destination address and port."""


@dataclass(frozen=True, slots=True)
class Key:
    """Of one direction; a port that is 0 is any."""

    ends: Ends
    key: bytes
    salt: bytes

    def covers(self, ends: Ends) -> bool:
        return (self.ends[0], self.ends[2]) == (ends[0], ends[2]) and all(
            mine in (0, theirs)
            for mine, theirs in ((self.ends[1], ends[1]), (self.ends[3], ends[3]))
        )


@dataclass(slots=True)
class Verdict:
    """What there was; ``wrong`` are sentences, none if all is as it should be.

    ``messages``: text of each message that is whole and all of whose records are authentic.
    ``records`` were decrypted, ``incomplete`` lack packets in this capture (a lost packet that
    nobody needed any more). ``keyless``: DATA packets for which there is no key; in ``unread``
    segments of these a record begins. ``types`` counts packets.
    """

    messages: dict[tuple[Ends, int], bytes] = field(default_factory=dict)
    records: int = 0
    incomplete: int = 0
    keyless: int = 0
    unread: int = 0
    spilled: int = 0
    resent: int = 0
    types: dict[int, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Segment:
    """Packets of one segment by their place, and the frame numbers."""

    packets: dict[int, bytes] = field(default_factory=dict)
    frames: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Message:
    length: int
    segments: dict[int, _Segment] = field(default_factory=dict)


def read_keys(paths: Iterable[Path]) -> list[Key]:
    """Keys of SMT in these files."""
    found = []
    for path in paths:
        for line in path.read_text().splitlines():
            found += list(_key(json.loads(line)))
    return found


def _key(line: dict[str, Any]) -> Iterator[Key]:
    if line["protocol"] == PROTOCOL:
        src, dst = (socket.inet_aton(line[name]) for name in ("src", "dst"))
        ends = (src, line.get("sport", 0), dst, line.get("dport", 0))
        yield Key(ends, bytes.fromhex(line["key"]), bytes.fromhex(line["salt"]))


def judge(
    capture: Path,
    keys: Iterable[Key],
    *,
    mtus: tuple[int, ...] = (1500,),
    authenticated: bool = True,
    outbound: bool | None = None,
) -> Verdict:
    """Read ``capture``; the path had one of ``mtus``.

    ``authenticated``: records must have the length of their message. ``outbound``: only frames of
    that direction; a NIC's own sends are what its wire has not damaged.
    """
    return judge_frames(
        (
            (number, one.data)
            for number, one in enumerate(frames_of(capture), 1)
            if outbound is None or one.outbound == outbound
        ),
        keys,
        mtus=mtus,
        authenticated=authenticated,
    )


def judge_frames(
    frames: Iterable[tuple[int, bytes]],
    keys: Iterable[Key],
    *,
    mtus: tuple[int, ...] = (1500,),
    authenticated: bool = True,
) -> Verdict:
    """Read Ethernet frames with their numbers."""
    return _Court(list(keys), mtus, authenticated).hear(frames)


class _Court:
    def __init__(self, keys: list[Key], mtus: tuple[int, ...], authenticated: bool) -> None:
        self.keys = keys
        self.rooms = sorted(mtu - 20 - HEADER - FRAMING for mtu in mtus)
        self.room = self.rooms[0]
        self.authenticated = authenticated
        self.verdict = Verdict()
        self.messages: dict[tuple[Ends, int], _Message] = {}
        self.sealed: dict[tuple[bytes, bytes], bytes] = {}
        self.newest: dict[Ends, int] = {}

    def wrong(self, what: str) -> None:
        self.verdict.wrong.append(what)

    def hear(self, frames: Iterable[tuple[int, bytes]]) -> Verdict:
        for number, frame in frames:
            if frame[12:14] == b"\x08\x00" and len(frame) >= 34 and frame[23] == PROTOCOL:
                self._packet(number, frame)
        for (ends, sender_id), message in self.messages.items():
            keys = [key for key in self.keys if key.covers(ends)]
            if keys:
                self._message(ends, sender_id, message, keys)
            else:
                segments = message.segments.values()
                self.verdict.keyless += sum(len(segment.packets) for segment in segments)
                self.verdict.unread += sum(
                    segment.packets.get(0, b"").startswith(b"\x17\x03\x03") for segment in segments
                )
        return self.verdict

    def _packet(self, number: int, frame: bytes) -> None:
        end = 14 + int.from_bytes(frame[16:18], "big")
        body = frame[34:end]
        if frame[14] != 0x45 or end > len(frame) or len(body) < 28:
            self.wrong(f"frame {number}: the IP header is not as SMT has it")
            return
        sport, dport = struct.unpack_from(">HH", body)
        kind = body[13]
        (sender_id,) = struct.unpack_from(">Q", body, 20)
        types = self.verdict.types
        types[kind] = types.get(kind, 0) + 1
        if sport == 0 or dport == 0:
            self.wrong(f"frame {number}: port 0")
        if kind != DATA:
            if SIZES.get(kind) != len(body):
                self.wrong(f"frame {number}: type {kind:#x} with {len(body)} bytes")
            return
        if body[12] != 0xA0 or len(body) <= HEADER:
            self.wrong(f"frame {number}: DATA with doff {body[12]:#x} and {len(body)} bytes")
            return
        length, _incoming = struct.unpack_from(">II", body, 28)
        if length > LONGEST:
            self.wrong(f"frame {number}: a message of {length} bytes")
            return
        offset = int.from_bytes(body[14:16] + body[18:20], "big")
        place = int.from_bytes(frame[18:20], "big") + body[39]
        self.verdict.resent += body[38] != 0
        ends = (frame[26:30], sport, frame[30:34], dport)
        # the side of a server port sends odd ids
        if (sender_id & 1) != (sport < 32768):
            self.wrong(f"frame {number}: id {sender_id:#x} from port {sport}")
        message = self.messages.get((ends, sender_id))
        if message is None:
            message = self.messages[ends, sender_id] = _Message(length)
            if not sender_id & 1:
                if sender_id < self.newest.get(ends, 0) - 2 * REORDERED:
                    self.wrong(f"frame {number}: id {sender_id:#x} is far behind the newest one")
                self.newest[ends] = max(sender_id, self.newest.get(ends, 0))
        if message.length != length:
            self.wrong(f"frame {number}: the length of message {sender_id:#x} has changed")
        segment = message.segments.setdefault(offset, _Segment())
        payload = body[HEADER:]
        if segment.packets.setdefault(place, payload) != payload:
            self.wrong(f"frame {number}: packet {place} at {offset} repeats other bytes")
        segment.frames.append(number)

    def _message(self, ends: Ends, sender_id: int, message: _Message, keys: list[Key]) -> None:
        text = b""
        index = 0
        lacking = False
        for offset in sorted(message.segments):
            segment = message.segments[offset]
            where = f"message {sender_id:#x}, record {index} (frames {segment.frames[:5]})"
            stream = self._stream(segment, where)
            if stream is None:
                self.verdict.incomplete += 1
                lacking = True
                index += 1
                continue
            written = int.from_bytes(stream[5:13], "big")
            if offset > len(text) and not lacking:
                lacking = True  # whole records are missing here
                self.verdict.incomplete += 1
            if lacking:
                index = written & 0xFFFF
            number = ((sender_id % (1 << 49)) >> 1) << 16 | index
            if written != number:
                self.wrong(f"{where}: the nonce on the wire is {written:#x}, not {number:#x}")
            plain = self._open(stream, number, keys, where)
            if plain is None:
                lacking = True
            else:
                data = self._unframe(plain, offset, message.length, where, segment)
                last = offset + len(data) == message.length
                if not last and (len(data) + OVERHEAD) % self.room:
                    self.wrong(f"{where}: {len(data)} bytes, and not the last record")
                if not lacking and offset != len(text):
                    self.wrong(f"{where}: begins at {offset}, the one before ends at {len(text)}")
                text += data
            index += 1
        if not lacking and len(text) == message.length:
            self.verdict.messages[ends, sender_id] = text
        elif not lacking:
            self.verdict.incomplete += 1
        if len(text) > message.length:
            self.wrong(f"message {sender_id:#x} has {len(text)} of {message.length} bytes")

    def _stream(self, segment: _Segment, where: str) -> bytes | None:
        """The record, if all its packets are there."""
        first = segment.packets.get(0, b"")
        if len(first) < 5:
            return None
        # what a sender has of the path's MTU: no less than it puts into one packet
        fits = [room for room in self.rooms if room + FRAMING >= len(first)]
        self.room = fits[0] if fits else self.rooms[-1]
        kind, version, length = struct.unpack_from(">BHH", first)
        if (kind, version) != (0x17, 0x0303):
            self.wrong(f"{where}: no record but {first[:5].hex()}")
            return None
        total = 5 + length
        cut = self.room + FRAMING
        count = -(-total // cut)
        for place, packet in segment.packets.items():
            want = cut if place < count - 1 else total - cut * (count - 1)
            if place >= count or len(packet) != want:
                self.wrong(f"{where}: packet {place} of {count} has {len(packet)} bytes")
                return None
        if len(segment.packets) < count:
            return None
        return b"".join(segment.packets[place] for place in range(count))

    def _open(self, stream: bytes, number: int, keys: list[Key], where: str) -> bytes | None:
        octets = len(stream) - OVERHEAD
        if not FRAMING <= octets <= RECORD_MOST:
            self.wrong(f"{where}: {octets} bytes in a record")
            return None
        counted = struct.pack(">Q", number)
        aad = counted + b"\x17\x03\x03" + struct.pack(">H", octets)
        for key in keys:
            try:
                plain = AESGCM(key.key).decrypt(key.salt + counted, stream[LEAD:], aad)
            except InvalidTag:
                continue
            before = self.sealed.setdefault((key.key, key.salt + counted), stream)
            if before != stream:
                self.wrong(f"{where}: this key and nonce have encrypted something else")
            self.verdict.records += 1
            return plain
        self.wrong(f"{where}: no key authenticates it")
        return None

    def _unframe(
        self, plain: bytes, offset: int, length: int, where: str, segment: _Segment
    ) -> bytes:
        """The data, with every framing header looked at."""
        out = []
        at = place = 0
        room = self.room - LEAD
        while at < len(plain):
            piece = plain[at + FRAMING : at + FRAMING + room]
            if at + FRAMING > len(plain) or (place and not piece):
                self.wrong(f"{where}: half a framing header, or one without data")
                break
            said, counted, ack, ports = struct.unpack_from(">IIQI", plain, at)
            meant = offset + place * self.room - (OVERHEAD if place else 0)
            if said != meant:
                self.wrong(f"{where}: framing header {place} says offset {said}, not {meant}")
            octets = len(segment.packets[place]) - FRAMING - (0 if place else OVERHEAD)
            if self.authenticated and counted != max(octets, 0):
                self.wrong(f"{where}: framing header {place} says {counted} bytes, not {octets}")
            if self.authenticated and not place and not ack and ports != length:
                self.wrong(f"{where}: says that the message has {ports} bytes, not {length}")
            out.append(piece)
            at += FRAMING + len(piece)
            room = self.room
            place += 1
        self.verdict.spilled += len(segment.packets) > place
        return b"".join(out)
