# SPDX-License-Identifier: GPL-2.0-or-later
"""The nonce ledger: what it remembers, how long, and what it admits to have forgotten."""

from hypothesis import given
from hypothesis import strategies as st

from nicmodel.offload.tls.stream import Record
from nicmodel.sanitizer.ledger import KEYS, RANGES, NonceLedger, Ranges

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
    assert (other.differs, other.before.tisn) == ("plaintext", 1)
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
    ledger = NonceLedger(sealed_octets=100)
    ledger.note(KEY, 1, record(1, None, b"a" * 60))
    ledger.note(KEY, 1, record(2, None, b"b" * 60))
    assert ledger.note(KEY, 1, record(1, None, b"X" * 60)) is None
    assert ledger.uncompared == 1
    # with tags there is no need for bytes
    ledger.note(KEY, 1, record(3, TAG, b"c" * 90))
    ledger.note(KEY, 1, record(4, TAG, b"d" * 90))
    assert ledger.note(KEY, 1, record(3, ANOTHER, b"c" * 90)) is not None
    assert ledger.uncompared == 1


def test_a_piece_keeps_its_packet() -> None:
    """Records are pieces of large packets: what is bounded is what they hold in memory."""
    ledger = NonceLedger(sealed_octets=1000)
    for number in range(4):
        packet = memoryview(bytearray(600))
        piece = Record(
            number, b"", b"salt" + bytes([number]) * 8, b"", None, 0, True, (packet[:1],)
        )
        ledger.note(KEY, 1, piece)
    assert sum(entry.sealed is not None for entry in ledger._entries.values()) == 1


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
