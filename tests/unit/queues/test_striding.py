# SPDX-License-Identifier: GPL-2.0-or-later
"""Striding receive queues and UMR, read as ``en_rx.c`` reads them."""

import struct
import time
from array import array
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nicmodel.objects.mkey import TranslatedKey
from nicmodel.objects.queue import QueueState, RqConfig, Strides, WqConfig, WqType
from nicmodel.queues.striding import StridingRq
from nicmodel.spec.cqe import Cqe, CqeOpcode, CqeSyndrome, ErrCqe
from nicmodel.trace.events import QueueError
from nicmodel.units import CounterSet, Cqn, GuestAddr, Mkey, Pdn, Rqn
from tests.unit.queues.rig import DBR_AT, LOG_RQ, RQ_AT, SQ_AT, Rig, pages

UMR_LKEY = 0x300
PAGE = 4096
POOL = 0x40000
"""Where the pages of the receive buffers lie."""
NUMBER, STRIDE = 8, 256
WQE_BYTES = NUMBER * STRIDE
PAGES_PER_WQE = 1
ENTRIES = 16
RQ_DBR = DBR_AT + 0x60
UMR = 0x25


def page_of(entry: int) -> int:
    """Entries are scattered over the pool, last first."""
    return POOL + (ENTRIES - entry) * PAGE


class Striding(Rig):
    """A rig with a striding queue of 16 WQEs with 8 strides of 256 bytes, one page each."""

    def __init__(self, *, shift: bool = False, lead: int = 64) -> None:
        super().__init__()
        self.key = TranslatedKey(
            Mkey(UMR_LKEY),
            Pdn(1),
            0,
            (ENTRIES + 1) * PAGE,
            12,
            True,
            False,
            array("Q", [page_of(entry) | 2 for entry in range(ENTRIES + 1)]),
        )
        self.keys.translated[UMR_LKEY] = self.key
        strides = Strides(3, 8, shift)
        wq = WqConfig(
            WqType.LINKED_LIST_STRIDING_RQ,
            LOG_RQ,
            5,
            Pdn(1),
            GuestAddr(RQ_DBR),
            pages(RQ_AT, 32 << LOG_RQ),
            strides,
        )
        self.strided = StridingRq(
            RqConfig(Rqn(9), Cqn(5), CounterSet(1), False, False, wq),
            strides,
            self.memory,
            self.gather,
            self.cq,
            self.tracer,
        )
        self.strided.modify(QueueState.RDY)
        self.lead = lead
        for index in range(1 << LOG_RQ):
            self.write(index, index + 1 & 15)
        self.seen = 0

    def write(
        self, index: int, following: int, *, count: int = WQE_BYTES, lkey: int = UMR_LKEY
    ) -> None:
        addr = index * PAGE + self.lead
        self.memory.write(
            RQ_AT + index * 32,
            struct.pack(">HH12xIIQ", 0, following, count | 0x80000000, lkey, addr),
        )

    def supply(self, count: int) -> None:
        self.memory.store_be32(RQ_DBR, count)

    def take(self, *frames: bytes, strip: bool = False) -> list[bytes]:
        """Let the queue receive; the new CQEs."""
        cqe = bytearray(Cqe(opcode=CqeOpcode.RESP_SEND, rss_hash_result=77).encode())
        sums = [100 + number for number in range(len(frames))]
        before = self.cq.producer
        self.strided.receive([memoryview(frame) for frame in frames], cqe, sums, strip)
        return self.cqes()[-(self.cq.producer - before) or len(self.cqes()) :]

    def data(self, cqe: Cqe) -> bytes:
        """The frame that a CQE names, through the pages as the driver knows them."""
        length = cqe.byte_cnt & 0xFFFF
        offset = cqe.wqe_counter * STRIDE + self.lead
        out = b""
        entry = cqe.wqe_id
        while len(out) < length:
            entry, at = cqe.wqe_id + offset // PAGE, offset % PAGE
            piece = min(length - len(out), PAGE - at)
            out += self.memory.read(page_of(entry) + at, piece)
            offset += piece
        return out


