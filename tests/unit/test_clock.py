# SPDX-License-Identifier: GPL-2.0-or-later
"""Timers finer than those of the event loop."""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from itertools import permutations

import pytest
import uvloop

from nicmodel.clock import FineScheduler

LOOPS = pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
Factory = Callable[[], asyncio.AbstractEventLoop]
DELAYS = (900, 300, 5000, 300, 0, 2000, -5)
"""Microseconds; some are equal, some are over at once."""


@LOOPS
def test_in_order_of_time_and_never_early(factory: Factory) -> None:
    due: list[tuple[int, int]] = []  # of each call, the earliest and the latest time that is meant
    called: list[tuple[int, int]] = []  # which call, when

    async def body() -> None:
        loop = asyncio.get_running_loop()
        scheduler = FineScheduler(loop)
        done = loop.create_future()

        def note(number: int) -> None:
            called.append((number, time.monotonic_ns()))
            if len(called) == len(DELAYS):
                done.set_result(None)

        for number, us in enumerate(DELAYS):
            before = time.monotonic_ns()
            scheduler.call_later(us / 1e6, partial(note, number))
            after = time.monotonic_ns()
            due.append((before + max(0, us) * 1000, after + max(0, us) * 1000))
        await asyncio.wait_for(done, 20)
        scheduler.close()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(body())
    assert all(at >= due[number][0] for number, at in called)
    order = [number for number, _ in called]
    for (one, other), ((_, latest), (earliest, _)) in zip(
        permutations(range(len(DELAYS)), 2), permutations(due, 2), strict=True
    ):
        # a busy machine may make calls much later than their neighbours: then their times tell
        if latest < earliest or (DELAYS[one] == DELAYS[other] and one < other):
            assert order.index(one) < order.index(other)


@LOOPS
def test_soon_is_before_a_timer(factory: Factory) -> None:
    called: list[str] = []

    async def body() -> None:
        scheduler = FineScheduler(asyncio.get_running_loop())
        done = asyncio.get_running_loop().create_future()

        def later() -> None:
            called.append("later")
            done.set_result(None)

        scheduler.call_later(0.002, later)
        scheduler.call_soon(lambda: called.append("soon"))
        await asyncio.wait_for(done, 20)
        scheduler.close()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(body())
    assert called == ["soon", "later"]


@LOOPS
def test_finer_than_a_millisecond(factory: Factory) -> None:
    """The best of many: a loaded machine is late now and then, a coarse timer always."""
    late: list[int] = []

    async def body() -> None:
        loop = asyncio.get_running_loop()
        scheduler = FineScheduler(loop)
        scheduler.call_later(10, lambda: None)  # what comes later does not hold up the others
        for _ in range(50):
            woken = loop.create_future()
            begin = time.monotonic_ns()
            scheduler.call_later(100e-6, lambda woken=woken: woken.set_result(None))  # type: ignore[misc]
            await asyncio.wait_for(woken, 5)
            late.append(time.monotonic_ns() - begin)
        scheduler.close()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(body())
    assert 100_000 <= min(late) < 800_000


def test_one_that_raises_takes_no_other_with_it() -> None:
    errors = []

    async def body() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: errors.append(context["exception"]))
        scheduler = FineScheduler(loop)
        done = loop.create_future()
        scheduler.call_later(0, [].pop)
        scheduler.call_later(0, lambda: done.set_result(None))
        await asyncio.wait_for(done, 20)
        scheduler.close()

    asyncio.run(body())
    assert [type(error) for error in errors] == [IndexError]
