# SPDX-License-Identifier: GPL-2.0-or-later
"""The transmit engine, WQE by WQE; ``records`` opens what leaves without the code under test."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nicmodel.frame import Frame, Train
from nicmodel.objects.queue import QueueState
from nicmodel.offload.tls.cipher import RecordCipher, key_digest
from nicmodel.offload.tls.record import Buffer
from nicmodel.offload.tls.stream import Record
from nicmodel.queues.tls_watch import Use
from nicmodel.spec.cqe import CqeSyndrome
from nicmodel.spec.tls import TlsStaticParams
from nicmodel.spec.wqe import WqeOpcode
from nicmodel.trace.events import QueueError
from nicmodel.units import Pdn
from tests.unit.offload.tls.records import ALERT, opened12, plain12, plain13, sealed12, sealed13
from tests.unit.queues.rig import DATA_AT, Rig, data_segment, eth_segment
from tests.unit.queues.tls import (
    KEY,
    SALT,
    TLS13,
    add_dek,
    checksum_is_right,
    destroy_dek,
    destroy_tis,
    headers,
    payloads,
    post_dump,
    post_lso,
    post_params,
    post_progress,
    post_send,
    post_static,
    static_params,
    tls_objects,
)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def record(number: int, text: bytes, kind: int = 23) -> bytes:
    return plain12(text, number.to_bytes(8, "big"), kind)


def stream_of(rig: Rig) -> bytes:
    """All payload bytes that have left, in order."""
    return b"".join(payloads(rig.sent))


def sent_since(rig: Rig, at: int) -> bytes:
    return b"".join(payloads(rig.sent[at:]))


# the three cases of figure 2 of "Designing Transport-Level Encryption for Datacenter Networks"


def test_in_seq(rig: Rig) -> None:
    tisn, dek = tls_objects(rig)
    post_params(rig, tisn, dek, 1)
    post_send(rig, tisn, record(1, b"first"))
    index = post_send(rig, tisn, record(2, b"second"), ce=2)
    rig.ring()
    assert opened12(KEY, SALT, 1, stream_of(rig)) == [b"first", b"second"]
    (cqe,) = rig.cqes()
    assert cqe[0x3C:0x3E] == struct.pack(">H", index)


def test_out_seq_leaves_corrupt(rig: Rig) -> None:
    tisn, dek = tls_objects(rig)
    post_params(rig, tisn, dek, 1)
    post_send(rig, tisn, record(1, b"first"))
    post_send(rig, tisn, record(3, b"third"))
    rig.ring()
    first, third = payloads(rig.sent)
    assert opened12(KEY, SALT, 1, first) == [b"first"]
    with pytest.raises(InvalidTag):
        opened12(KEY, SALT, 3, third)
    # nothing else is wrong: it is record 2 by what the context expects
    assert opened12(KEY, SALT, 2, third) == [b"third"]
    assert rig.sq.state is QueueState.RDY


def test_out_resync_is_right(rig: Rig) -> None:
    tisn, dek = tls_objects(rig)
    post_params(rig, tisn, dek, 1)
    post_send(rig, tisn, record(1, b"first"))
    post_params(rig, tisn, dek, 3)
    post_send(rig, tisn, record(3, b"third"))
    rig.ring()
    first, third = payloads(rig.sent)
    assert opened12(KEY, SALT, 1, first) == [b"first"]
    assert opened12(KEY, SALT, 3, third) == [b"third"]


def test_no_order_between_queues(rig: Rig) -> None:
    """The paper's R4 S4 and R5 S5 of two queues, read R4 R5 S5 S4: S4 is corrupt."""
    tisn, dek = tls_objects(rig)
    post_params(rig, tisn, dek, 4)
    post_params(rig, tisn, dek, 5)
    post_send(rig, tisn, record(5, b"five"))
    post_send(rig, tisn, record(4, b"four"))
    rig.ring()
    five, four = payloads(rig.sent)
    assert opened12(KEY, SALT, 5, five) == [b"five"]
    with pytest.raises(InvalidTag):
        opened12(KEY, SALT, 4, four)


