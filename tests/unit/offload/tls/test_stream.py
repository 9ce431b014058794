# SPDX-License-Identifier: GPL-2.0-or-later
"""A stream of records, however it is cut; the oracle makes each record by itself."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nicmodel.offload.tls.cipher import RecordCipher
from nicmodel.offload.tls.stream import DecryptStream, EncryptStream, Record, RecordStream
from nicmodel.spec.tls import TlsVersion
from tests.unit.offload.tls.records import ALERT, plain12, plain13, sealed12, sealed13

KEY = bytes(range(32))
IV = bytes(range(100, 112))


@dataclass
class Case:
    cipher: RecordCipher
    plain: list[bytes]
    sealed: list[bytes]


def case(version: TlsVersion, texts: list[bytes], first: int, key: bytes = KEY) -> Case:
    cipher = RecordCipher(version, key, IV)
    if version is TlsVersion.TLS_1_2:
        # nonces that are not the record's number: OpenSSL's are not
        plain = [plain12(text, (77 + i).to_bytes(8, "little")) for i, text in enumerate(texts)]
        sealed = [sealed12(key, IV[:4], first + i, one) for i, one in enumerate(plain)]
    else:
        plain = [plain13(text) for text in texts]
        sealed = [sealed13(key, IV, first + i, one) for i, one in enumerate(plain)]
    return Case(cipher, plain, sealed)


def run(stream: RecordStream, data: bytes, cuts: list[int]) -> tuple[bytes, list[Record]]:
    """Feed ``data`` in pieces that end at ``cuts``."""
    out, records = b"", []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in pairwise(edges):
        piece = bytearray(end - start)
        for record in stream.run(data[start:end], piece):
            record.end += start
            records.append(record)
        out += piece
    return out, records


TEXTS = st.lists(st.binary(max_size=60), min_size=1, max_size=5)


@pytest.mark.parametrize("version", TlsVersion)
@settings(max_examples=150)
@given(TEXTS, st.lists(st.integers(0, 500), max_size=12), st.integers(0, 1 << 40))
@example([b"x" * 40], list(range(100)), 0)
@example([b"", b"", b""], [], 5)
def test_any_cut_gives_the_same_bytes(
    version: TlsVersion, texts: list[bytes], cuts: list[int], first: int
) -> None:
    it = case(version, texts, first)
    plain, sealed = b"".join(it.plain), b"".join(it.sealed)
    stream = EncryptStream(it.cipher, first, keep=True)
    out, records = run(stream, plain, cuts)
    assert out == sealed
    assert not stream.begun
    assert stream.number == first + len(texts)
    ends = [sum(map(len, it.plain[: i + 1])) for i in range(len(texts))]
    assert [record.end for record in records] == ends
    assert [record.tag for record in records] == [one[-16:] for one in it.sealed]
    before = 13 if version is TlsVersion.TLS_1_2 else 5
    for record, one in zip(records, it.sealed, strict=True):
        assert b"".join(record.ciphertext) == one[before:-16]
        assert record.prefix == one[:before]
    back, found = run(DecryptStream(it.cipher, first), sealed, cuts[::-1])
    expected = b"".join(p[:-16] + s[-16:] for p, s in zip(it.plain, it.sealed, strict=True))
    assert back == expected
    assert all(record.authentic for record in found)
    assert [(r.number, r.nonce, r.aad, r.tag) for r in found] == [
        (r.number, r.nonce, r.aad, r.tag) for r in records
    ]


@pytest.mark.parametrize("cuts", [[], [30]])
@pytest.mark.parametrize("at", [0, 1, 7, 20, -1])
def test_a_changed_byte_is_not_authentic(cuts: list[int], at: int) -> None:
    it = case(TlsVersion.TLS_1_2, [b"one" * 9, b"two" * 9], 3)
    sealed = bytearray(it.sealed[0])
    sealed[at] ^= 1
    _, records = run(DecryptStream(it.cipher, 3), bytes(sealed) + it.sealed[1], cuts)
    assert [record.authentic for record in records] == [False, True]


def test_another_number_is_not_authentic() -> None:
    it = case(TlsVersion.TLS_1_2, [b"text"], 3)
    out, _ = run(EncryptStream(it.cipher, 4), it.plain[0], [])
    assert out[13:-16] == it.sealed[0][13:-16], "the nonce is that of the stream"
    assert out[-16:] != it.sealed[0][-16:]


def test_types_and_what_is_left() -> None:
    record = plain12(b"\1\0", bytes(8), ALERT)
    stream = EncryptStream(RecordCipher(TlsVersion.TLS_1_2, KEY[:16], IV), 0, keep=True)
    left = []
    for byte in record:
        left.append(stream.left)
        done = stream.run(bytes((byte,)), bytearray(1))
    assert done[0].type == ALERT
    assert left == [None] * 5 + list(range(len(record) - 5, 0, -1))


@pytest.mark.parametrize("length", [0, 1, 23])
def test_a_record_without_room_for_nonce_and_tag_passes_and_counts(length: int) -> None:
    it = case(TlsVersion.TLS_1_2, [b"text"], 8)
    bad = bytes.fromhex("170303") + length.to_bytes(2, "big") + b"\x11" * length
    stream = EncryptStream(it.cipher, 7, keep=True)
    out, records = run(stream, bad + it.plain[0], [])
    assert out == bad + it.sealed[0]
    assert (records[0].number, records[0].tag, records[0].nonce) == (7, None, b"")
    assert stream.number == 9


def test_a_record_that_is_given_up() -> None:
    it = case(TlsVersion.TLS_1_2, [b"text" * 5, b"more"], 8)
    stream = EncryptStream(it.cipher, 8, keep=True)
    assert stream.give_up() is None
    out, _ = run(stream, it.plain[0][:20], [])
    record = stream.give_up()
    assert record is not None
    assert (record.number, record.tag, stream.number) == (8, None, 8)
    assert record.ciphertext[0] == it.sealed[0][13:20] == out[13:]
    assert record.nonce == IV[:4] + it.plain[0][5:13]
    assert run(stream, it.plain[0], [])[0] == it.sealed[0], "the next byte begins a record"


def test_the_longest_length_is_bounded_by_its_field() -> None:
    stream = EncryptStream(RecordCipher(TlsVersion.TLS_1_2, KEY, IV), 0, keep=True)
    data = bytes.fromhex("170303ffff") + bytes(0x20000)
    assert stream.run(data, bytearray(len(data)))[0].end == 5 + 0xFFFF


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize(
    "cuts", [[20], [20, 30], [13], [13, 14, 15], [20, -16], [20, -17], [20, 25, -3]]
)
def test_text_that_is_held_between_two_pieces(cuts: list[int], settled: bool) -> None:
    it = case(TlsVersion.TLS_1_2, [b"0123456789" * 3], 8)
    stream = EncryptStream(it.cipher, 8)
    out, edges = b"", [0, *(cut % len(it.plain[0]) for cut in cuts), len(it.plain[0])]
    for start, end in pairwise(edges):
        piece = bytearray(end - start)
        assert stream.run(it.plain[0][start:end], piece) == []
        out += piece
        if settled:
            stream.settle()
            assert not stream.held
    assert out == it.sealed[0]
    assert not stream.held


def test_only_a_first_piece_is_held() -> None:
    it = case(TlsVersion.TLS_1_2, [bytes(100)], 8)
    stream = EncryptStream(it.cipher, 8)
    held = []
    for start, end in pairwise([0, 40, 60, 80, 129]):
        stream.run(it.plain[0][start:end], bytearray(end - start))
        held.append(stream.held)
    assert held == [27, 0, 0, 0]