def fields(data: bytes) -> tuple[int, int, int, int]:
    """wqe_id, stride index, strides and length."""
    cqe = Cqe.decode(data)
    return cqe.wqe_id, cqe.wqe_counter, cqe.byte_cnt >> 16, cqe.byte_cnt & 0xFFFF


def frame(length: int, seed: int = 1) -> bytes:
    return bytes((seed * 31 + at * 7) & 0xFF for at in range(length))


def failed(rig: Striding, syndrome: CqeSyndrome) -> None:
    """The queue is in error, and the last CQE says why."""
    cqe = ErrCqe.decode(rig.cqes()[-1])
    assert (cqe.opcode, cqe.syndrome) == (CqeOpcode.RESP_ERR, syndrome)
    assert rig.strided.state is QueueState.ERR
    assert rig.events_of(QueueError)


def test_frames_share_a_wqe_and_cqes_say_where_they_are() -> None:
    rig = Striding()
    rig.supply(1)
    frames = [frame(60), frame(256, 2), frame(257, 3)]
    cqes = rig.take(*frames)
    assert [fields(cqe) for cqe in cqes] == [(0, 0, 1, 60), (0, 1, 1, 256), (0, 2, 2, 257)]
    assert [rig.data(Cqe.decode(cqe)) for cqe in cqes] == frames
    assert [Cqe.decode(cqe).check_sum for cqe in cqes] == [100, 101, 102]
    assert {Cqe.decode(cqe).rss_hash_result for cqe in cqes} == {77}


def test_a_frame_that_the_rest_cannot_hold_ends_the_wqe_with_a_filler() -> None:
    rig = Striding()
    rig.supply(2)
    cqes = rig.take(frame(7 * STRIDE), frame(300))
    first, filler, second = map(fields, cqes)
    assert first == (0, 0, 7, 7 * STRIDE)
    assert filler == (0, 7, 0x8000 | 1, 0)
    assert second == (1, 0, 2, 300)


def test_a_frame_may_span_pages_of_its_wqe() -> None:
    rig = Striding(lead=PAGE - 100)
    rig.supply(1)
    (cqe,) = rig.take(frame(700))
    assert rig.data(Cqe.decode(cqe)) == frame(700)


def test_wqes_are_used_in_the_order_of_their_links() -> None:
    rig = Striding()
    rig.write(0, 9)
    rig.write(9, 4)
    rig.supply(3)
    cqes = rig.take(*[frame(WQE_BYTES)] * 3)
    assert [fields(cqe)[0] for cqe in cqes] == [0, 9, 4]


def test_a_link_is_read_when_it_is_needed() -> None:
    """The driver links a WQE behind the last one only when it takes one back."""
    rig = Striding()
    rig.write(0, 0xFFFF)
    rig.supply(1)
    rig.take(frame(WQE_BYTES))
    rig.write(0, 5)
    rig.supply(2)
    assert [fields(cqe)[0] for cqe in rig.take(frame(60))] == [5]


def test_without_a_wqe_frames_are_counted_and_dropped() -> None:
    rig = Striding()
    assert rig.take(frame(60)) == []
    rig.supply(1)
    assert len(rig.take(frame(WQE_BYTES), frame(60), frame(60))) == 1
    assert rig.strided.out_of_buffer == 3
    assert rig.strided.state is QueueState.RDY


def test_two_byte_shift() -> None:
    rig = Striding(shift=True)
    rig.supply(1)
    (cqe,) = rig.take(frame(255))
    assert fields(cqe) == (0, 0, 2, 255)
    assert rig.memory.read(page_of(0) + rig.lead + 2, 255) == frame(255)