def test_a_retransmission_as_the_driver_does_it(rig: Rig) -> None:
    """``mlx5e_ktls_tx_handle_ooo``: parameters, DUMPs of what precedes, the packet."""
    tisn, dek = tls_objects(rig)
    texts = [bytes((i,)) * 300 for i in range(4)]
    plain = b"".join(record(i, text) for i, text in enumerate(texts))
    sealed = b"".join(sealed12(KEY, SALT, i, record(i, t)) for i, t in enumerate(texts))
    post_params(rig, tisn, dek)
    cuts = [0, 200, 400, 600, len(plain)]
    for start, end in pairwise(cuts):
        post_send(rig, tisn, plain[start:end], seq=start)
    rig.ring()
    assert stream_of(rig) == sealed
    # 400..600 again: in record 1, which begins at 329
    at, size = len(rig.sent), len(record(0, texts[0]))
    post_params(rig, tisn, dek, 1)
    post_dump(rig, tisn, plain[size:350])
    post_dump(rig, tisn, plain[350:400])
    post_send(rig, tisn, plain[400:600], seq=400)
    rig.ring()
    assert sent_since(rig, at) == sealed[400:600]
    # the same record once more: the driver skips static parameters that it has posted already
    at = len(rig.sent)
    post_progress(rig, tisn)
    post_dump(rig, tisn, plain[size:345])
    post_send(rig, tisn, plain[345:], seq=345)
    rig.ring()
    assert sent_since(rig, at) == sealed[345:]


def test_static_parameters_count_from_the_next_progress_parameters_on(rig: Rig) -> None:
    tisn, dek = tls_objects(rig)
    other = add_dek(rig, bytes(32))
    post_params(rig, tisn, dek, 1)
    post_static(rig, tisn, other, 9)
    post_send(rig, tisn, record(1, b"old"))
    post_progress(rig, tisn)
    post_send(rig, tisn, record(9, b"new"))
    rig.ring()
    old, new = payloads(rig.sent)
    assert opened12(KEY, SALT, 1, old) == [b"old"]
    assert opened12(bytes(32), SALT, 9, new) == [b"new"]


def test_lso_is_encrypted_as_a_stream_then_cut_then_summed(rig: Rig) -> None:
    tisn, dek = tls_objects(rig)
    texts = [bytes((65 + i,)) * 4000 for i in range(5)]
    plain = b"".join(record(7 + i, text) for i, text in enumerate(texts))
    post_params(rig, tisn, dek, 7)
    post_lso(rig, tisn, plain, 1448, seq=5, split=(100, 4013, 9000))
    rig.ring()
    (train,) = rig.sent
    assert isinstance(train, Train)
    frames = [bytes(frame.data) for frame in train.frames()]
    assert opened12(KEY, SALT, 7, stream_of(rig)) == texts
    assert all(checksum_is_right(frame) for frame in frames)
    seqs = [struct.unpack_from(">I", frame, 38)[0] for frame in frames]
    assert seqs == [5 + 1448 * i for i in range(len(frames))]
    assert train.origin is None


def test_a_send_is_summed_after_it_was_encrypted(rig: Rig) -> None:
    tisn, dek = tls_objects(rig)
    post_params(rig, tisn, dek)
    post_send(rig, tisn, record(0, b"x" * 101))
    rig.ring()
    (frame,) = rig.sent
    assert isinstance(frame, Frame)
    assert checksum_is_right(bytes(frame.data))


@pytest.mark.parametrize("vlan", [False, True])
def test_headers_need_not_be_inline(rig: Rig, vlan: bool) -> None:
    tisn, dek = tls_objects(rig)
    plain = record(0, b"text" * 20)
    post_params(rig, tisn, dek)
    whole = headers(len(plain)) + plain
    insert = 0x8000 << 16 | 5 if vlan else 0
    body = eth_segment(cs=0xC0, insert=insert) + rig.seg(whole[:60]) + rig.seg(whole[60:])
    rig.post(WqeOpcode.SEND, body, imm=tisn << 8)
    rig.ring()
    data = bytes(next(rig.sent[0].frames()).data)
    assert data[12:18] == (b"\x81\0\0\5\x08\0" if vlan else b"\x08\0\x45\0" + data[16:18])
    assert opened12(KEY, SALT, 0, data[58 if vlan else 54 :]) == [b"text" * 20]


