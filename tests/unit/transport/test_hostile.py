# SPDX-License-Identifier: GPL-2.0-or-later
"""A front-end that sends anything, in any order, with any descriptors.

The device asserts what it may rely on; the session may refuse, but never raise, leak a
descriptor, or call the device out of order.
"""

import contextlib
import os
import struct
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from nicmodel.trace.events import FrontendDetached
from nicmodel.transport.session import State
from tests.unit.transport import frontend as fe
from tests.unit.transport.frontend import FakeFrontend, config, mem_table, message, region, u64

PAGE = fe.PAGE

numbers = st.one_of(
    st.integers(0, 20),
    st.builds(lambda b, d: max(0, (1 << b) + d), st.integers(0, 64), st.integers(-9, 9)),
    st.sampled_from([fe.BAR, fe.COMMAND, fe.BAR_SIZE, PAGE]),
)
u32s = numbers.map(lambda n: n & 0xFFFFFFFF)
u64s = numbers.map(lambda n: n & 2**64 - 1)
pages = st.integers(0, 12).map(lambda n: n * PAGE)


Piece = tuple[bytes, list[Callable[[], int]]]


def full_eventfd() -> int:
    """One more would block."""
    fd = os.eventfd(2**32 - 1)
    os.eventfd_write(fd, 2**64 - 2**32 - 1)
    return fd


FILES: list[Callable[[], int]] = [
    lambda: fe.memfd(fe.BAR_SIZE),
    lambda: fe.memfd(4 * PAGE),
    lambda: fe.memfd(4 * PAGE, seals=4),
    lambda: fe.memfd(0),
    lambda: os.eventfd(0),
    full_eventfd,
    lambda: os.open("/dev/zero", os.O_RDWR),
    lambda: os.open("/", os.O_RDONLY),
    lambda: os.open("/proc/self/status", os.O_RDONLY),
]
files = st.lists(st.sampled_from(FILES), max_size=10)


def regions(addr: int, size: int, offset: int) -> bytes:
    return struct.pack("<QQQQ", addr, size, 0, offset)


any_region = st.one_of(
    st.builds(regions, pages, pages, pages), st.builds(regions, u64s, u64s, u64s)
)
bodies = st.one_of(
    st.binary(max_size=80),
    u64s.map(u64),
    st.builds(config, u32s, st.binary(max_size=12)),
    st.builds(lambda o, d: config(fe.BAR + o, d), pages, st.binary(min_size=1, max_size=8)),
    st.builds(lambda o, s, f, d: struct.pack("<III", o, s, f) + d, u32s, u32s, u32s, st.binary()),
    st.builds(lambda r: u64(0) + r, any_region),
    st.lists(any_region, max_size=9).map(lambda r: mem_table(*r)),
    st.builds(lambda s, o, q: struct.pack("<QQHH", s, o, q, 0), u64s, u64s, st.integers(0, 1)),
    st.just(struct.pack("<QQHH", fe.BAR_SIZE, 0, 0, 0)),
)
requests = st.one_of(st.integers(0, 42), st.sampled_from([5, 13, 24, 25, 32, 34, 37, 38]), u32s)
flags = st.one_of(st.sampled_from([1, 1, 1, 9]), u32s)
pieces: st.SearchStrategy[Piece] = st.one_of(
    st.binary(min_size=1, max_size=60).map(lambda data: (data, [])),
    st.tuples(st.binary(min_size=1, max_size=60), files),
    st.tuples(st.builds(message, requests, bodies, flags), st.just([])),
    st.tuples(st.builds(message, requests, bodies, flags), files),
)


def use_host(front: FakeFrontend) -> None:
    """A device may use all of its host whenever it is attached."""
    host = front.device.host
    if host is not None:
        host.bar[0] ^= 1
        for vector in range(5):
            host.interrupt(vector)
        if host.memory.enabled:
            for mapped in host.memory.regions:
                host.memory.write(mapped.guest_addr + mapped.size - 1, b"x")


def converse(stages: int, stream: list[Piece], cut: int) -> None:
    before = len(os.listdir("/proc/self/fd"))
    front = FakeFrontend()
    if stages >= 1:
        front.negotiate()
    if stages >= 2:
        front.shadow = front.share_shadow()
    if stages >= 3:
        fd = fe.memfd(PAGE)
        front.do(fe.SET_MEM_TABLE, mem_table(region(0, PAGE)), [fd])
        os.close(fd)
        front.bus_master(True)
    for data, makers in stream:
        fds = [make() for make in makers]
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, BlockingIOError):
            # In two parts: nothing says that a message comes in one piece.
            part = cut % (len(data) + 1)
            if part:
                front.post(data[:part], fds)
                front.run()
            if data[part:]:
                front.post(data[part:], [] if part else fds)
                front.run()
        for fd in fds:
            os.close(fd)
        use_host(front)
    attached = front.session.state is State.ATTACHED
    assert attached == (front.device.host is not None)
    front.close()
    assert front.session.state is State.CLOSED
    assert front.device.host is None
    assert len(front.sink.of(FrontendDetached)) == 1
    front.other.close()
    assert len(os.listdir("/proc/self/fd")) == before


@settings(max_examples=400)
@given(st.integers(0, 3), st.lists(pieces, max_size=12), st.integers(0, 400))
def test_anything_is_refused_or_done(stages: int, stream: list[Piece], cut: int) -> None:
    converse(stages, stream, cut)


valid = st.one_of(
    st.builds(
        lambda o, d: (message(fe.SET_CONFIG, config(fe.BAR + o, d)), []),
        st.integers(0, fe.BAR_SIZE - 8),
        st.binary(min_size=1, max_size=8),
    ),
    st.just((message(fe.RESET_DEVICE, flags=9), [])),
    st.builds(
        lambda c: (message(fe.SET_CONFIG, config(fe.COMMAND, c), flags=9), []),
        st.binary(min_size=2, max_size=2),
    ),
    st.builds(
        lambda a: (message(fe.ADD_MEM_REG, u64(0) + region(a, PAGE), flags=9), [FILES[1]]),
        pages.filter(bool),
    ),
    st.builds(lambda a: (message(fe.REM_MEM_REG, u64(0) + region(a, PAGE), flags=9), []), pages),
    st.just((message(fe.SET_VRING_CALL, u64(1)), [FILES[5]])),
)


@settings(max_examples=200)
@given(st.lists(valid, max_size=30), st.integers(0, 400))
def test_any_order_of_good_messages(stream: list[Piece], cut: int) -> None:
    converse(3, stream, cut)
