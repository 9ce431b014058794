# SPDX-License-Identifier: GPL-2.0-or-later
"""Links, drivers and guests that come and go; nothing is left behind."""

import pytest

from tests.vm.conftest import PairMaker
from tests.vm.pair import Pair
from tests.vm.traffic import IFACE, MEBI, iperf

CYCLES = 20
RELOADS = 5


def _background(pair: Pair) -> str:
    """Traffic of all kinds towards guest b, until it is told to stop."""
    script = (
        "while :; do ping -f -c 200 -w 2 -s 1000 10.77.0.2; done >/dev/null 2>&1 & "
        "while :; do dd if=/dev/zero bs=64k count=64 2>/dev/null | "
        "timeout 3 socat -u - TCP:10.77.0.2:7100,connect-timeout=1; done >/dev/null 2>&1 & wait"
    )
    pair.b.start("socat -u TCP-LISTEN:7100,fork,reuseaddr OPEN:/dev/null")
    return script


@pytest.mark.timeout(300)
def test_link_cycles_under_traffic(pair: Pair) -> None:
    traffic = pair.a.start(_background(pair))
    try:
        for _ in range(CYCLES):
            pair.b.run(f"ip link set {IFACE} down; ip link set {IFACE} up", timeout=60)
            pair.restore(pair.b)
            pair.b.run(["ping", "-c", "1", "-w", "30", pair.v4(pair.a)], timeout=40)
    finally:
        traffic.kill()
        pair.b.run("pkill socat", check=False)


@pytest.mark.matrix
@pytest.mark.timeout(400)
def test_driver_reload_under_traffic(pair: Pair) -> None:
    traffic = pair.a.start(_background(pair))
    try:
        for _ in range(RELOADS):
            pair.b.run("modprobe -r mlx5_core", timeout=90)
            assert IFACE not in pair.b.run(["ls", "/sys/class/net"]).stdout
            pair.b.run("modprobe mlx5_core", timeout=90)
            pair.restore(pair.b)
            pair.b.run(["ping", "-c", "1", "-w", "30", pair.v4(pair.a)], timeout=40)
    finally:
        traffic.kill()
        pair.b.run("pkill socat", check=False)
    assert pair.events("ObjectsLeft") == []


@pytest.mark.timeout(300)
def test_guest_reboot_on_the_same_model(pair: Pair) -> None:
    resets = len(pair.events("DeviceReset"))
    pair.b.reboot(120)
    pair.restore(pair.b)
    pair.b.run(["ping", "-c", "3", "-i", "0.2", "-w", "30", pair.v4(pair.a)], timeout=40)
    assert len(pair.events("DeviceReset")) > resets
    with pair.iperf_server(pair.b):
        assert iperf(pair.a, pair.v4(pair.b), "-n", "8M").sent >= 8 * MEBI


@pytest.mark.timeout(300)
def test_small_and_large_guests(make_pair: PairMaker) -> None:
    """256 MiB, and 4 GiB, which lies below and above the 4 GiB border."""
    with make_pair("odd", memory=(256, 4096)) as odd:
        ranges = odd.b.read_file("/proc/iomem")
        assert "100000000-" in ranges
        with odd.iperf_server(odd.b):
            for direction in ((), ("-R",)):
                done = iperf(odd.a, odd.v4(odd.b), "-n", "16M", *direction)
                assert done.sent >= 16 * MEBI
