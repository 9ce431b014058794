# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a DATA packet of SMT belongs: message, segment, place; and its record's number."""

from dataclasses import dataclass
from struct import Struct

from nicmodel.offload.parse import parse
from nicmodel.offload.tls.record import EXPLICIT_NONCE, HEADER, TAG, Buffer
from nicmodel.spec.smt import (
    SmtCommonA,
    SmtCommonB,
    SmtDataA,
    SmtDataB,
    SmtFramingA,
    SmtFramingB,
    SmtProtocol,
    SmtType,
)

INDEX_BITS = 16
"""Bits of a record number of variant A that count the records of one message."""

_IDS = (1 << 49) - 1
_U16 = Struct(">H")
_HEADERS = {SmtProtocol.A: SmtDataA.SIZE, SmtProtocol.B: SmtDataB.SIZE}
_FRAMINGS = {SmtProtocol.A: SmtFramingA.SIZE, SmtProtocol.B: SmtFramingB.SIZE}
_RETRANSMIT, _INDEXED = 1, 2
"""Bits of ``SmtDataB.retransmit``."""


@dataclass(frozen=True, slots=True)
class DataPacket:
    """A DATA packet.

    ``sender_id``: RPC id as its sender has it, 64 bit. ``message_length`` and ``offset`` (where the
    segment begins) in bytes of the message. ``index``: place of the packet in the segment.
    ``start``: where record bytes begin in the frame.
    """

    variant: SmtProtocol
    sport: int
    dport: int
    sender_id: int
    message_length: int
    offset: int
    index: int
    retransmit: bool
    start: int


def _data_packet(variant: SmtProtocol, frame: Buffer, at: int) -> DataPacket | None:
    """Read the SMT header at ``at`` of an IPv4 frame; None if it is no whole DATA packet."""
    if len(frame) < at + _HEADERS[variant]:
        return None
    identification = _U16.unpack_from(frame, at - 16)[0]
    if variant is SmtProtocol.A:
        a = SmtDataA.decode(frame, at)
        common: SmtCommonA | SmtCommonB = a.common
        length, offset = a.message_length, a.common.offset_high << 16 | a.common.offset_low
        again = a.retransmit != 0
        index = identification + a.index
    else:
        b = SmtDataB.decode(frame, at)
        common, length, offset = b.common, b.message_length, b.offset_high << 16 | b.offset_low
        again = b.retransmit & _RETRANSMIT != 0
        index = b.retransmit >> 4 if b.retransmit & _INDEXED else identification
    if common.type != SmtType.DATA:
        return None
    # one-packet skbs of variant B may have a longer header than DATA needs
    size = (common.doff >> 4) * 4
    if size < _HEADERS[variant] or len(frame) < at + size:
        return None
    return DataPacket(
        variant,
        common.sport,
        common.dport,
        common.sender_id,
        length,
        offset,
        index & 0xFFFF,
        again,
        at + size,
    )


def find_data(head: Buffer, length: int) -> DataPacket | None:
    """The DATA packet whose headers ``head`` has, of a frame of ``length`` bytes."""
    headers = parse(head, length, sized=False)
    if headers is None or headers.ip_version != 4 or headers.ip_proto not in list(SmtProtocol):
        return None
    if headers.frag or headers.l4_offset != headers.l3_offset + 20:
        return None
    return _data_packet(SmtProtocol(headers.ip_proto), head, headers.l4_offset)


def record_number(variant: SmtProtocol, sender_id: int, index: int) -> int:
    """Number of record ``index`` of a message, 64 bit.

    Variant A: ((id mod 2^49) >> 1) << 16 | index, so both directions of an RPC share numbers (their
    keys differ). Variant B: the index alone, the same for every message.
    """
    if variant is SmtProtocol.B:
        return index
    return (sender_id & _IDS) >> 1 << INDEX_BITS | index


def record_index(variant: SmtProtocol, number: int) -> int:
    """Which record of its message has ``number``."""
    return number if variant is SmtProtocol.B else number & (1 << INDEX_BITS) - 1


def message_of(number: int) -> int:
    """What of a message id is in a record number of variant A: bits 48-1."""
    return number >> INDEX_BITS << 1


def without_framing(variant: SmtProtocol, text: bytes, packet: int) -> bytes:
    """The application's bytes in the plaintext of a record cut into packets.

    ``packet``: most record bytes that each of its packets carries.
    """
    framing = _FRAMINGS[variant]
    first = packet - HEADER - EXPLICIT_NONCE
    out = [text[framing:first]]
    out += [text[at + framing : at + packet] for at in range(first, len(text), packet)]
    return b"".join(out)


OVERHEAD = HEADER + EXPLICIT_NONCE + TAG
"""Bytes of a record beside plaintext."""
