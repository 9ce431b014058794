# SPDX-License-Identifier: GPL-2.0-or-later
"""The tracker against a stream whose records the test has laid out itself."""

from dataclasses import dataclass
from itertools import count, pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nicmodel.offload.tls.record import HEADER
from nicmodel.offload.tls.track import Tracker, Walk, after, lengths, plausible
from nicmodel.spec.tls import TlsVersion, TrackerState

LENGTHS = lengths(TlsVersion.TLS_1_2)
FIRST = 0xFFFF_F000
"""Where streams begin: their sequence numbers wrap soon."""
NUMBER = 41
MSS = 1448


@dataclass
class Stream:
    """Records one after the other; ``starts`` has the offset of each header."""

    data: bytes
    starts: list[int]

    @classmethod
    def of(cls, *lengths: int, filler: int = 0xEE) -> "Stream":
        """Records of so many bytes behind their headers."""
        data, starts = b"", []
        for length in lengths:
            starts.append(len(data))
            data += bytes([23, 3, 3, length >> 8, length & 0xFF]) + bytes([filler]) * length
        return cls(data, starts)

    def give(self, tracker: Tracker, start: int, stop: int) -> Walk:
        """Bytes ``start`` to ``stop`` as one segment."""
        return tracker.segment((FIRST + start) & 0xFFFFFFFF, memoryview(self.data)[start:stop])

    def sn(self, record: int) -> int:
        """TCP sequence number of a record's header."""
        return (FIRST + self.starts[record]) & 0xFFFFFFFF


def tracker() -> Tracker:
    """One that expects record ``NUMBER`` first."""
    return Tracker(FIRST, NUMBER, LENGTHS)


@given(
    sizes=st.lists(st.integers(24, 700), min_size=1, max_size=12),
    cuts=st.lists(st.integers(1, 500), min_size=1, max_size=60),
)
def test_any_segmentation_is_one_stretch(sizes: list[int], cuts: list[int]) -> None:
    stream, seen, at = Stream.of(*sizes), tracker(), 0
    for turn in count():
        stop = min(len(stream.data), at + cuts[turn % len(cuts)])
        assert stream.give(seen, at, stop) == Walk(0, None if at else NUMBER)
        at = stop
        if at == len(stream.data):
            break
    assert seen.next_record_tcp_sn == (FIRST + len(stream.data)) & 0xFFFFFFFF
    assert seen.records == len(sizes)
    # what follows a hole has the number after all these
    more = Stream.of(100)
    after_hole = (FIRST + len(stream.data)) & 0xFFFFFFFF
    assert seen.segment(after_hole + 20, memoryview(more.data)[20:]) == Walk()
    assert seen.segment(after_hole, memoryview(more.data)) == Walk(0, NUMBER + len(sizes))


def test_a_hole_inside_a_record_costs_that_record_only() -> None:
    """The documentation's first figure: segment 2 is lost, 3 has the next header."""
    stream, seen = Stream.of(3000, 3000, 3000), tracker()
    assert stream.give(seen, 0, 1448) == Walk(0, NUMBER)
    assert stream.give(seen, 2896, 4344) == Walk(stream.starts[1] - 2896, NUMBER + 1)
    assert stream.give(seen, 4344, 5792) == Walk(0)
    assert stream.give(seen, 1448, 2896) == Walk()  # late
    assert stream.give(seen, 5792, 7240) == Walk(0)
    assert seen.state is TrackerState.TRACKING


def test_a_hole_that_ends_at_a_header_costs_nothing_more() -> None:
    stream, seen = Stream.of(1000, 1000), tracker()
    stream.give(seen, 0, 500)
    assert stream.give(seen, stream.starts[1], len(stream.data)) == Walk(0, NUMBER + 1)


def test_a_header_that_comes_late_is_taken_up() -> None:
    stream, seen = Stream.of(1000, 1000, 1000), tracker()
    stream.give(seen, 0, 900)
    assert stream.give(seen, 1100, 1900) == Walk()
    # record 0 was given up at the hole
    assert stream.give(seen, 900, 1100) == Walk(stream.starts[1] - 900, NUMBER + 1)
    assert stream.give(seen, 1900, 2005) == Walk()
    assert stream.give(seen, 2005, 2500) == Walk(stream.starts[2] - 2005, NUMBER + 2)


