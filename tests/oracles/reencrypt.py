# SPDX-License-Identifier: GPL-2.0-or-later
"""Encrypt again what a port's capture has in clear, and compare with what it has of the wire.

It shares no code with the model: pcapng, headers and records are read here, by the formats'
specifications (draft-ietf-opsawg-pcapng, RFC 791, 8200, 9293, RFC 5246 and 5288), and AES-GCM is
OpenSSL's. From the key file it takes the JSON lines.
"""

import json
import socket
import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

_PREFIX, _TAG = 13, 16


@dataclass(frozen=True, slots=True)
class Packet:
    """A frame of a capture, with the name of its interface and its comment."""

    interface: str
    outbound: bool
    data: bytes
    comment: str


@dataclass(slots=True)
class Verdict:
    """What was compared; ``differences`` are sentences, none if both sides agree.

    ``frames`` of encrypted payload with ``octets`` bytes; ``repeated`` of them carry bytes that an
    earlier one had. ``records`` are those that were encrypted here, as far as the capture has them.
    """

    frames: int = 0
    octets: int = 0
    repeated: int = 0
    records: int = 0
    connections: int = 0
    differences: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Segment:
    """Both sides of a frame; ``at`` is where its TCP payload begins."""

    number: int
    clear: bytes
    wire: bytes
    at: int
    end: int
    seq: int


def packets(path: Path) -> Iterator[Packet]:
    """All frames of a little-endian pcapng file."""
    data = path.read_bytes()
    names: list[str] = []
    at = 0
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        body = data[at + 8 : at + length - 4]
        if kind == 1:
            names.append(_options(body[8:]).get(2, b"").decode())
        elif kind == 6:
            interface, _, _, captured, original = struct.unpack_from("<5I", body)
            assert captured == original
            options = _options(body[20 + (captured + 3 & ~3) :])
            comment = options.get(1, b"").decode().rstrip()
            outbound = options.get(2, b"\0")[0] & 3 == 2
            yield Packet(names[interface], outbound, body[20 : 20 + captured], comment)
        at += length


