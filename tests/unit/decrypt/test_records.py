# SPDX-License-Identifier: GPL-2.0-or-later
"""Records of a captured stream, and the sentence on each that is not as it should be."""

import pytest

from nicmodel.decrypt.records import Direction, read_records
from nicmodel.decrypt.stream import Stream
from nicmodel.spec.tls import TlsVersion
from nicmodel.wire.keyfile import Flow, FlowKey
from nicmodel.wire.port import Way
from tests.unit.offload.tls.records import ALERT, plain12, plain13, sealed12, sealed13

SALT, SALT13 = b"salt", b"twelve bytes"
SEQ = (1 << 32) - 40
FIRST = (1 << 64) - 2  # the number of the record wraps on the way
FLOW = Flow(6, b"\x0a\0\0\1", 40000, b"\x0a\0\0\2", 443)
TEXTS = [b"first", b"second" * 50, b"", b"fourth"]


def flow_key(key: bytes, version: TlsVersion = TlsVersion.TLS_1_2) -> FlowKey:
    salt = SALT if version is TlsVersion.TLS_1_2 else SALT13
    return FlowKey("a", Way.OUT, FLOW, version, key, salt, FIRST, SEQ, 3, 7)


def number(index: int) -> int:
    return FIRST + index & (1 << 64) - 1


def sealed(key: bytes, index: int, text: bytes, *, as_record: int | None = None) -> bytes:
    explicit = index.to_bytes(8, "big")
    under = number(index if as_record is None else as_record)
    return sealed12(key, SALT, under, plain12(text, explicit))


def read(key: FlowKey, *segments: tuple[int, bytes]) -> Direction:
    """Each segment is an offset of the stream and bytes; frames are numbered from 1."""
    stream = Stream(key.seq)
    for frame, (at, data) in enumerate(segments, 1):
        stream.add(frame, 100 * frame, key.seq + at & 0xFFFFFFFF, data)
    return read_records(key, stream)


def cut(data: bytes, size: int) -> list[tuple[int, bytes]]:
    return [(at, data[at : at + size]) for at in range(0, len(data), size)]


@pytest.mark.parametrize("size", [16, 32])
def test_all_records_with_numbers_frames_and_times(size: int) -> None:
    key = flow_key(bytes(range(size)))
    stream = b"".join(sealed(key.key, index, text) for index, text in enumerate(TEXTS))
    found = read(key, *cut(stream, 150))
    assert found.problems == []
    assert [record.plaintext for record in found.records] == TEXTS
    assert [record.number for record in found.records] == [FIRST, FIRST + 1, 0, 1]
    assert [record.frames for record in found.records] == [(1,), (1, 2, 3), (3,), (3,)]
    assert [record.time for record in found.records] == [100, 300, 300, 300]
    assert {record.kind for record in found.records} == {23}
    assert found.rest == 0


def test_tls_1_3_tells_the_inner_type() -> None:
    key = flow_key(bytes(range(16)), TlsVersion.TLS_1_3)
    iv_of = SALT13
    first = sealed13(key.key, iv_of, number(0), plain13(b"text\0"))
    second = sealed13(key.key, iv_of, number(1), plain13(b"\1\0", ALERT))
    found = read(key, (0, first + second))
    assert found.problems == []
    assert [(one.kind, one.plaintext) for one in found.records] == [(23, b"text\0"), (21, b"\1\0")]


def test_record_of_another_number_is_found_out() -> None:
    """What a card sends whose context was not told of the resync."""
    key = flow_key(bytes(range(16)))
    good, bad = sealed(key.key, 0, b"first"), sealed(key.key, 2, b"third", as_record=1)
    found = read(key, (0, good), (len(good), sealed(key.key, 1, b"2nd")), (len(good) + 32, bad))
    assert [record.plaintext for record in found.records] == [b"first", b"2nd", None]
    (problem,) = found.problems
    at = SEQ + len(good) + 32 & 0xFFFFFFFF
    assert problem == (
        f"record 0 at TCP sequence number {at} (frame 3) does not authenticate; it does as record "
        f"{number(1)}: the context expected that one"
    )


def test_record_with_a_flipped_bit_says_no_more_than_that() -> None:
    key = flow_key(bytes(range(16)))
    data = bytearray(sealed(key.key, 0, b"first"))
    data[15] ^= 1
    found = read(key, *cut(bytes(data), 20))
    (problem,) = found.problems
    assert problem.endswith(f"at TCP sequence number {SEQ} (frames 1-2) does not authenticate")


def test_corrupt_retransmission_is_told_from_the_record_that_was_right() -> None:
    key = flow_key(bytes(range(16)))
    data = sealed(key.key, 0, b"first" * 10)
    wrong = sealed(key.key, 0, b"first" * 10, as_record=4)
    found = read(key, *cut(data, 40), (40, wrong[40:]))
    assert found.records[0].plaintext == b"first" * 10
    (problem,) = found.problems
    assert problem.startswith("frame 3 sent other bytes for record")
    assert problem.endswith("as sent first it authenticates, as repeated it does not")


def test_right_retransmission_of_a_corrupt_record_counts() -> None:
    key = flow_key(bytes(range(16)))
    data = sealed(key.key, 0, b"first" * 10)
    wrong = bytes(13) + b"\xaa" * (len(data) - 13)
    wrong = data[:13] + wrong[13:]
    found = read(key, *cut(wrong, 40), *cut(data, 30))
    assert found.records[0].plaintext == b"first" * 10
    (problem,) = found.problems
    assert problem.startswith("frames 3-5 sent other bytes")
    assert problem.endswith("as sent first it does not authenticate, as repeated it does")


def test_no_record_where_one_should_begin() -> None:
    key = flow_key(bytes(range(16)))
    good = sealed(key.key, 0, b"first")
    found = read(key, (0, good + b"GET / HTTP/1.1\r\n"))
    assert len(found.records) == 1
    (problem,) = found.problems
    assert "47455420 2f".replace(" ", "") in problem
    assert problem.endswith("is no record header: what follows was not read")


@pytest.mark.parametrize("length", [0, 23, (1 << 14) + 2049, 0xFFFF])
def test_header_with_a_length_that_no_record_has(length: int) -> None:
    key = flow_key(bytes(range(16)))
    found = read(key, (0, b"\x17\3\3" + length.to_bytes(2, "big") + bytes(70000)))
    assert found.records == []
    assert len(found.problems) == 1


def test_what_the_capture_lacks_is_named_and_what_it_ends_in_is_counted() -> None:
    key = flow_key(bytes(range(16)))
    data = sealed(key.key, 0, b"first") + sealed(key.key, 1, b"second")
    assert read(key, (0, data[:-3])).rest == len(sealed(key.key, 1, b"second")) - 3
    found = read(key, (0, data[:40]), (50, data[50:]))
    last = SEQ + 49 & 0xFFFFFFFF
    assert found.problems[0].startswith(f"the capture lacks TCP sequence numbers 0 to {last}")