def test_a_stripped_tag_is_not_written() -> None:
    rig = Striding()
    rig.supply(1)
    tagged = frame(100)
    (cqe,) = rig.take(tagged, strip=True)
    assert fields(cqe) == (0, 0, 1, 96)
    assert rig.data(Cqe.decode(cqe)) == tagged[:12] + tagged[16:]


def test_leaving_reset_begins_with_entry_0() -> None:
    rig = Striding()
    rig.supply(3)
    rig.take(frame(WQE_BYTES), frame(60))
    rig.strided.modify(QueueState.ERR)
    assert rig.take(frame(60)) == []
    rig.strided.modify(QueueState.RST)
    rig.supply(1)
    rig.strided.modify(QueueState.RDY)
    assert [fields(cqe) for cqe in rig.take(frame(60))] == [(0, 0, 1, 60)]


@settings(max_examples=60)
@given(st.lists(st.lists(st.integers(14, WQE_BYTES), min_size=1, max_size=12), max_size=4))
def test_every_frame_arrives_and_strides_add_up(trains: list[list[int]]) -> None:
    rig = Striding()
    rig.memory.store_be32(DBR_AT + 0x80, 0)
    used = [0] * 16
    posted = 16
    rig.supply(posted)
    for seed, lengths in enumerate(trains):
        frames = [frame(length, seed) for length in lengths]
        got = []
        for one in frames:  # the CQ holds 16 entries
            cqes = rig.take(one)
            rig.consume()
            for data in cqes:
                cqe = Cqe.decode(data)
                strides = cqe.byte_cnt >> 16 & 0x7FFF
                assert cqe.wqe_counter == used[cqe.wqe_id]
                used[cqe.wqe_id] += strides
                if not cqe.byte_cnt >> 31:
                    got.append(rig.data(cqe))
                if used[cqe.wqe_id] == NUMBER:  # mlx5e_handle_rx_cqe_mpwrq takes it back
                    used[cqe.wqe_id] = 0
                    posted += 1
                    rig.supply(posted & 0xFFFF)
        assert got == frames
    assert max(used) < NUMBER
    assert rig.strided.out_of_buffer == 0


@pytest.mark.parametrize(
    ("spoil", "syndrome"),
    [
        (lambda rig: rig.write(0, 1, count=WQE_BYTES - 1), CqeSyndrome.LOCAL_LENGTH_ERR),
        (lambda rig: rig.write(0, 1, lkey=0x999), CqeSyndrome.LOCAL_PROT_ERR),
        (lambda rig: rig.keys.translated.clear(), CqeSyndrome.LOCAL_PROT_ERR),
        (lambda rig: setattr(rig.key, "free", True), CqeSyndrome.LOCAL_PROT_ERR),
        (lambda rig: setattr(rig.key, "length", WQE_BYTES), CqeSyndrome.LOCAL_PROT_ERR),
        (lambda rig: setattr(rig.key, "start", PAGE), CqeSyndrome.LOCAL_PROT_ERR),
        (lambda rig: setattr(rig.key, "table", array("Q")), CqeSyndrome.LOCAL_PROT_ERR),
        (lambda rig: rig.key.update(0, b"\xff" * 8), CqeSyndrome.LOCAL_PROT_ERR),
        (lambda rig: rig.supply(17), CqeSyndrome.LOCAL_QP_OP_ERR),
    ],
)
def test_what_a_guest_may_spoil_before_the_first_frame(
    spoil: Callable[[Striding], object], syndrome: CqeSyndrome
) -> None:
    rig = Striding()
    rig.supply(1)
    spoil(rig)
    rig.take(frame(60))
    failed(rig, syndrome)
    assert rig.take(frame(60)) == []


def test_a_key_may_go_while_its_wqe_is_in_use() -> None:
    rig = Striding()
    rig.supply(1)
    rig.take(frame(60))
    rig.key.free = True
    rig.take(frame(60))
    failed(rig, CqeSyndrome.LOCAL_PROT_ERR)


