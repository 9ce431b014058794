# SPDX-License-Identifier: GPL-2.0-or-later
"""Many frames at once end as the same frames one after the other do, whatever the driver posted."""

import struct
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nicmodel.frame import Train
from nicmodel.units import GuestAddr
from tests.unit.queues.rig import CQ_AT, DATA_AT, LOG_CQ, LOG_RQ, RAM, RQ_AT, Rig
from tests.unit.queues.test_striding import Striding

SIZE = 1 << LOG_RQ


@dataclass(frozen=True)
class Case:
    """``used``: WQEs and CQEs used before; ``polled``: how many of those CQEs the driver knows of.

    ``spoiled``: receive WQEs overwritten in some way before the frames come.
    """

    used: int
    polled: int
    posted: int
    buffer: int
    lengths: list[int]
    spoiled: dict[int, bytes]
    strip: bool
    ignore_overrun: bool
    armed: bool


SPOILED = st.sampled_from(
    [
        struct.pack(">IIQ", 2000, 0x999, DATA_AT),
        struct.pack(">IIQ", 2000, 0x100, DATA_AT),
        struct.pack(">IIQ", 2000, 0x200, RAM - 64),
        struct.pack(">IIQ", 20, 0x200, DATA_AT),
        struct.pack(">IIQ", 2000, 0x200, DATA_AT + 0x40000),
    ]
)

cases = st.builds(
    Case,
    used=st.integers(0, SIZE),
    polled=st.integers(0, SIZE),
    posted=st.integers(0, SIZE),
    buffer=st.sampled_from([300, 64]),
    lengths=st.lists(st.integers(60, 200), min_size=8, max_size=SIZE + 4),
    spoiled=st.dictionaries(st.integers(0, SIZE - 1), SPOILED, max_size=1),
    strip=st.booleans(),
    ignore_overrun=st.booleans(),
    armed=st.booleans(),
)


def prepared(case: Case) -> Rig:
    rig = Rig()
    rig.cq.config = replace(rig.cq.config, overrun_ignore=case.ignore_overrun)
    rig.buffers(case.used, case.buffer)
    for _ in range(case.used):
        rig.rq.receive([memoryview(bytes(60))], bytearray(64), [1], False)
    rig.memory.store_be32(GuestAddr(0x1F080), min(case.polled, rig.cq.producer))
    rig.buffers(case.posted, case.buffer)
    for index, wqe in case.spoiled.items():
        rig.memory.write(RQ_AT + index * 32, wqe)
    if case.armed:
        rig.cq.arm(rig.cq.producer)
    return rig


def outcome(rig: Rig) -> tuple[object, ...]:
    """All that the driver can see."""
    cq, rq = rig.cq, rig.rq
    return (
        rig.memory.read(CQ_AT, 64 << LOG_CQ),
        rig.memory.read(DATA_AT, RAM - DATA_AT),
        (cq.producer, cq.broken, cq.armed, cq.unreported, rig.events),
        (rq.consumer, rq.state, rq.out_of_buffer),
        [record.event for record in rig.sink.records],
    )


def deliver(rig: Rig, case: Case, *, together: bool) -> tuple[object, ...]:
    frames = [bytes((i * 7 + n) % 251 for i in range(n)) for n in case.lengths]
    views = [memoryview(frame) for frame in frames]
    sums = [n * 3 for n in case.lengths]
    cqe = bytearray(range(64))
    if together:
        rig.rq.receive(views, cqe, sums, case.strip)
    else:
        for view, check_sum in zip(views, sums, strict=True):
            rig.rq.receive([view], cqe, [check_sum], case.strip)
    return outcome(rig)


@settings(max_examples=300)
@given(cases)
def test_a_cyclic_queue_does_not_tell_them_apart(case: Case) -> None:
    alone = deliver(prepared(case), case, together=False)
    assert deliver(prepared(case), case, together=True) == alone


@settings(max_examples=300)
@given(cases, st.integers(0, 3), st.booleans())
def test_nor_whether_they_are_a_train(case: Case, more: int, scattered: bool) -> None:
    """``more`` bytes of each row are not the frame's; ``scattered``: buffers in no order."""
    width, last = max(case.lengths), case.lengths[-1]
    case = replace(case, lengths=[width] * (len(case.lengths) - 1) + [last])
    dice = np.random.default_rng(width)
    rows = dice.integers(0, 256, (len(case.lengths), width + more), np.uint8)
    train = Train(rows, width, last)
    sums = [n * 3 for n in case.lengths]
    together, alone = prepared(case), prepared(case)
    if scattered:
        for rig in (together, alone):
            wqes = [rig.memory.read(RQ_AT + at * 32, 16) for at in range(SIZE)]
            for at, wqe in enumerate(reversed(wqes)):
                rig.memory.write(RQ_AT + at * 32, wqe)
    together.rq.receive(train, bytearray(range(64)), sums, case.strip)
    for view, check_sum in zip(train, sums, strict=True):
        alone.rq.receive([view], bytearray(range(64)), [check_sum], case.strip)
    assert outcome(together) == outcome(alone)


@settings(max_examples=100)
@given(
    st.lists(st.integers(60, 200), min_size=8, max_size=20),
    st.integers(0, 8),
    st.integers(0, 16),
)
def test_a_striding_queue_does_not_either(lengths: list[int], wqes: int, polled: int) -> None:
    seen = []
    for together in (True, False):
        rig = Striding()
        rig.supply(wqes)
        rig.memory.store_be32(GuestAddr(0x1F080), polled)
        frames = [memoryview(bytes((i + n) % 251 for i in range(n))) for n in lengths]
        cqe = bytearray(range(64))
        if together:
            rig.strided.receive(frames, cqe, lengths, False)
        else:
            for frame in frames:
                rig.strided.receive([frame], cqe, [len(frame)], False)
        cq = rig.cq
        seen.append(
            (
                rig.memory.read(0, RAM),
                (cq.producer, cq.broken, cq.unreported),
                (rig.strided.consumer, rig.strided.out_of_buffer, rig.strided.state),
            )
        )
    assert seen[0] == seen[1]


def test_many_are_completed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The property above would hold if nothing were ever done at once."""
    case = Case(0, 0, SIZE, 300, [100] * SIZE, {}, False, False, True)
    rig = prepared(case)
    alone: list[object] = []
    monkeypatch.setattr(rig.cq, "post", alone.append)
    deliver(rig, case, together=True)
    assert rig.cq.producer == SIZE
    assert not alone
