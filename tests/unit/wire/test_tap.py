# SPDX-License-Identifier: GPL-2.0-or-later
"""Host taps in a network namespace, against a raw socket there."""

import asyncio
import os
import selectors
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvloop
from pyroute2 import netns

from nicmodel.errors import UserError
from nicmodel.frame import Frame
from nicmodel.wire.events import TapLost
from nicmodel.wire.link import Link
from nicmodel.wire.tap import BATCH, HostTap, open_tap
from tests.unit.wire.stations import Net, Station, frame, mac, train

ETH_P_TEST = 0x88B5
PATIENCE = 10.0


def _why_not() -> str:
    if not Path("/dev/net/tun").exists():
        return "no /dev/net/tun: load the kernel module tun"
    if os.geteuid():
        return "taps need root: run the tests as root"
    if subprocess.run(["unshare", "-n", "true"], check=False, capture_output=True).returncode:
        return "no right to make network namespaces: run with CAP_SYS_ADMIN"
    return ""


pytestmark = pytest.mark.skipif(bool(_why_not()), reason=_why_not())


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture
def space() -> Iterator[str]:
    name = f"nicm-{os.getpid()}"
    _ip("netns", "add", name)
    try:
        _ip("-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        _ip("netns", "del", name)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    loop: asyncio.AbstractEventLoop = request.param()
    yield loop
    loop.close()


class Bench:
    """A station and a tap on one cable, and a raw socket on the host's side of the tap."""

    def __init__(self, space: str, loop: asyncio.AbstractEventLoop) -> None:
        self.net = Net()
        self.loop = loop
        self.station = Station("nic")
        self.tap = HostTap("tap", open_tap("t0", space), loop, self.net.tracer)
        self.link = Link(self.net.fabric, self.station.port, self.tap.port)
        _ip("-n", space, "link", "set", "t0", "addrgenmode", "none")
        _ip("-n", space, "link", "set", "t0", "mtu", "9000", "up")
        netns.pushns(space)
        try:
            self.raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_TEST))
            self.raw.bind(("t0", ETH_P_TEST))
        finally:
            netns.popns()
        self.raw.settimeout(PATIENCE)

    def run_until(self, condition: Callable[[], bool]) -> None:
        async def wait() -> None:
            async with asyncio.timeout(PATIENCE):
                while not condition():
                    await asyncio.sleep(0)

        self.loop.run_until_complete(wait())


@pytest.fixture
def bench(space: str, loop: asyncio.AbstractEventLoop) -> Iterator[Bench]:
    bench = Bench(space, loop)
    yield bench
    bench.raw.close()
    bench.tap.close()


def test_frames_go_both_ways(bench: Bench) -> None:
    out = frame(mac(2), mac(1), b"to the host", b"")
    bench.station.port.send(out)
    long = train(mac(2), mac(1), 3, 1500, 700)
    bench.station.port.send(long)
    assert bench.raw.recv(65536) == out.data
    assert [bench.raw.recv(65536) for _ in range(3)] == [bytes(view) for view in long.views()]
    back = [bytes(frame(mac(1), mac(2), bytes([n]) * 60 * n).data) for n in range(1, 100)]
    for data in back:
        bench.raw.send(data)
    bench.run_until(lambda: len(bench.station.got) >= len(back))
    assert [bytes(got.data) for got in bench.station.got if isinstance(got, Frame)] == back
    assert bench.tap.refused == 0


def test_short_frames_of_the_host_are_padded(bench: Bench) -> None:
    bench.raw.send(mac(1) + mac(2) + b"\x88\xb5abc")
    bench.run_until(lambda: bool(bench.station.got))
    (got,) = bench.station.got
    assert isinstance(got, Frame)
    assert got.data == (mac(1) + mac(2) + b"\x88\xb5abc").ljust(60, b"\0")