def test_another_protocol_is_encrypted_behind_the_inline_headers(rig: Rig) -> None:
    """SMT: a TCP-shaped header under IP protocol 253, and a record behind it."""
    tisn, dek = tls_objects(rig)
    plain = record(3, b"message" * 500)
    post_params(rig, tisn, dek, 3)
    post_lso(rig, tisn, plain, 1440, proto=253)
    post_send(rig, tisn, record(4, b"short"), proto=253)
    rig.ring()
    assert opened12(KEY, SALT, 3, stream_of(rig)) == [b"message" * 500, b"short"]
    seqs = {struct.unpack_from(">I", f.data, 38)[0] for f in rig.sent[0].frames()}
    assert seqs == {1000}, "the header is replicated"


@pytest.mark.parametrize("key", [KEY, bytes(range(32))])
def test_both_key_sizes_and_control_records(rig: Rig, key: bytes) -> None:
    tisn, dek = tls_objects(rig, key)
    plain = record(0, b"data") + record(1, b"\1\0", ALERT) + record(2, b"")
    post_params(rig, tisn, dek)
    post_send(rig, tisn, plain)
    rig.ring()
    assert opened12(key, SALT, 0, stream_of(rig)) == [b"data", b"\1\0", b""]


def test_tls13_records(rig: Rig) -> None:
    tisn, dek = tls_objects(rig)
    post_params(rig, tisn, dek, 6, version=TLS13, implicit=b"implicit")
    plain = [plain13(b"one"), plain13(b"two" * 50)]
    post_send(rig, tisn, b"".join(plain)[:30])
    post_send(rig, tisn, b"".join(plain)[30:])
    rig.ring()
    sealed = [sealed13(KEY, SALT + b"implicit", 6 + i, one) for i, one in enumerate(plain)]
    assert stream_of(rig) == b"".join(sealed)


def test_contexts_do_not_mix_with_each_other_or_with_plain_traffic(rig: Rig) -> None:
    one, dek = tls_objects(rig)
    two, other = tls_objects(rig, bytes(32))
    first, second = record(0, b"a" * 100), record(0, b"b" * 100)
    post_params(rig, one, dek)
    post_params(rig, two, other)
    for start in range(0, 129, 43):
        post_send(rig, one, first[start : start + 43])
        post_send(rig, 0, b"plain")
        post_send(rig, two, second[start : start + 43])
    rig.ring()
    out = payloads(rig.sent)
    assert opened12(KEY, SALT, 0, b"".join(out[0::3])) == [b"a" * 100]
    assert out[1::3] == [b"plain"] * 3
    assert opened12(bytes(32), SALT, 0, b"".join(out[2::3])) == [b"b" * 100]


def test_a_row_of_equal_sends_with_a_tis_is_no_row_of_plain_sends(rig: Rig) -> None:
    """The queue looks at a row of plain WQEs at once; these look so but for their TIS."""
    tisn, dek = tls_objects(rig)
    post_params(rig, tisn, dek)
    for number in range(20):
        plain = record(number, b"equal")
        body = eth_segment(cs=0xC0) + rig.seg(headers(len(plain)) + plain)
        rig.post(WqeOpcode.SEND, body, imm=tisn << 8, ce=0)
    rig.ring()
    assert opened12(KEY, SALT, 0, stream_of(rig)) == [b"equal"] * 20


STEPS = st.lists(
    st.tuples(st.sampled_from(["send", "lso", "dump"]), st.integers(1, 900)), max_size=8
)


@settings(max_examples=120)
@given(
    st.lists(st.integers(0, 400), min_size=1, max_size=6),
    STEPS,
    st.lists(st.integers(1, 900), max_size=3),
    st.integers(29, 300),
)
@example([0, 0, 0], [("send", 1)] * 8, [], 30)
@example([100], [("dump", 113), ("send", 8), ("dump", 4)], [], 50)
def test_any_cut_of_a_stream_gives_the_same_bytes(
    lengths: list[int], steps: list[tuple[str, int]], split: list[int], mss: int
) -> None:
    rig = Rig()
    tisn, dek = tls_objects(rig)
    plain = [record(i, bytes((i,)) * length) for i, length in enumerate(lengths)]
    stream = b"".join(plain)
    sealed = b"".join(sealed12(KEY, SALT, i, one) for i, one in enumerate(plain))
    post_params(rig, tisn, dek)
    at, expected = 0, b""
    for how, length in [*steps, ("lso", len(stream))]:
        data = stream[at : at + length]
        if not data:
            break
        if how == "dump":
            post_dump(rig, tisn, data)
        else:
            expected += sealed[at : at + length]
            if how == "send":
                post_send(rig, tisn, data, split=tuple(split))
            else:
                post_lso(rig, tisn, data, mss, split=tuple(split))
        at += length
        rig.ring()
    assert rig.sq.state is QueueState.RDY
    assert stream_of(rig) == expected


