# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's own selftests (tools/testing/selftests/net) over the interfaces of two guests.

Those that put a NIC's offloads to work: UDP GSO with checksums, zero copy and time stamps; TCP
from pages of the user; and what GRO makes of received frames. ``toeplitz.c`` does not apply: it
expects the plain hash, and mlx5 asks for the symmetric one; ``test_steering.py`` has its place.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nicmodel.testbed import kernel
from nicmodel.testbed.errors import Unavailable
from nicmodel.testbed.vm import Vm
from tests.vm import build
from tests.vm.conftest import PairMaker
from tests.vm.pair import Pair
from tests.vm.traffic import IFACE, driver_statistics

SENDS = 10
DATAGRAMS = {"-4": 44, "-6": 45}
"""Of one send of ``udpgso_bench_tx``: 65,507 or 65,487 bytes in datagrams of 1472 or 1452."""


@pytest.fixture(scope="module")
def selftests() -> Path:
    """The sources of the networking tests."""
    try:
        return kernel.selftests() / "net"
    except Unavailable as error:
        pytest.skip(f"the kernel's source package cannot be fetched: {error}")


@pytest.fixture(scope="module")
def guests(make_pair: PairMaker) -> Iterator[Pair]:
    """Not captured: some of these tests send what is malformed."""
    with make_pair("self", mtu=9000, capture=False) as made:
        yield made


@contextmanager
def _settings(vm: Vm, *settings: tuple[str, str, str]) -> Iterator[None]:
    """Files of /sys with the value for the test and the one for afterwards."""
    try:
        for path, value, _ in settings:
            vm.run(f"echo {value} >{path}")
        yield
    finally:
        for path, _, value in settings:
            vm.run(f"echo {value} >{path}")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("family", ["-4", "-6"])
@pytest.mark.parametrize("mode", ["-S 0", "-S 0 -z -a", "-S 0 -H -a"])
def test_udpgso_bench(guests: Pair, selftests: Path, family: str, mode: str) -> None:
    """Every datagram arrives whole; -a audits notifications: of zero copy, of time stamps."""
    sender = build.install(guests.a, selftests / "udpgso_bench_tx.c")
    receiver = build.install(guests.b, selftests / "udpgso_bench_rx.c")
    address = guests.v4(guests.b) if family == "-4" else guests.v6(guests.b)
    size = 1472 if family == "-4" else 1452
    stamps = build.install(guests.a, selftests / "hwtstamp_config.c")
    if "-H" in mode:
        guests.a.run(f"{stamps} {IFACE} ON NONE")
    # while the peer's address is being resolved, the kernel keeps three packets of this size
    guests.a.run(["ping", "-c", "1", "-w", "10", address])
    before = driver_statistics(guests.a)
    expected = SENDS * DATAGRAMS[family]
    only = "-4" if family == "-4" else ""
    reading = guests.b.start(f"{receiver} {only} -r -v -n {expected} -l {size} -C 20000 -R 3000")
    guests.b.wait_until("ss -Hlun | grep -q :8000")
    try:
        guests.a.run(
            f"{sender} {family} -D {address} -M {SENDS} -s {size * DATAGRAMS[family]} {mode}"
        )
    finally:
        guests.a.run(f"{stamps} {IFACE} OFF NONE")
    reading.wait(60)
    after = driver_statistics(guests.a)
    assert after["tx_tso_packets"] - before["tx_tso_packets"] >= SENDS


@pytest.mark.timeout(300)
@pytest.mark.parametrize("family", ["-4", "-6"])
@pytest.mark.parametrize("zero_copy", ["", "-z"])
def test_msg_zerocopy(guests: Pair, selftests: Path, family: str, zero_copy: str) -> None:
    programs = [build.install(vm, selftests / "msg_zerocopy.c") for vm in (guests.a, guests.b)]
    name = guests.v4 if family == "-4" else guests.v6
    common = f"{family} -i {IFACE} -S {name(guests.a)} -D {name(guests.b)} {zero_copy}"
    reading = guests.b.start(f"{programs[1]} {common} -t 3 -C 0 -r tcp")
    guests.b.wait_until("ss -Hltn | grep -q :8000")
    said = guests.a.run(f"{programs[0]} {common} -t 1 -C 0 tcp").stderr
    reading.wait(30)
    if zero_copy:
        assert "zc=y" in said, "the kernel has copied"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_gro(guests: Pair, selftests: Path, family: str) -> None:
    """What the receiver's GRO puts together, on the word of our CQEs, and what it does not."""
    programs = [build.install(vm, selftests / "gro.c") for vm in (guests.a, guests.b)]
    queues = f"/sys/class/net/{IFACE}"
    macs = f"--smac {guests.mac(guests.a)} --dmac {guests.mac(guests.b)}"
    # packets of one test that an emulated guest sends 0.1 s apart belong together
    waiting = (f"{queues}/gro_flush_timeout", "300000000", "0")
    with _settings(guests.b, (f"{queues}/napi_defer_hard_irqs", "10", "0"), waiting):
        for test in ("data", "ack", "flags", "tcp", "ip", "large"):
            words = f"--{family} --test {test} --iface {IFACE} --verbose {macs}"
            reading = guests.b.start(f"{programs[1]} {words} --rx")
            guests.b.wait_until(f"ss -H0l | grep -q :{IFACE}")
            guests.a.run(f"{programs[0]} {words}")
            reading.wait(60)