@pytest.mark.parametrize("cut", range(1, HEADER))
def test_half_a_header_before_a_hole_is_forgotten(cut: int) -> None:
    stream, seen = Stream.of(1000, 1000, 1000), tracker()
    second = stream.starts[1]
    stream.give(seen, 0, second + cut)
    assert stream.give(seen, 1300, 1400) == Walk()
    assert stream.give(seen, second - 5, 1300) == Walk(5, NUMBER + 1)
    assert stream.give(seen, 1300, 2020) == Walk(0)
    assert seen.next_record_tcp_sn == (FIRST + 3 * 1005) & 0xFFFFFFFF


@pytest.mark.parametrize(("start", "stop"), [(0, 700), (100, 700), (700, 900)])
def test_what_was_seen_disturbs_nothing(start: int, stop: int) -> None:
    stream, seen = Stream.of(2000, 1000), tracker()
    stream.give(seen, 0, 900)
    assert stream.give(seen, start, stop) == Walk()
    assert stream.give(seen, 900, 2100) == Walk(0)


def test_an_overlap_goes_on_where_the_stream_is() -> None:
    stream, seen = Stream.of(2000, 1000), tracker()
    stream.give(seen, 0, 900)
    assert stream.give(seen, 500, 1500) == Walk(400)
    assert stream.give(seen, 1500, 2100) == Walk(0)


def test_a_segment_without_payload_is_nothing() -> None:
    seen = tracker()
    assert seen.segment(FIRST + 50000, memoryview(b"")) == Walk()
    assert seen.state is TrackerState.START


def run(stream: Stream, seen: Tracker, start: int, stop: int) -> list[Walk]:
    """Segments of MSS bytes."""
    cuts = [*range(start, stop, MSS), stop]
    return [stream.give(seen, *cut) for cut in pairwise(cuts)]


def test_a_lost_header_is_searched_for_and_confirmed() -> None:
    stream, seen = Stream.of(*[16000] * 6), tracker()
    hole = stream.starts[1] // MSS * MSS
    run(stream, seen, 0, hole)
    walks = run(stream, seen, hole + MSS, 4 * 16005)
    found = [walk for walk in walks if walk.found]
    assert len(found) == 1
    assert seen.state is TrackerState.TRACKING
    assert not seen.confirmed
    asked = stream.starts.index(seen.hw_resync_tcp_sn - FIRST & 0xFFFFFFFF)
    assert asked == 3  # record 1 was waited for until the longest record had passed
    first = walks.index(found[0])
    assert all(walk == Walk() for walk in walks[:first])
    # records that began before the answer have no number; with it, the next one has
    at = 4 * 16005 + 700
    assert run(stream, seen, 4 * 16005, at) == [Walk()]
    assert seen.confirm(stream.sn(3), NUMBER + 3)
    assert stream.give(seen, at, at + 1448) == Walk()
    assert stream.give(seen, at + 1448, 5 * 16005 - 2) == Walk()
    assert stream.give(seen, 5 * 16005 - 2, 5 * 16005 + 300) == Walk(2, NUMBER + 5)
    assert stream.give(seen, 5 * 16005 + 300, 5 * 16005 + 600) == Walk(0)


@pytest.mark.parametrize("cut", range(HEADER))
def test_the_answer_may_come_inside_a_header(cut: int) -> None:
    stream, seen = Stream.of(100, 100, 100), tracker()
    seen.search()
    at = stream.starts[1] + cut
    assert stream.give(seen, 0, at).found
    assert seen.confirm(stream.sn(0), NUMBER)
    stop = stream.starts[2] + 50
    # a header whose first bytes went by before cannot begin a stretch
    assert stream.give(seen, at, stop) == (
        Walk(stream.starts[2] - at, NUMBER + 2) if cut else Walk(0, NUMBER + 1)
    )


def test_only_the_header_that_was_asked_for_is_confirmed() -> None:
    stream, seen = Stream.of(*[16000] * 5), tracker()
    assert not seen.confirm(0, NUMBER)  # START: nobody asked
    run(stream, seen, 16005 + 1448, 4 * 16005)
    assert seen.state is TrackerState.TRACKING
    asked = seen.hw_resync_tcp_sn
    assert not seen.confirm(asked + 1, 7)
    assert not seen.confirmed
    assert seen.confirm(asked, 7)
    assert not seen.confirm(asked, 9)  # it is known by now


def test_bytes_like_a_header_are_followed_until_they_lie() -> None:
    """A false header in a payload: asked for, then found out, then the next one is real."""
    seen = tracker()
    seen.search()
    lie = bytes([23, 3, 3, 4, 0])
    payload = bytes(50) + lie + bytes(2000)
    walk = seen.segment(1000, memoryview(payload)[:1000])
    assert walk.found
    assert seen.hw_resync_tcp_sn == 1050
    assert not seen.segment(2000, memoryview(payload)[1000:]).found
    assert seen.state is TrackerState.SEARCHING
    assert not seen.confirm(1050, 1)
    real = Stream.of(300, 300)
    walk = seen.segment(5000, memoryview(bytes(10) + real.data))
    assert walk.found
    assert (seen.hw_resync_tcp_sn, seen.records) == (5010, 2)


def test_a_header_that_lies_ends_the_synchronization() -> None:
    stream, seen = Stream.of(1000), tracker()
    assert seen.segment(FIRST, memoryview(stream.data + bytes(100))) == Walk()
    assert seen.state is TrackerState.SEARCHING
    assert not seen.confirmed


def test_a_search_wants_the_whole_header_in_one_segment() -> None:
    """Software logs the headers that begin in the segment which was marked."""
    seen, stream = tracker(), Stream.of(100, 100)
    seen.search()
    data = bytes(20) + stream.data
    assert not seen.segment(0, memoryview(data)[:24]).found
    assert seen.state is TrackerState.SEARCHING
    assert seen.segment(24, memoryview(data)[24:]).found
    assert seen.hw_resync_tcp_sn == 20 + 105


@pytest.mark.parametrize(
    ("header", "good"),
    [
        (bytes([23, 3, 3, 0, 24]), True),
        (bytes([20, 3, 3, 0x40, 0x18]), True),
        (bytes([23, 3, 3, 0, 23]), False),
        (bytes([23, 3, 3, 0x40, 0x19]), False),
        (bytes([24, 3, 3, 1, 0]), False),
        (bytes([19, 3, 3, 1, 0]), False),
        (bytes([23, 3, 4, 1, 0]), False),
        (bytes([23, 2, 3, 1, 0]), False),
    ],
)
def test_plausible(header: bytes, good: bool) -> None:
    assert plausible(header, LENGTHS) is good


def test_after_wraps() -> None:
    assert after(5, 0xFFFF_FFFB) == 10
    assert after(0xFFFF_FFFB, 5) == -10


@settings(max_examples=200)
@given(seed=st.integers(0, 1 << 32))
def test_hostile_segments_are_bounded(seed: int) -> None:
    """Any bytes at any place: spans lie in the payload, in order, and nothing is kept of it."""
    random = Random(seed)
    seen = Tracker(random.getrandbits(32), random.getrandbits(64), LENGTHS)
    seq = seen.next_record_tcp_sn
    pieces = [bytes([23, 3, 3, 0, 24]), bytes([22, 3, 3, 0, 30]), b"\3\3", bytes(24), b"\x17"]
    for _ in range(30):
        payload = b"".join(random.choices(pieces, k=random.randrange(1, 400)))
        walk = seen.segment(seq, memoryview(payload))
        assert walk.start < len(payload)
        assert walk.number is None or walk.start >= 0
        assert len(seen._carry) < HEADER
        seq = (seq + random.choice([len(payload), 0, -50, 700, 20000, 1 << 31])) & 0xFFFFFFFF
        if random.random() < 0.1:
            seen.confirm(seen.hw_resync_tcp_sn, random.getrandbits(64))


def test_a_payload_of_headers_is_searched_once() -> None:
    """Each false header hides more of the payload, so the work is linear."""
    seen = tracker()
    seen.search()
    calls = 0
    real = Tracker._find

    def counted(self: Tracker, payload: memoryview, at: int) -> int:
        nonlocal calls
        calls += 1
        return real(self, payload, at)

    payload = bytes([23, 3, 3, 0, 24]) * 2000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tracker, "_find", counted)
        seen.segment(0, memoryview(payload))
    assert calls <= len(payload) // (24 + HEADER) + 1