def test_few_contexts_hold_text_and_all_are_right(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nicmodel.queues.tls_tx.MAX_HOLDING", 2)
    plain = record(0, b"text" * 30)
    tises = []
    for _ in range(5):
        tisn, dek = tls_objects(rig)
        tises.append(tisn)
        post_params(rig, tisn, dek)
        post_send(rig, tisn, plain[:50])
        rig.ring()
    assert len(rig.tls._holding) == 2
    for tisn in tises:
        post_send(rig, tisn, plain[50:])
    rig.ring()
    assert not rig.tls._holding
    out = payloads(rig.sent)
    for first, second in zip(out[:5], out[5:], strict=True):
        assert opened12(KEY, SALT, 0, first + second) == [b"text" * 30]


# what a driver, or whoever writes into its rings, does wrong


def failed(rig: Rig, index: int, syndrome: CqeSyndrome, words: str) -> None:
    """The WQE at ``index`` failed: error CQE, the queue is in error, nothing left."""
    before = len(rig.sent)
    rig.ring()
    cqe = rig.cqes()[-1]
    assert cqe[0x3F] >> 4 == 0xD
    assert cqe[0x37] == syndrome
    assert struct.unpack_from(">H", cqe, 0x3C)[0] == index
    assert rig.sq.state is QueueState.ERR
    (event,) = rig.events_of(QueueError)
    assert words in event.sentence()
    assert len(rig.sent) == before


def test_a_tis_that_does_not_exist(rig: Rig) -> None:
    failed(rig, post_send(rig, 0xABC, b"x"), CqeSyndrome.LOCAL_QP_OP_ERR, "there is no TIS 0xabc")


def test_a_tis_without_tls(rig: Rig) -> None:
    tisn, _ = tls_objects(rig, tls=False)
    failed(rig, post_lso(rig, tisn, b"x", 9), CqeSyndrome.LOCAL_QP_OP_ERR, "without TLS")


def test_data_before_parameters(rig: Rig) -> None:
    tisn, dek = tls_objects(rig)
    post_static(rig, tisn, dek)
    failed(rig, post_send(rig, tisn, b"x"), CqeSyndrome.LOCAL_QP_OP_ERR, "no parameters")


def test_progress_before_static_parameters(rig: Rig) -> None:
    tisn, _ = tls_objects(rig)
    failed(rig, post_progress(rig, tisn), CqeSyndrome.LOCAL_QP_OP_ERR, "no static parameters")


def test_a_key_that_was_destroyed(rig: Rig) -> None:
    tisn, dek = tls_objects(rig)
    post_params(rig, tisn, dek)
    post_send(rig, tisn, record(0, b"x"))
    rig.ring()
    destroy_dek(rig, dek)
    index = post_send(rig, tisn, record(1, b"x"))
    failed(rig, index, CqeSyndrome.LOCAL_QP_OP_ERR, "has been destroyed")


def test_a_tis_that_was_destroyed_and_its_number_used_again(rig: Rig) -> None:
    tisn, dek = tls_objects(rig)
    post_params(rig, tisn, dek)
    rig.ring()
    destroy_tis(rig, tisn)
    rig.objects.tises.clear()
    again, _ = tls_objects(rig)
    assert again == tisn
    index = post_send(rig, tisn, record(0, b"x"))
    failed(rig, index, CqeSyndrome.LOCAL_QP_OP_ERR, "no parameters")


@pytest.mark.parametrize("strange", ["no such key", "another domain"])
def test_keys_that_the_tis_may_not_have(rig: Rig, strange: str) -> None:
    tisn, dek = tls_objects(rig)
    other = add_dek(rig, KEY, pd=Pdn(2)) if strange == "another domain" else dek + 1
    index = post_static(rig, tisn, other)
    words = "of another protection domain" if strange == "another domain" else "there is no DEK"
    failed(rig, index, CqeSyndrome.LOCAL_PROT_ERR, words)


BODY = static_params(1, 0)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (BODY[:0x6F], "static parameters"),
        (b"", "static parameters"),
        (b"\0" + BODY[1:], "inline"),
        (BODY[:6] + b"\0\5" + BODY[8:], "inline"),
        (BODY[:0x70] + b"\x09" + BODY[0x71:], "no TLS static parameters"),
        (BODY[:0x70] + b"\x95" + BODY[0x71:], "TLS version 5"),
        (BODY[:0x73] + b"\2" + BODY[0x74:], "no TLS static parameters"),
    ],
)
def test_malformed_static_parameters(rig: Rig, body: bytes, words: str) -> None:
    tisn, _ = tls_objects(rig)
    index = rig.post(WqeOpcode.UMR, body, opmod=1, imm=tisn << 8)
    failed(rig, index, CqeSyndrome.LOCAL_QP_OP_ERR, words)


