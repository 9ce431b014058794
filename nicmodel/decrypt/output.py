# SPDX-License-Identifier: GPL-2.0-or-later
"""Decrypted records as a capture of plain TCP, which any tool can dissect."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from struct import Struct

from nicmodel.decrypt.records import Direction, ReadRecord
from nicmodel.errors import UserError
from nicmodel.offload.checksum import insert_l3, insert_l4
from nicmodel.offload.parse import ETH_P_IPV4, ETH_P_IPV6, IPPROTO_TCP, parse
from nicmodel.offload.smt.packet import INDEX_BITS
from nicmodel.offload.tls.record import CONTENT_TYPES
from nicmodel.wire.keyfile import Flow
from nicmodel.wire.pcapng import PcapngWriter

_APPLICATION_DATA = CONTENT_TYPES[-1]
_KINDS = dict(zip(CONTENT_TYPES, ("change_cipher_spec", "alert", "handshake", "data"), strict=True))
_SHOWN = 32
"""Most bytes of a record that is no data that its comment has."""

_IPV4 = Struct(">BxHxxHBBxx4s4s")
_IPV6 = Struct(">IHBB16s16s")
_TCP = Struct(">HHIIBBHHH")
_DONT_FRAGMENT = 0x4000
_TTL = 64
_PSH_ACK = 0x18
_WINDOW = 0xFFFF


def write_plain(path: Path, directions: Sequence[Direction]) -> None:
    """Write one frame for each record, in order of time, with a comment on the record.

    Application data are the payload, so the stream is what the application sent. Other records, and
    those that are not authentic, are frames without payload. Records of SMT messages are such
    frames too, and the comment says of which message. Raises UserError.
    """
    sent: dict[Flow, int] = {}
    try:
        with closing(PcapngWriter(path)) as writer:
            interfaces = [
                writer.add_interface(one.key.nic, f"decrypted: {one.key.flow}")
                for one in directions
            ]
            rows = [
                (record.time, number, record)
                for number, direction in enumerate(directions)
                for record in direction.records
            ]
            for time, number, record in sorted(rows, key=lambda row: row[0]):
                key = directions[number].key
                data = record.plaintext if record.kind == _APPLICATION_DATA else None
                acked = sent.get(key.flow.reversed(), 0)
                frame = _frame(key.flow, sent.get(key.flow, 0), acked, data or b"")
                sent[key.flow] = sent.get(key.flow, 0) + len(data or b"")
                writer.packet(interfaces[number], time, frame, key.way, _comment(record))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def _comment(record: ReadRecord) -> str:
    kind = _KINDS.get(record.kind, f"type {record.kind}")
    frames = ", ".join(map(str, record.frames))
    where = f"record {record.number} of frames {frames}"
    if record.message is not None:
        index = record.number & (1 << INDEX_BITS) - 1
        where = f"message {record.message:#x}, record {index} of frames {frames}"
    if record.plaintext is None:
        return f"{where}: {kind}, does not authenticate"
    if record.kind == _APPLICATION_DATA:
        return f"{where}: {len(record.plaintext)} bytes"
    return f"{where}: {kind} {record.plaintext[:_SHOWN].hex()}"


def _frame(flow: Flow, seq: int, ack: int, data: bytes) -> bytes:
    """A TCP segment; sequence numbers begin with 0."""
    length = _TCP.size + len(data)
    if len(flow.src) == 4:
        kind = ETH_P_IPV4
        head = _IPV4.pack(0x45, 20 + length, _DONT_FRAGMENT, _TTL, IPPROTO_TCP, flow.src, flow.dst)
    else:
        kind = ETH_P_IPV6
        head = _IPV6.pack(6 << 28, length, IPPROTO_TCP, _TTL, flow.src, flow.dst)
    numbers = (seq & 0xFFFFFFFF, ack & 0xFFFFFFFF)
    tcp = _TCP.pack(flow.sport, flow.dport, *numbers, 0x50, _PSH_ACK, _WINDOW, 0, 0)
    frame = bytearray(b"\2\0\0\0\0\2\2\0\0\0\0\1" + kind.to_bytes(2, "big") + head + tcp + data)
    headers = parse(frame, len(frame))
    assert headers is not None
    insert_l3(frame, headers)
    insert_l4(frame, headers)
    return bytes(frame)
