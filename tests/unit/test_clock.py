# SPDX-License-Identifier: GPL-2.0-or-later
"""Timers finer than those of the event loop."""

import asyncio
import time
from collections.abc import Callable

import pytest
import uvloop

from nicmodel.clock import FineScheduler

LOOPS = pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
Factory = Callable[[], asyncio.AbstractEventLoop]


@LOOPS
def test_in_order_of_time_and_never_early(factory: Factory) -> None:
    called: list[tuple[int, int]] = []

    async def body() -> None:
        loop = asyncio.get_running_loop()
        scheduler = FineScheduler(loop)
        done = loop.create_future()
        begin = time.monotonic_ns()

        def note(us: int) -> None:
            called.append((us, (time.monotonic_ns() - begin) // 1000))

        for us in (900, 300, 5000, 300, 0, 2000, -5):
            scheduler.call_later(us / 1e6, lambda us=us: note(us))  # type: ignore[misc]
        scheduler.call_later(0.006, lambda: done.set_result(None))
        scheduler.call_soon(lambda: note(-100))
        await asyncio.wait_for(done, 20)
        scheduler.close()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(body())
    # what is due at once may come on either side of a later call
    assert [us for us, _ in called if us > 0] == [300, 300, 900, 2000, 5000]
    assert {us for us, _ in called[:3]} == {-100, 0, -5}
    assert all(at >= us for us, at in called)


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