def test_malformed_progress_parameters(rig: Rig) -> None:
    index = rig.post(WqeOpcode.SET_PSV, bytes(12), opmod=1, ds=1)
    failed(rig, index, CqeSyndrome.LOCAL_QP_OP_ERR, "progress")


@pytest.mark.parametrize("opmod", [0, 3])
def test_a_set_psv_for_something_else(rig: Rig, opmod: int) -> None:
    index = rig.post(WqeOpcode.SET_PSV, bytes(16), opmod=opmod)
    failed(rig, index, CqeSyndrome.LOCAL_QP_OP_ERR, "SET_PSV")


def test_a_dump_that_is_too_long_or_without_memory(rig: Rig) -> None:
    tisn, dek = tls_objects(rig)
    post_params(rig, tisn, dek)
    index = rig.post(WqeOpcode.DUMP, data_segment(10_241, 0x200, DATA_AT), imm=tisn << 8)
    failed(rig, index, CqeSyndrome.LOCAL_LENGTH_ERR, "DUMP")
    other = Rig()
    tisn, dek = tls_objects(other)
    post_params(other, tisn, dek)
    index = other.post(WqeOpcode.DUMP, data_segment(64, 0x200, 1 << 40), imm=tisn << 8)
    failed(other, index, CqeSyndrome.LOCAL_PROT_ERR, "DMA")


def test_a_dump_without_a_tis(rig: Rig) -> None:
    failed(rig, post_dump(rig, 0, b"x"), CqeSyndrome.LOCAL_QP_OP_ERR, "no TIS 0x0")


def test_many_packets_in_one_wqe_are_not_for_a_tis(rig: Rig) -> None:
    tisn, dek = tls_objects(rig)
    post_params(rig, tisn, dek)
    body = eth_segment() + rig.seg(headers(1) + b"x")
    index = rig.post(WqeOpcode.ENHANCED_MPSW, body, imm=tisn << 8)
    failed(rig, index, CqeSyndrome.LOCAL_QP_OP_ERR, "TIS")


def test_no_header_to_tell_where_the_payload_begins(rig: Rig) -> None:
    tisn, dek = tls_objects(rig)
    post_params(rig, tisn, dek)
    body = eth_segment() + rig.seg(bytes(12) + b"\x08\x06" + bytes(50))
    index = rig.post(WqeOpcode.SEND, body, imm=tisn << 8)
    failed(rig, index, CqeSyndrome.LOCAL_QP_OP_ERR, "where the payload begins")


@settings(max_examples=60)
@given(st.binary(min_size=1, max_size=3000), st.integers(29, 200))
def test_any_bytes_pass_in_their_length(data: bytes, mss: int) -> None:
    """A stream that is no TLS at all: lengths are what the bytes happen to say."""
    rig = Rig()
    tisn, dek = tls_objects(rig)
    post_params(rig, tisn, dek)
    post_lso(rig, tisn, data, mss)
    post_dump(rig, tisn, data)
    post_send(rig, tisn, data)
    rig.ring()
    assert rig.sq.state is QueueState.RDY
    assert len(stream_of(rig)) == 2 * len(data)


# what a watcher hears


