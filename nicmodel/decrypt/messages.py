# SPDX-License-Identifier: GPL-2.0-or-later
"""The SMT messages of one direction, and what is in their records."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from nicmodel.decrypt.records import Direction, ReadRecord, decrypt_record, frame_numbers
from nicmodel.offload.smt.packet import (
    OVERHEAD,
    DataPacket,
    record_index,
    record_number,
    without_framing,
)
from nicmodel.offload.tls.cipher import RecordCipher
from nicmodel.offload.tls.record import CONTENT_TYPES, EXPLICIT_NONCE, HEADER, RecordHeader
from nicmodel.wire.keyfile import FlowKey

_DATA = CONTENT_TYPES[-1]
_WIRE_VERSION = 0x0303


@dataclass(frozen=True, slots=True)
class SmtSegment:
    """A captured DATA packet with the record bytes in it; ``time`` in ns since 1970."""

    frame: int
    time: int
    packet: DataPacket
    data: bytes


@dataclass(slots=True)
class _Record:
    """What there is of one record: its packets by their place, as they were sent first."""

    packets: dict[int, SmtSegment] = field(default_factory=dict)
    others: list[SmtSegment] = field(default_factory=list)

    def add(self, one: SmtSegment) -> None:
        before = self.packets.setdefault(one.packet.index, one)
        if before.data != one.data:
            self.others.append(one)

    def whole(self) -> list[SmtSegment] | None:
        """Its packets in order, None if some are missing."""
        found: list[SmtSegment] = []
        octets = 0
        while (one := self.packets.get(len(found))) is not None:
            found.append(one)
            octets += len(one.data)
            if octets >= HEADER and octets >= HEADER + self._length(found[0].data):
                return found
        return None

    @staticmethod
    def _length(first: bytes) -> int:
        return RecordHeader.parse(first).length if len(first) >= HEADER else 1 << 16


def read_messages(key: FlowKey, segments: Iterable[SmtSegment]) -> Direction:
    """Decrypt all records of which ``segments`` have every packet."""
    out = Direction(key)
    cipher = RecordCipher(key.version, key.key, key.salt.ljust(12, b"\0"))
    messages: dict[int, dict[int, _Record]] = {}
    lengths: dict[int, int] = {}
    for one in segments:
        records = messages.setdefault(one.packet.sender_id, {})
        records.setdefault(one.packet.offset, _Record()).add(one)
        lengths[one.packet.sender_id] = one.packet.message_length
    for sender_id, records in messages.items():
        problems = _read(out, cipher, sender_id, records, lengths[sender_id])
        out.problems += [f"message {sender_id:#x}{problem}" for problem in problems]
    return out


def _read(
    out: Direction, cipher: RecordCipher, sender_id: int, records: dict[int, _Record], length: int
) -> Iterator[str]:
    """Read one message; yields what is wrong with it."""
    known = index = 0
    for offset in sorted(records):
        record = records[offset]
        packets = record.whole()
        if packets is None:
            out.rest += sum(len(one.data) for one in record.packets.values())
            yield (
                f": of the record at offset {offset} the capture lacks packets, "
                f"it has {frame_numbers(one.frame for one in record.packets.values())}"
            )
            continue
        data = b"".join(one.data for one in packets)
        where = f"({frame_numbers(one.frame for one in packets)})"
        variant = packets[0].packet.variant
        header = RecordHeader.parse(data)
        sized = HEADER + header.length == len(data) >= OVERHEAD
        if not sized or header.type not in CONTENT_TYPES or header.version != _WIRE_VERSION:
            yield f" has no record at offset {offset} {where} but {data[:HEADER].hex()}"
            continue
        written = int.from_bytes(data[HEADER : HEADER + EXPLICIT_NONCE], "big")
        if offset != known:  # how many records are missing is known from the next one alone
            index = record_index(variant, written)
        number = record_number(variant, sender_id, index)
        # a receiver takes the nonce from what it expects, not from what is written
        text = decrypt_record(cipher, number, data) if written == number else None
        plaintext = None if text is None else without_framing(variant, text, len(packets[0].data))
        if text is None:
            yield f", record {index} {where} does not authenticate" + (
                f"; it does as record number {written:#x}, which it carries"
                if decrypt_record(cipher, written, data) is not None
                else ""
            )
        for other in record.others:
            yield (
                f", record {index}: frame {other.frame} repeats other bytes than were sent before"
            )
        if plaintext is not None and offset + len(plaintext) > length:
            yield f", record {index} {where} ends behind the message, which has {length} bytes"
        time = max(one.time for one in packets)
        frames = tuple(one.frame for one in packets)
        out.records.append(ReadRecord(number, header.type, time, frames, plaintext, sender_id))
        known = offset + len(plaintext or b"")
        index += 1