def test_a_link_out_of_the_ring_is_an_error_and_a_loop_is_none() -> None:
    rig = Striding()
    rig.write(0, 0)
    rig.supply(3)
    cqes = rig.take(*[frame(WQE_BYTES)] * 4)
    assert [fields(cqe)[0] for cqe in cqes] == [0, 0, 0]
    rig.write(0, 16)
    rig.supply(4)
    rig.take(frame(60))
    failed(rig, CqeSyndrome.LOCAL_QP_OP_ERR)


def test_a_frame_that_no_wqe_can_hold() -> None:
    rig = Striding()
    rig.supply(2)
    rig.take(frame(WQE_BYTES + 1))
    failed(rig, CqeSyndrome.LOCAL_LENGTH_ERR)


# UMR


def umr(
    entries: list[int],
    *,
    offset: int = 0,
    flags: int = 0x90,
    mask: int = 1 << 29,
    status: int = 0,
    octowords: int | None = None,
) -> bytes:
    """A UMR WQE without its control segment (``en_main.c`` mlx5e_build_umr_wqe)."""
    count = len(entries) // 2 if octowords is None else octowords
    control = struct.pack(">B3xHHQI28x", flags, count, offset & 0xFFFF, mask, offset >> 16)
    key = struct.pack(">B63x", status)
    return control + key + b"".join(entry.to_bytes(8, "big") for entry in entries)


def post_umr(rig: Striding, body: bytes, *, mkey: int = UMR_LKEY, opmod: int = 0) -> ErrCqe:
    """Execute it; its completion."""
    index = rig.post(UMR, body, ce=2)
    at = SQ_AT + index * 64
    rig.memory.write(at, bytes([opmod]))
    rig.memory.write(at + 12, mkey.to_bytes(4, "big"))
    rig.ring()
    return ErrCqe.decode(rig.cqes()[-1])


def test_umr_changes_entries_from_its_offset_on_and_frees_the_key() -> None:
    rig = Striding()
    rig.key.free = True
    before = list(rig.key.table)
    done = post_umr(rig, umr([0x5000 | 2, 0x6000 | 2, 0x7000, 0x8000], offset=3))
    assert done.opcode == CqeOpcode.REQ
    assert list(rig.key.table) == [*before[:6], 0x5002, 0x6002, 0x7000, 0x8000, *before[10:]]
    assert not rig.key.free
    post_umr(rig, umr([], status=0x40))
    assert rig.key.free


def test_frames_go_where_the_umr_says() -> None:
    rig = Striding()
    rig.supply(2)
    post_umr(rig, umr([0x70000, 0x71000]))
    rig.take(frame(60), frame(WQE_BYTES, 5))
    assert rig.memory.read(0x70000 + rig.lead, 60) == frame(60)
    assert rig.memory.read(0x71000 + rig.lead, WQE_BYTES) == frame(WQE_BYTES, 5)


@pytest.mark.parametrize(
    ("body", "settings_", "syndrome"),
    [
        (umr([0, 0], offset=8), {}, CqeSyndrome.MW_BIND_ERR),
        (umr([0, 0], offset=1 << 40), {}, CqeSyndrome.MW_BIND_ERR),
        (umr([0, 0]), {"mkey": 0x301}, CqeSyndrome.MW_BIND_ERR),
        (umr([0, 0]), {"mkey": 0x200}, CqeSyndrome.MW_BIND_ERR),
        (umr([0, 0], flags=0xD0), {}, CqeSyndrome.MW_BIND_ERR),
        (umr([0, 0]), {"opmod": 1}, CqeSyndrome.LOCAL_QP_OP_ERR),
        (umr([0, 0], flags=0x10), {}, CqeSyndrome.LOCAL_QP_OP_ERR),
        (umr([0, 0], mask=1), {}, CqeSyndrome.LOCAL_QP_OP_ERR),
        (umr([0, 0], octowords=2), {}, CqeSyndrome.LOCAL_QP_OP_ERR),
        (umr([0, 0], octowords=0xFFFF), {}, CqeSyndrome.LOCAL_QP_OP_ERR),
        (b"", {}, CqeSyndrome.LOCAL_QP_OP_ERR),
        (umr([])[:96], {}, CqeSyndrome.LOCAL_QP_OP_ERR),
    ],
)
def test_a_umr_that_must_not_be_changes_nothing(
    body: bytes, settings_: dict[str, int], syndrome: CqeSyndrome
) -> None:
    rig = Striding()
    before = replace(rig.key, table=rig.key.table[:])
    cqe = post_umr(rig, body, **settings_)
    assert (cqe.opcode, cqe.syndrome) == (CqeOpcode.REQ_ERR, syndrome)
    assert rig.key.table == before.table
    assert rig.key.free == before.free
    assert rig.sq.state is QueueState.ERR