@dataclass
class Ears:
    """A ``TlsWatch`` that writes down what it hears."""

    heard: list[tuple[str, int, object]] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)

    def static_params(self, use: Use, params: TlsStaticParams, cipher: RecordCipher) -> None:
        self.heard.append(("static", use.wqe, (params.initial_record_number, cipher.digest)))

    def progress_params(self, use: Use) -> None:
        self.heard.append(("progress", use.wqe, None))

    def dump(self, use: Use, octets: int) -> None:
        self.heard.append(("dump", use.wqe, octets))

    def send(self, use: Use, header: Buffer, octets: int) -> None:
        assert bytes(header) == headers(octets)
        self.heard.append(("send", use.wqe, octets))

    def passed(
        self, use: Use, data: Buffer, records: Sequence[Record], unfinished: Record | None
    ) -> None:
        self.data.append(bytes(data))
        self.records += records
        begun = unfinished.number if unfinished is not None else None
        self.heard.append(("passed", use.wqe, ([r.number for r in records], begun)))

    def gave_up(self, use: Use, record: Record) -> None:
        self.heard.append(("gave up", use.wqe, record.number))

    def refused(self, use: Use, reason: str) -> None:
        self.heard.append(("refused", use.wqe, reason))

    def tis_destroyed(self, tisn: int) -> None:
        self.heard.append(("tis destroyed", tisn, None))

    def dek_destroyed(self, dekn: int) -> None:
        self.heard.append(("dek destroyed", dekn, None))


def test_watchers_hear_what_happens_in_order(rig: Rig) -> None:
    ears = Ears()
    rig.tls.watches = (ears,)
    tisn, dek = tls_objects(rig)
    plain = record(4, b"four" * 9) + record(5, b"five" * 9)
    static = post_static(rig, tisn, dek, 4)
    progress = post_progress(rig, tisn)
    first = post_send(rig, tisn, plain[:80])
    again = post_progress(rig, tisn)
    dump = post_dump(rig, tisn, plain[:70])
    second = post_send(rig, tisn, plain[70:])
    third = post_send(rig, tisn, b"\x17")
    rig.ring()
    destroy_dek(rig, dek)
    destroy_tis(rig, tisn)
    assert ears.heard == [
        ("static", static, (4, key_digest(KEY))),
        ("progress", progress, None),
        ("send", first, 80),
        ("passed", first, ([4], 5)),
        ("gave up", again, 5),
        ("progress", again, None),
        ("dump", dump, 70),
        ("passed", dump, ([4], 5)),
        ("send", second, len(plain) - 70),
        ("passed", second, ([5], None)),
        ("send", third, 1),
        ("passed", third, ([], 6)),
        ("dek destroyed", dek, None),
        ("gave up", third, 6),
        ("tis destroyed", tisn, None),
    ]
    assert ears.data == [plain[:80], plain[:70], plain[70:], b"\x17"]
    sealed = sealed12(KEY, SALT, 5, record(5, b"five" * 9))
    last = ears.records[-1]
    assert b"".join(last.ciphertext) == sealed[13:-16]
    assert last.tag == sealed[-16:]


def test_watchers_hear_why_a_wqe_is_refused(rig: Rig) -> None:
    ears = Ears()
    rig.tls.watches = (ears,)
    index = post_send(rig, 0x77, b"x")
    rig.ring()
    assert ears.heard == [("refused", index, "there is no TIS 0x77")]


def test_frames_say_where_they_are_from_if_asked(rig: Rig) -> None:
    rig.tls.origins = True
    tisn, dek = tls_objects(rig)
    plain = record(0, b"a" * 71) + record(1, b"b" * 71)
    post_params(rig, tisn, dek)
    index = post_lso(rig, tisn, plain[:150], 60)
    second = post_send(rig, tisn, plain[150:])
    rig.ring()
    train, frame = rig.sent
    origin = train.origin
    assert origin is not None
    assert (origin.queue, origin.number, origin.wqe, origin.context) == ("SQ", 7, index, tisn)
    assert [(part.number, part.start, part.end) for part in origin.records] == [
        (0, 0, 100),
        (1, 100, 150),
    ]
    assert (origin.payload_at, origin.step) == (54, 60)
    assert bytes(origin.clear or b"") == plain[:150]
    origin = frame.origin
    assert origin is not None
    assert (origin.wqe, origin.step, bytes(origin.clear or b"")) == (second, 50, plain[150:])
    assert [(part.number, part.start, part.end) for part in origin.records] == [(1, 0, 50)]
