# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory keys, UMRs and striding receive queues in the hands of a guest that writes anything."""

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nicmodel.frame import Checked, Frame
from tests.unit.device.machine import LSO, Pair
from tests.unit.device.packets import ethernet, tcp
from tests.unit.device.striding import ENTRIES, POOL, Strided
from tests.unit.device.test_hostile import (
    CPU_SECONDS,
    IP_A,
    IP_B,
    A,
    B,
    Patches,
    Step,
    exchange,
    patched,
    patches,
    words,
)
from tests.unit.device.test_hostile import steps as usual_steps
from tests.unit.queues.rig import eth_segment

pytestmark = pytest.mark.fuzz


class Victim(Pair):
    """Machine b receives into strides."""

    def __init__(self) -> None:
        super().__init__(1)
        self.strided = Strided(self.b)


def test_frames_lie_in_the_pages_that_the_umrs_name() -> None:
    """What follows is not about a queue that never worked."""
    pair = Victim()
    pair.strided.fill(ENTRIES)
    payload = bytes(range(256)) * 4
    pair.a.nic.port.send(Frame(ethernet(B, A, 0x0800, tcp(IP_A, IP_B, 1, 2, payload))))
    pair.loop.run()
    (cqe,) = pair.b.poll(pair.b.got_cq())
    assert cqe[0x3F] >> 4 == 2
    assert pair.b.memory.read(POOL + 54, len(payload)) == payload


def umr(entry: int, changes: Patches, imm: int | None, times: int) -> Step:
    """A real UMR, mutated from its control segment's end on, for this key or another one."""

    def step(pair: Pair) -> None:
        assert isinstance(pair, Victim)
        for _ in range(times):
            pair.strided.post(patched(pair.strided.umr(entry), changes), imm=imm)

    return step


def fill(count: int) -> Step:
    def step(pair: Pair) -> None:
        assert isinstance(pair, Victim)
        pair.strided.fill(count)

    return step


def entry(index: int, changes: Patches) -> Step:
    """The WQE at ``index``: link, length, key, address."""

    def step(pair: Pair) -> None:
        assert isinstance(pair, Victim)
        strided = pair.strided
        pair.b.memory.write(
            strided.queue.addr + index * 32,
            patched(pair.b.memory.read(strided.queue.addr + index * 32, 32), changes),
        )

    return step


def train(size: int, mss: int, checked: bool) -> Step:
    """A large send of the honest peer."""

    def step(pair: Pair) -> None:
        a = pair.a
        a.rewind()
        frame = ethernet(B, A, 0x0800, tcp(IP_A, IP_B, 1, 2, b"t" * size))
        body = eth_segment(cs=0xC0 if checked else 0, mss=mss, inline=frame[:54])
        a.send(LSO, body + a.segment(frame[54:]))

    return step


def frame(size: int) -> Step:
    def step(pair: Pair) -> None:
        data = ethernet(B, A, 0x0800, tcp(IP_A, IP_B, 1, 2, b"f" * size))
        pair.a.nic.port.send(Frame(data, Checked.NONE))

    return step


def record(word: int) -> Step:
    def step(pair: Pair) -> None:
        assert isinstance(pair, Victim)
        pair.b.memory.store_be32(pair.strided.queue.dbr, word)

    return step


def raw_umr(data: bytes, imm: int) -> Step:
    """Anything under the opcode of a UMR, of any length that a WQE can have."""

    def step(pair: Pair) -> None:
        assert isinstance(pair, Victim)
        pair.strided.post(data, imm=imm)

    return step


steps = st.one_of(
    st.builds(
        umr,
        st.integers(0, ENTRIES + 3),
        patches(176, 6),
        st.one_of(st.none(), words),
        st.integers(1, 40),
    ),
    st.builds(fill, st.integers(0, ENTRIES)),
    st.builds(entry, st.integers(0, ENTRIES - 1), patches(32)),
    st.builds(train, st.integers(1, 30000), st.integers(1, 9000), st.booleans()),
    st.builds(frame, st.integers(0, 9900)),
    st.builds(record, words),
    st.builds(raw_umr, st.binary(max_size=240), words),
    usual_steps,
)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(steps, min_size=8, max_size=50))
def test_strides_survive_anything(todo: list[Step]) -> None:
    pair = Victim()
    for step in todo:
        before = time.process_time()
        step(pair)
        pair.loop.run()
        assert time.process_time() - before < CPU_SECONDS
    pair.b.nic.port.enable(True)
    pair.b.again(1)
    pair.loop.run()
    exchange(pair)
    pair.b.leave()


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_nothing_is_written_outside_of_the_pages(data: st.DataObject) -> None:
    """Whatever UMRs and WQEs say, bytes outside of what some UMR named stay as they were."""
    pair = Victim()
    guard = POOL - (1 << 20)
    length = 1 << 20
    pair.b.memory.write(guard, b"\x5a" * length)
    strided = pair.strided
    strided.fill(ENTRIES)
    for index in range(ENTRIES):
        changes = data.draw(patches(16, 3))
        at = strided.queue.addr + index * 32 + 16
        # any length and address; the key stays, for others may name all memory
        kept = pair.b.memory.read(at, 16)
        new = patched(kept, changes)
        pair.b.memory.write(at, new[:4] + kept[4:8] + new[8:])
    for _ in range(data.draw(st.integers(1, 30))):
        frame(data.draw(st.integers(0, 9000)))(pair)
        pair.loop.run()
    assert pair.b.memory.read(guard, length) == b"\x5a" * length