def test_a_umr_of_a_key_of_another_domain_or_of_a_fixed_one_is_refused() -> None:
    for change in ({"pd": Pdn(2)}, {"umr": False}):
        rig = Striding()
        rig.keys.translated[UMR_LKEY] = replace(rig.key, **change)
        assert post_umr(rig, umr([0, 0])).syndrome == CqeSyndrome.MW_BIND_ERR


def test_only_queues_that_asked_for_it_may_do_umrs() -> None:
    rig = Striding()
    rig.sq.config = replace(rig.sq.config, reg_umr=False)
    rig.sq.intercept(())
    assert post_umr(rig, umr([0, 0])).syndrome == CqeSyndrome.LOCAL_QP_OP_ERR


patches = st.lists(st.tuples(st.integers(0, 511), st.integers(0, 255)), max_size=6)
umr_patches = st.lists(st.tuples(st.integers(0, 191), st.integers(0, 255)), max_size=6)
steps = st.one_of(
    st.tuples(st.just("ring"), patches),
    st.tuples(st.just("record"), st.integers(0, 0xFFFFFFFF)),
    st.tuples(st.just("record"), st.integers(0, 20)),
    st.tuples(st.just("umr"), umr_patches),
    # the CQ holds 16: a frame may cost a filler too
    st.tuples(st.just("frames"), st.lists(st.integers(14, 3000), max_size=7)),
    st.tuples(st.just("state"), st.sampled_from(list(QueueState))),
    st.tuples(st.just("key"), st.tuples(st.integers(0, 1 << 64), st.integers(12, 31))),
)


@pytest.mark.fuzz
@given(st.lists(steps, max_size=40), st.booleans())
def test_a_guest_may_write_anything_anywhere(todo: list[tuple[str, Any]], strip: bool) -> None:
    rig = Striding()
    for kind, what in todo:
        rig.consume()
        before = time.process_time()
        if kind == "ring":
            for at, value in what:
                rig.memory.write(RQ_AT + at, bytes([value]))
        elif kind == "record":
            rig.supply(what)
        elif kind == "umr":
            index = rig.post(UMR, umr([0x60000, 0x61000]))
            rig.memory.write(SQ_AT + index % 64 * 64 + 12, UMR_LKEY.to_bytes(4, "big"))
            for at, value in what:
                rig.memory.write(SQ_AT + (index * 64 + at) % 4096, bytes([value]))
            rig.ring()
            rig.sq.modify(QueueState.RDY)
        elif kind == "frames":
            rig.take(*map(frame, what), strip=strip)
        elif kind == "state":
            rig.strided.modify(what)
        else:
            rig.key.start, rig.key.page_shift = what
        assert time.process_time() - before < 1
    rig.keys.translated[UMR_LKEY] = Striding().key
    rig.strided.modify(QueueState.RST)
    for index in range(16):
        rig.write(index, index + 1 & 15)
    rig.supply(1)
    rig.strided.modify(QueueState.RDY)
    rig.consume()
    (cqe,) = rig.take(frame(200))
    assert rig.data(Cqe.decode(cqe)) == frame(200)
