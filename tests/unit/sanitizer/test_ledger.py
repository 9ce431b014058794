# SPDX-License-Identifier: GPL-2.0-or-later
"""The nonce ledger: what it remembers, how long, and what it admits to have forgotten."""

from weakref import ref

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nicmodel.offload.tls.stream import Record
from nicmodel.sanitizer.ledger import BEGINNING, KEYS, RANGES, NonceLedger, Ranges

KEY, OTHER = b"k" * 16, b"o" * 16
TAG, ANOTHER = b"t" * 16, b"a" * 16


def record(number: int, tag: bytes | None = TAG, sealed: bytes = b"sealed", aad: int = 0) -> Record:
    pieces = (memoryview(sealed),) if sealed else ()
    nonce = b"salt" + number.to_bytes(8, "big")
    return Record(number, b"p" * 13, nonce, bytes([aad]) * 13, tag, 0, True, pieces)


def test_the_same_again_is_a_retransmission() -> None:
    ledger = NonceLedger()
    assert ledger.note(KEY, 1, record(1)) is None
    assert ledger.note(KEY, 1, record(1)) is None
    assert (ledger.seen, ledger.repeated, ledger.uncompared) == (2, 1, 0)


def test_tag_or_associated_data_tell() -> None:
    ledger = NonceLedger()
    ledger.note(KEY, 1, record(1))
    other = ledger.note(KEY, 2, record(1, ANOTHER))
    assert other is not None
    assert (other.differs, other.before_tisn) == ("plaintext", 1)
    assert ledger.note(KEY, 2, record(1, aad=9)) is not None
    assert ledger.note(OTHER, 2, record(1, ANOTHER)) is None


def test_records_that_never_ended_are_compared_as_far_as_they_go() -> None:
    ledger = NonceLedger()
    ledger.note(KEY, 1, record(1, None, b"abcdef"))
    assert ledger.note(KEY, 1, record(1, None, b"abc")) is None
    assert ledger.note(KEY, 1, record(1, None, b"abcdefgh")) is None
    assert ledger.note(KEY, 1, record(1, TAG, b"abcdefghi")) is None
    assert ledger.note(KEY, 1, record(1, None, b"abcdefghX")) is not None
    assert ledger.note(KEY, 1, record(1, ANOTHER, b"abcdefghi")) is not None
    assert ledger.look(KEY, record(1, None, b"abX")) is not None
    assert ledger.look(KEY, record(1, None, b"")) is None
    assert ledger.uncompared == 0


def test_what_cannot_be_compared_is_counted() -> None:
    begin = b"b" * BEGINNING
    ledger = NonceLedger(sealed_octets=200)
    ledger.note(KEY, 1, record(1, None, begin + b"a" * 60))
    ledger.note(KEY, 1, record(2, None, begin + b"b" * 60))
    assert ledger.note(KEY, 1, record(1, None, begin[1:])) is None
    assert ledger.uncompared == 0
    assert ledger.note(KEY, 1, record(1, None, begin + b"X" * 60)) is None
    assert ledger.uncompared == 1
    # with tags there is no need for bytes
    ledger.note(KEY, 1, record(3, TAG, b"c" * 190))
    ledger.note(KEY, 1, record(4, TAG, b"d" * 190))
    assert ledger.note(KEY, 1, record(3, ANOTHER, b"c" * 190)) is not None
    assert ledger.uncompared == 1


def test_how_a_record_begins_is_remembered_longer_than_all_of_it() -> None:
    """Also where it came in pieces."""
    ledger = NonceLedger(sealed_octets=0)
    pieces = tuple(memoryview(bytes([at] * 40)) for at in range(3))
    text = b"".join(pieces)
    ledger.note(KEY, 1, Record(1, b"", b"salt" + bytes(8), b"", None, 0, True, pieces))
    assert ledger.look(KEY, Record(1, b"", b"salt" + bytes(8), b"", None, 0, True, pieces)) is None
    for size, wrong in ((1, 0), (BEGINNING, BEGINNING - 1), (120, 50)):
        other = bytearray(text[:size])
        other[wrong] ^= 1
        again = Record(1, b"", b"salt" + bytes(8), b"", None, 0, True, (memoryview(other),))
        assert ledger.look(KEY, again) is not None


def test_a_piece_keeps_its_packet() -> None:
    """Records are pieces of large packets: what is bounded is what they hold in memory."""
    ledger = NonceLedger(sealed_octets=1000)
    packets = []
    for number in range(4):
        packet = np.zeros(600, np.uint8)
        packets.append(ref(packet))
        nonce = b"salt" + bytes([number]) * 8
        ledger.note(KEY, 1, Record(number, b"", nonce, b"", None, 0, True, (packet.data[:1],)))
        del packet
    assert [packet() is not None for packet in packets] == [False, False, False, True]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 6), st.booleans()), max_size=60))
def test_packets_of_records_are_judged_as_single_ones(
    packets: list[tuple[int, int, bool]],
) -> None:
    """However runs lie: beside a dictionary of all nonces and tags."""
    ledger, known = NonceLedger(), dict[int, bytes]()
    for first, count, other in packets:
        tag = ANOTHER if other else TAG
        records = [record(number, tag) for number in range(first, first + count)]
        fresh = first > max(known, default=-1)
        assert ledger.fresh(KEY + b"salt", first) is fresh
        assert ledger.rising(KEY + b"salt", 1, first, records) is fresh
        for one in records:
            differs = known.setdefault(one.number, tag) != tag
            assert (ledger.look(KEY, one) is not None) is differs
            if not fresh:
                assert (ledger.note(KEY, 1, one) is not None) is differs
    assert len(ledger) == len(known)
    assert ledger.seen == sum(count for _, count, _ in packets)


def test_memory_is_bounded_and_use_is_remembered() -> None:
    ledger = NonceLedger(records=100)
    for number in range(10_000):
        ledger.note(KEY, 1, record(number))
    assert len(ledger) == 100
    assert ledger.forgotten == 0  # they count up: one range
    assert ledger.note(KEY, 1, record(5, ANOTHER)) is None
    assert ledger.uncompared == 1


def test_forgotten_nonces_are_counted() -> None:
    ledger = NonceLedger(records=10)
    for number in range(500):
        ledger.note(KEY, 1, record(number * 1000))
    assert ledger.forgotten == 500 - 10 - RANGES
    ledger = NonceLedger(records=1)
    for number in range(KEYS + 10):
        ledger.note(number.to_bytes(16, "big"), 1, record(1))
    assert ledger.forgotten == 9


@given(st.lists(st.integers(0, 60), max_size=200))
def test_ranges_are_a_set(numbers: list[int]) -> None:
    ranges = Ranges()
    for number in numbers:
        ranges.add(number)
    assert [number in ranges for number in range(62)] == [n in numbers for n in range(62)]
    assert len(ranges) == len(set(numbers))


def test_numbers_that_start_again_at_0_are_not_taken_for_higher_ones() -> None:
    ledger, last = NonceLedger(), (1 << 64) - 1
    turn = [record(last), record(0)]
    assert not ledger.rising(KEY + b"salt", 1, last, turn)
    assert [ledger.note(KEY, 1, one) for one in turn] == [None, None]
    assert ledger.look(KEY, record(0, ANOTHER)) is not None