def _options(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= 4:
        code, length = struct.unpack_from("<HH", data)
        if not code:
            break
        found[code] = data[4 : 4 + length]
        data = data[4 + (length + 3 & ~3) :]
    return found


def compare(capture: Path, keys: Path, port: str) -> Verdict:
    """Compare all that ``port`` has sent. Of a frame without a key both sides must be the same."""
    verdict = Verdict()
    lines = [json.loads(line) for line in keys.read_text().splitlines()]
    chosen = [line for line in lines if (line["nic"], line["direction"]) == (port, "out")]
    flows: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for line in chosen:
        flows[_flow_of(line)].append(line)
    sides: dict[str, list[bytes]] = {port: [], f"{port} clear": []}
    for packet in packets(capture):
        if packet.outbound and packet.interface in sides:
            sides[packet.interface].append(packet.data)
    wire, clear = sides[port], sides[f"{port} clear"]
    if len(wire) != len(clear):
        verdict.differences.append(f"{len(wire)} frames on the wire, {len(clear)} in clear")
        return verdict
    segments: dict[tuple[Any, ...], list[_Segment]] = defaultdict(list)
    for number, (before, after) in enumerate(zip(clear, wire, strict=True)):
        parsed = tcp_payload(after)
        if parsed is None or parsed[0] not in flows:
            if before != after:
                verdict.differences.append(f"frame {number} has no key and both sides differ")
            continue
        flow, at, end, seq = parsed
        if before[:at] != after[:at] or before[end:] != after[end:]:
            verdict.differences.append(f"frame {number}: both sides differ outside the payload")
        if end > at:
            segments[flow].append(_Segment(number, before, after, at, end, seq))
    for flow, of_flow in segments.items():
        if len(flows[flow]) > 1:
            raise AssertionError(f"{flow} has several keys: which is for which frame?")
        verdict.connections += 1
        _connection(flows[flow][0], of_flow, verdict)
    return verdict


def _flow_of(line: dict[str, Any]) -> tuple[Any, ...]:
    family = socket.AF_INET6 if ":" in line["src"] else socket.AF_INET
    ends = [socket.inet_pton(family, line[name]) for name in ("src", "dst")]
    return (*ends, line["sport"], line["dport"])


def tcp_payload(frame: bytes) -> tuple[tuple[Any, ...], int, int, int] | None:
    """Flow, begin and end of payload, sequence number of an untagged TCP segment."""
    kind = frame[12:14]
    if kind == b"\x08\x00" and frame[23] == 6:
        ip, source, destination = 14 + (frame[14] & 15) * 4, frame[26:30], frame[30:34]
        end = 14 + int.from_bytes(frame[16:18], "big")
    elif kind == b"\x86\xdd" and frame[20] == 6:
        ip, source, destination = 54, frame[22:38], frame[38:54]
        end = 54 + int.from_bytes(frame[18:20], "big")
    else:
        return None
    sport, dport, seq = struct.unpack_from(">HHI", frame, ip)
    return (source, destination, sport, dport), ip + (frame[ip + 12] >> 4) * 4, end, seq


def _connection(line: dict[str, Any], segments: list[_Segment], verdict: Verdict) -> None:
    """Encrypt what one connection has sent in clear, and compare frame by frame."""
    plain, known = bytearray(), bytearray()  # known: 1 for each byte that was seen
    places = []
    for segment in segments:
        start = (segment.seq - line["seq"] + (1 << 31)) % (1 << 32) - (1 << 31)
        if start < 0:
            if segment.clear != segment.wire:
                verdict.differences.append(f"frame {segment.number} is before the first record")
            continue
        payload = segment.clear[segment.at : segment.end]
        stop = start + len(payload)
        if stop > len(plain):
            plain.extend(bytes(stop - len(plain)))
            known.extend(bytes(stop - len(known)))
        old = known[start:stop]
        if 1 in old:
            verdict.repeated += 1
        if 1 not in old:
            plain[start:stop], known[start:stop] = payload, b"\1" * len(payload)
        elif 0 in old:
            for at in range(start, stop):
                if not known[at]:
                    plain[at], known[at] = payload[at - start], 1
        places.append((segment, start, stop))
    first_gap = known.find(0)
    seen = len(known) if first_gap < 0 else first_gap
    sealed, tags = _encrypt(line, bytes(plain[:seen]), verdict)
    for segment, start, stop in places:
        verdict.frames += 1
        verdict.octets += stop - start
        if stop > len(sealed):
            verdict.differences.append(f"frame {segment.number} is behind a gap")
            continue
        if segment.wire[segment.at : segment.end] != sealed[start:stop]:
            where = _first(segment.wire[segment.at : segment.end], sealed[start:stop])
            verdict.differences.append(
                f"frame {segment.number}: byte {where} of the payload, {start + where} of the "
                "stream, is not what encrypting it gives"
            )
        again = segment.clear[segment.at : segment.end]
        if again != plain[start:stop] and any(
            again[at - start] != plain[at] and not tags[at] for at in range(start, stop)
        ):
            verdict.differences.append(f"frame {segment.number} repeats other bytes in clear")


def _encrypt(line: dict[str, Any], plain: bytes, verdict: Verdict) -> tuple[bytes, bytes]:
    """The stream as it has to be on the wire, and for each byte whether it is of a tag."""
    key, salt = bytes.fromhex(line["key"]), bytes.fromhex(line["salt"])
    out, tags = bytearray(), bytearray()
    number = line["record"]
    while len(out) < len(plain):
        rest = plain[len(out) :]
        if len(rest) < _PREFIX:
            out += rest
            tags += bytes(len(rest))
            break
        kind, version, length = struct.unpack_from(">BHH", rest)
        text = length - 8 - _TAG
        if kind not in (20, 21, 22, 23) or version != 0x0303 or text < 0:
            verdict.differences.append(f"no record begins at byte {len(out)} of the clear stream")
            break
        gcm = Cipher(algorithms.AES(key), modes.GCM(salt + rest[5:_PREFIX])).encryptor()
        gcm.authenticate_additional_data(struct.pack(">QBHH", number, kind, version, text))
        piece = rest[:_PREFIX] + gcm.update(rest[_PREFIX : _PREFIX + text])
        mask = bytes(len(piece))
        if len(rest) >= _PREFIX + text:
            gcm.finalize()
            here = min(_TAG, len(rest) - _PREFIX - text)
            piece += gcm.tag[:here]
            mask += b"\1" * here
        out += piece
        tags += mask
        number = number + 1 & (1 << 64) - 1
        verdict.records += 1
    return bytes(out), bytes(tags)


def _first(one: bytes, other: bytes) -> int:
    """Where two byte strings begin to differ."""
    return next(
        (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )
