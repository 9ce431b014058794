# SPDX-License-Identifier: GPL-2.0-or-later
"""Completion moderation: period and count, whichever comes first."""

from collections.abc import Callable

import pytest

from nicmodel.memory import GuestMemory, MemoryRegion
from nicmodel.objects.counters import PortCounters
from nicmodel.objects.port import PortState
from nicmodel.objects.queue import (
    CqConfig,
    EqConfig,
    QueueState,
    SqConfig,
    WqConfig,
    WqType,
)
from nicmodel.objects.store import Objects
from nicmodel.queues.datapath import SHORTEST_PERIOD_US, Datapath
from nicmodel.trace.tracer import Tracer
from nicmodel.units import Cqn, Eqn, GuestAddr, Pdn, Sqn, Uar
from tests.unit.queues.rig import (
    CQ_AT,
    DBR_AT,
    EQ_AT,
    LOG_CQ,
    LOG_EQ,
    LOG_SQ,
    RAM,
    SQ_AT,
    pages,
    send_wqe,
)

EQN, CQN, SQN = Eqn(1), Cqn(5), Sqn(7)
COUNT = 4


class Bench:
    """A send queue that completes NOPs; it has the clock. ``interrupts`` counts them."""

    def __init__(self, period: int, max_count: int) -> None:
        self.memory = GuestMemory.anonymous([MemoryRegion(0, RAM)])
        self.interrupts = 0
        self.timers: list[Callable[[], None]] = []
        self.datapath = Datapath(
            self.memory,
            Objects(),
            PortCounters(),
            self._interrupt,
            PortState,
            lambda traffic: None,
            self,
            lambda: 0,
            Tracer("nic", lambda: 0),
        )
        self._posted = 0
        uar, cq_dbr, sq_dbr = Uar(0x100), GuestAddr(DBR_AT + 0x80), GuestAddr(DBR_AT)
        cq_pages, eq_pages = pages(CQ_AT, 64 << LOG_CQ), pages(EQ_AT, 64 << LOG_EQ)
        wq = WqConfig(WqType.CYCLIC, LOG_SQ, 6, Pdn(1), sq_dbr, pages(SQ_AT, 64 << LOG_SQ))
        self.datapath.create_eq(EqConfig(EQN, LOG_EQ, uar, 0, 0, eq_pages))
        self.datapath.create_cq(
            CqConfig(CQN, LOG_CQ, uar, EQN, cq_dbr, period, max_count, False, cq_pages)
        )
        self.datapath.create_sq(SqConfig(SQN, CQN, (), 0, wq))
        self.datapath.modify_sq(SQN, QueueState.RDY)
        self.arm()

    def call_soon(self, callback: Callable[[], None]) -> None:
        raise AssertionError("there is never that much to do")

    def call_later(self, delay: float, callback: Callable[[], None]) -> None:
        assert delay == SHORTEST_PERIOD_US / 1e6
        self.timers.append(callback)

    def _interrupt(self, vector: int) -> None:
        self.interrupts += 1

    def arm(self) -> None:
        """What the driver does when it has polled everything."""
        self.datapath.update_eq(EQN, self.interrupts, arm=True)
        self.datapath.arm_cq(CQN, self._posted)

    def complete(self, count: int) -> None:
        """Post NOPs, let them complete, and end the batch."""
        for _ in range(count):
            at = SQ_AT + self._posted % (1 << LOG_SQ) * 64
            self.memory.write(at, send_wqe(0, self._posted, SQN))
            self._posted += 1
        self.memory.store_be32(DBR_AT + 4, self._posted)
        self.datapath.ring_sq(SQN)
        self.datapath.run()


def test_a_single_completion_waits_for_the_period() -> None:
    bench = Bench(SHORTEST_PERIOD_US, COUNT)
    bench.complete(1)
    assert bench.interrupts == 0
    (timer,) = bench.timers
    timer()
    assert bench.interrupts == 1


@pytest.mark.parametrize("parts", [(COUNT,), (1, COUNT - 1), (1, COUNT)])
def test_the_count_ends_the_period(parts: tuple[int, ...]) -> None:
    bench = Bench(SHORTEST_PERIOD_US, COUNT)
    for part in parts:
        bench.complete(part)
    assert bench.interrupts == 1


def test_a_timer_that_comes_late_reports_nothing() -> None:
    bench = Bench(SHORTEST_PERIOD_US, COUNT)
    bench.complete(1)
    bench.complete(COUNT)
    bench.arm()
    (timer,) = bench.timers
    timer()
    assert bench.interrupts == 1


def test_a_timer_that_comes_late_ends_no_later_period() -> None:
    bench = Bench(SHORTEST_PERIOD_US, COUNT)
    bench.complete(1)
    bench.arm()  # polled for another reason
    bench.complete(1)
    late, timer = bench.timers
    late()
    assert bench.interrupts == 0
    timer()
    assert bench.interrupts == 1


def test_a_short_period_ends_with_the_batch() -> None:
    bench = Bench(SHORTEST_PERIOD_US - 1, COUNT)
    bench.complete(1)
    assert bench.interrupts == 1
