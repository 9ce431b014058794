# SPDX-License-Identifier: GPL-2.0-or-later
"""Segments put together, however they arrive."""

from hypothesis import given
from hypothesis import strategies as st

from nicmodel.decrypt.stream import WINDOW, Stream

FIRST = (1 << 32) - 700  # the sequence number wraps on the way
DATA = bytes(n * 7 & 0xFF for n in range(3000))


def segments(stream: Stream, spans: list[tuple[int, int]]) -> None:
    for frame, (start, end) in enumerate(spans, 1):
        stream.add(frame, frame * 10, FIRST + start & 0xFFFFFFFF, DATA[max(0, start) : end])


@given(st.lists(st.tuples(st.integers(0, 2900), st.integers(1, 400)), max_size=30), st.randoms())
def test_any_order_and_any_overlap_give_the_same_bytes(
    extra: list[tuple[int, int]], random: st.DataObject
) -> None:
    spans = [(at, at + 250) for at in range(0, 3000, 250)]
    spans += [(at, min(3000, at + length)) for at, length in extra]
    random.shuffle(spans)  # type: ignore[attr-defined]
    stream = Stream(FIRST)
    segments(stream, spans)
    assert stream.data == DATA
    assert stream.gap is None
    assert stream.others == []
    for start in range(0, 3000, 333):
        used = stream.segments(start, min(3000, start + 400))
        covered = {at for one in used for at in range(one.start, one.end)}
        assert covered >= set(range(start, min(3000, start + 400)))


def test_what_comes_before_the_first_record_is_left_out() -> None:
    stream = Stream(FIRST)
    stream.add(1, 0, FIRST - 100, b"p" * 100)
    stream.add(2, 0, FIRST - 4, b"plainTLS")
    assert stream.data == b"nTLS"


def test_gap_is_named_and_filled() -> None:
    stream = Stream(FIRST)
    segments(stream, [(0, 100), (500, 600), (300, 400)])
    assert stream.gap == (100, 300)
    assert len(stream.data) == 100
    segments(stream, [(100, 300)])
    assert stream.gap == (400, 500)
    assert stream.data == DATA[:400]


def test_repetition_with_other_bytes_is_kept_apart() -> None:
    stream = Stream(FIRST)
    stream.add(1, 0, FIRST, b"aaaabbbb")
    stream.add(2, 0, FIRST + 4, b"bbbbcccc")
    stream.add(3, 0, FIRST + 6, b"bXcccc")
    assert stream.data == b"aaaabbbbcccc"
    assert [(one.frame, one.start, one.end) for one in stream.others] == [(3, 6, 12)]
    assert [one.frame for one in stream.segments(0, 8)] == [1]
    assert [one.frame for one in stream.segments(7, 9)] == [1, 2]


def test_nonsense_far_away_is_left_out() -> None:
    stream = Stream(FIRST)
    stream.add(1, 0, FIRST + WINDOW + 1 & 0xFFFFFFFF, b"far")
    assert stream.gap is None
