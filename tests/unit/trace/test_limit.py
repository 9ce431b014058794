# SPDX-License-Identifier: GPL-2.0-or-later
"""A flood of events is cut, counted, and told."""

from nicmodel.trace.events import DoorbellIgnored, EventsOmitted, LinkChanged
from nicmodel.trace.limit import BURST, RATE, Limited
from nicmodel.trace.tracer import Event, ListSink, Record

SECOND = 10**9
FAULT = DoorbellIgnored("SQ", 1, "no such queue")


def written(*records: Record) -> list[Record]:
    sink = ListSink()
    limited = Limited(sink)
    for record in records:
        limited.write(record)
    limited.close()
    limited.close()
    return sink.records


def flood(event: Event, count: int, *, nic: str = "a", time: int = 0) -> list[Record]:
    return [Record(time, nic, event)] * count


def test_a_burst_is_written_as_it_is() -> None:
    records = flood(FAULT, BURST)
    assert written(*records) == records


def test_a_flood_is_cut_and_what_is_missing_is_told() -> None:
    records = written(*flood(FAULT, BURST + 500), *flood(FAULT, 2 * RATE, time=SECOND))
    told = [(at, r.event) for at, r in enumerate(records) if isinstance(r.event, EventsOmitted)]
    assert told == [
        (BURST, EventsOmitted("DoorbellIgnored", 500)),
        (BURST + 1 + RATE, EventsOmitted("DoorbellIgnored", RATE)),
    ]
    assert len(records) == BURST + RATE + 2


def test_a_flood_hides_neither_other_events_nor_other_nics() -> None:
    others = [Record(0, "a", LinkChanged(True)), Record(0, "b", FAULT)]
    records = written(*flood(FAULT, 2 * BURST), *others)
    assert [record for record in records if record in others] == others


def test_silence_restores_the_burst_and_no_more() -> None:
    later = flood(FAULT, BURST + 1, time=10 * BURST * SECOND)
    records = written(*flood(FAULT, BURST), *later)
    assert len(records) == 2 * BURST + 1
    assert records[-1].event == EventsOmitted("DoorbellIgnored", 1)
