# SPDX-License-Identifier: GPL-2.0-or-later
"""SMT layouts against packets that were made from the protocol's description."""

import pytest

from nicmodel.offload.smt.packet import find_data, message_of, record_index, record_number
from nicmodel.spec.layout import as_construct
from nicmodel.spec.smt import (
    SmtAckA,
    SmtAckEntryA,
    SmtCommonA,
    SmtCutoffsA,
    SmtDataA,
    SmtDataB,
    SmtFramingA,
    SmtGrantA,
    SmtProtocol,
    SmtResendA,
    SmtType,
)
from tests.oracles.smt_frames import ACK, GRANT, End, common, framing, message, resent

A, B = End(), End(variant="B")
HUGE = bytes(400_000)


def test_sizes() -> None:
    sizes = (SmtCommonA, SmtDataA, SmtGrantA, SmtResendA, SmtCutoffsA, SmtDataB)
    assert [one.SIZE for one in sizes] == [28, 40, 33, 37, 62, 52]
    entries = tuple(SmtAckEntryA(client_id=n, client_port=n, server_port=n) for n in range(5))
    ack = SmtAckA(common=SmtCommonA(type=SmtType.ACK), num_acks=5, entries=entries)
    assert len(ack.encode()) == 90
    assert SmtAckA.decode(ack.encode()) == ack


def test_fields_lie_where_the_description_has_them() -> None:
    body = common(A, ACK, 0x1122334455667788, offset=0x00AABBCC)
    read = as_construct(SmtCommonA).parse(body)
    assert (read.sport, read.dport, read.type) == (40000, 4000, SmtType.ACK)
    assert (read.offset_high, read.offset_low) == (0xAA, 0xBBCC)
    assert read.sender_id == 0x1122334455667788
    grant = SmtGrantA.decode(common(A, GRANT, 2) + bytes.fromhex("0001000007"))
    assert (grant.offset, grant.priority) == (65536, 7)
    first = SmtFramingA.decode(framing("A", 5, 6, length=0x12345678))
    assert (first.offset, first.segment_length, first.client_id) == (5, 6, 0)
    assert first.client_port << 16 | first.server_port == 0x12345678


@pytest.mark.parametrize("end", [A, B], ids=["A", "B"])
def test_data_packets_are_found(end: End) -> None:
    frames = message(end, 6, HUGE[:100_000], segment=45)
    found = [find_data(frame, len(frame)) for frame in frames]
    assert all(found)
    first, later = found[0], found[46]
    assert first is not None
    assert later is not None
    assert (first.sport, first.dport, first.sender_id) == (40000, 4000, 6)
    assert (first.message_length, first.offset, first.index) == (100_000, 0, 0)
    assert (later.offset, later.index) == (45 * (1420 if end is A else 1424) - 29, 1)
    assert not first.retransmit
    again = resent(end, frames[3])
    packet = find_data(again, len(again))
    assert packet is not None
    assert (packet.index, packet.retransmit) == (3, True)


@pytest.mark.parametrize("cut", [30, 34, 61, 73])
def test_header_that_is_cut_is_none(cut: int) -> None:
    frame = message(A, 6, b"x")[0]
    assert find_data(frame[:cut], cut) is None


def test_other_packets_are_none() -> None:
    frame = bytearray(message(A, 6, b"x")[0])
    frame[47] = GRANT
    assert find_data(frame, len(frame)) is None
    frame = bytearray(message(A, 6, b"x")[0])
    frame[46] = 0x40  # a data offset that has no room for the header
    assert find_data(frame, len(frame)) is None
    frame = bytearray(message(A, 6, b"x")[0])
    frame[23] = 6
    assert find_data(frame, len(frame)) is None


def test_record_numbers() -> None:
    number = record_number(SmtProtocol.A, 6, 2)
    assert number == 3 << 16 | 2
    assert record_number(SmtProtocol.A, 7, 2) == number
    assert record_number(SmtProtocol.A, (1 << 49) + 6, 2) == number
    assert record_index(SmtProtocol.A, number) == 2
    assert message_of(number) == 6
    assert record_number(SmtProtocol.B, 6, 2) == record_index(SmtProtocol.B, 2) == 2
