# SPDX-License-Identifier: GPL-2.0-or-later
"""Time for the model: what it needs of an event loop, and timers finer than the loop's own.

An event loop's timers may be as coarse as 1 ms (uvloop). ``FineScheduler`` has one timer of the
kernel (timerfd_create(2)) for all that waits, with its resolution.
"""

import asyncio
import ctypes
import heapq
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

_TFD_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_TFD_TIMER_ABSTIME = 1

_SECOND = 10**9


class Scheduler(Protocol):
    """What the model needs of the event loop; an asyncio loop has it."""

    def call_soon(self, callback: Callable[[], None]) -> object:
        """Call back after other ready work."""
        ...

    def call_later(self, delay: float, callback: Callable[[], None]) -> object:
        """Call back after ``delay`` seconds."""
        ...


class FineScheduler:
    """A ``Scheduler`` on an event loop, with a timer of the kernel; ``close`` it.

    Raises OSError when the kernel has no timer to give.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[tuple[int, int, Callable[[], None]]] = []
        self._number = 0
        # Python has os.timerfd_create from 3.13 on
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(time.CLOCK_MONOTONIC, _TFD_FLAGS)
        if self._fd < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        loop.add_reader(self._fd, self._expired)

    def call_soon(self, callback: Callable[[], None]) -> None:
        """See ``Scheduler.call_soon``."""
        self._loop.call_soon(callback)

    def call_later(self, delay: float, callback: Callable[[], None]) -> None:
        """See ``Scheduler.call_later``; in order for equal times."""
        when = time.monotonic_ns() + max(0, round(delay * _SECOND))
        self._number += 1
        heapq.heappush(self._waiting, (when, self._number, callback))
        if self._waiting[0][1] == self._number:
            self._arm()

    def close(self) -> None:
        """Forget what waits."""
        self._waiting.clear()
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _expired(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._fd, 8)
        now = time.monotonic_ns()
        while self._waiting and self._waiting[0][0] <= now:
            # by way of the loop, so that one that raises does not take the others with it
            self._loop.call_soon(heapq.heappop(self._waiting)[2])
        if self._waiting:
            self._arm()

    def _arm(self) -> None:
        # struct itimerspec: interval, value; a time that has passed expires at once
        spec = (ctypes.c_long * 4)(0, 0, *divmod(self._waiting[0][0], _SECOND))
        self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, spec, None)