def test_one_turn_reads_a_bounded_batch(bench: Bench) -> None:
    for _ in range(BATCH + 10):
        bench.raw.send(frame(mac(1), mac(2)).data)
    turns = []

    async def watch() -> None:
        while len(bench.station.got) < BATCH + 10:
            turns.append(len(bench.station.got))
            await asyncio.sleep(0)

    bench.loop.run_until_complete(asyncio.wait_for(watch(), PATIENCE))
    assert max(turns) == BATCH


def test_host_sees_the_carrier(bench: Bench, space: str) -> None:
    assert "LOWER_UP" in _ip("-n", space, "link", "show", "t0")
    bench.link.plug(False)
    assert "NO-CARRIER" in _ip("-n", space, "link", "show", "t0")
    bench.link.plug(True)
    assert "LOWER_UP" in _ip("-n", space, "link", "show", "t0")


def test_interface_that_is_down_costs_frames_only(bench: Bench, space: str) -> None:
    _ip("-n", space, "link", "set", "t0", "down")
    bench.station.port.send(train(mac(2), mac(1), 3))
    assert bench.tap.refused == 3
    with pytest.raises(OSError, match="down"):
        bench.raw.recv(65536)
    _ip("-n", space, "link", "set", "t0", "up")
    bench.station.port.send(frame(mac(2), mac(1)))
    assert bench.tap.refused == 3
    assert len(bench.raw.recv(65536)) == 60


def test_tap_that_the_host_removes_is_an_event(bench: Bench, space: str) -> None:
    _ip("-n", space, "link", "del", "t0")
    bench.run_until(lambda: bool(bench.net.sink.of(TapLost)))
    assert bench.station.carriers == [True, False]
    bench.station.port.send(frame(mac(2), mac(1)))
    assert bench.station.port.counts.dropped == 1
    bench.tap.receive(frame(mac(2), mac(1)))
    assert bench.tap.refused == 1


def test_opening_leaves_the_thread_in_its_namespace(space: str) -> None:
    before = os.readlink("/proc/thread-self/ns/net")
    fd = open_tap("t1", space)
    with pytest.raises(UserError):
        open_tap("lo", space)
    assert os.readlink("/proc/thread-self/ns/net") == before
    assert "t1:" in _ip("-n", space, "link", "show", "t1")
    assert not os.get_blocking(fd)
    assert not os.get_inheritable(fd)
    os.close(fd)
    assert "t1" not in _ip("-n", space, "link", "show")


def test_existing_tap_and_path_of_namespace(space: str) -> None:
    _ip("-n", space, "tuntap", "add", "t2", "mode", "tap")
    os.close(open_tap("t2", f"/run/netns/{space}"))
    assert "t2" in _ip("-n", space, "link", "show"), "a persistent tap stays"


def test_mistakes_are_sentences(space: str) -> None:
    fd = open_tap("t3", space)
    cases = [
        ("t3", space, "another process holds it"),
        ("lo", space, "interface of another kind"),
        ("t4", "nicm-none", "no such namespace; create it with 'ip netns add"),
        ("sixteen-bytes-xx", None, "a name of an interface has 1 to 15 bytes"),
        ("", None, "a name of an interface has 1 to 15 bytes"),
    ]
    for name, where, sentence in cases:
        with pytest.raises(UserError, match=sentence):
            open_tap(name, where)
    os.close(fd)


def test_missing_right_is_a_sentence(space: str) -> None:
    code = (
        "import os; from nicmodel.wire.tap import open_tap; from nicmodel.errors import UserError\n"
        "os.setuid(65534)\n"
        "try: open_tap('t5', SPACE)\n"
        "except UserError as error: print(error)\n"
    )
    for where in (None, space):
        said = subprocess.run(
            [sys.executable, "-c", code.replace("SPACE", repr(where))],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert "run as root or give nicmodel CAP_NET_ADMIN" in said


def test_selectors_are_left_clean(space: str) -> None:
    """Closing the tap while the loop lives must not leave its fd registered."""
    loop = asyncio.SelectorEventLoop(selectors.EpollSelector())
    tap = HostTap("tap", open_tap("t6", space), loop, Net().tracer)
    tap.close()
    tap.close()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
