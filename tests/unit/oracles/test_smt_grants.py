# SPDX-License-Identifier: GPL-2.0-or-later
"""The oracle of grants, on packets made by hand."""

import struct

from tests.oracles import smt_grants
from tests.oracles.capture import Captured
from tests.oracles.smt_frames import GRANT, NEED_ACK, End, common, data_header, framing, ip

END = End()


def look(frames: list[Captured]) -> smt_grants.Grants:
    return smt_grants.look(frames, END.dport)


LENGTH = 20_000


def data(
    offset: int, size: int, *, sender_id: int = 2, tos: int = 0xC0, resent: int = -1
) -> Captured:
    head = data_header(END, sender_id, LENGTH, offset, incoming=10_000, resent=resent)
    frame = ip(END, head + framing("A", offset, size) + bytes(size))
    return Captured(0, False, frame[:15] + bytes([tos]) + frame[16:])


def grant(offset: int, *, sender_id: int = 3, tos: int = 0xE0) -> Captured:
    back = END.reversed
    frame = ip(back, common(back, GRANT, sender_id) + struct.pack(">IB", offset, 1))
    return Captured(0, True, frame[:15] + bytes([tos]) + frame[16:])


def test_what_is_awaited_is_what_was_granted_and_has_not_come() -> None:
    found = look([data(0, 1420), data(1420, 1420), data(0, 1420), grant(15_000)])
    assert (found.wrong, found.octets, found.awaited) == ([], 2840, 15_000 - 2840)


def test_all_requests_together_are_awaited() -> None:
    found = look([data(0, 1000), data(0, 1000, sender_id=4), grant(10_001)])
    assert found.awaited == 9001 + 9000


def test_a_grant_is_never_lowered_nor_beyond_the_message() -> None:
    for offset in (9999, LENGTH + 1):
        assert look([data(0, 1000), grant(offset)]).wrong != []


def test_a_segment_begins_before_what_is_granted_ends() -> None:
    assert look([data(0, 1420), data(8400, 1420), grant(15_000), data(14_999, 1420)]).wrong == []
    assert look([data(0, 1420), data(10_000, 1420)]).wrong != []


def test_priorities_of_data_without_grants_and_of_the_others() -> None:
    ack = ip(END, common(END, NEED_ACK, 2))
    scheduled = data(10_000, 1420, tos=0x20)
    again = data(0, 1420, tos=0xE0, resent=0)
    found = look([data(0, 1420), again, grant(20_000), scheduled, Captured(0, False, ack)])
    assert found.unscheduled == {LENGTH: {6}}
    assert found.control == {7, 0}


def test_others_are_not_looked_at() -> None:
    found = smt_grants.look([data(0, 1420), grant(9999)], END.dport + 1)
    assert found == smt_grants.Grants()
