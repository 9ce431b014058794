# SPDX-License-Identifier: GPL-2.0-or-later
"""TCP and UDP, both ways, over one and many queues."""

import pytest

from tests.vm.pair import Pair
from tests.vm.traffic import IFACE, MEBI, driver_statistics, iperf, transfer

UDP = ("-u", "-b", "10M", "-l", "1400", "-n", "3M", "-w", "1M")


@pytest.mark.matrix
@pytest.mark.parametrize("direction", [(), ("-R",)], ids=["a-to-b", "b-to-a"])
@pytest.mark.parametrize("family", ["v4", "v6"])
def test_tcp(pair: Pair, family: str, direction: tuple[str, ...]) -> None:
    address = pair.v4(pair.b) if family == "v4" else pair.v6(pair.b)
    with pair.iperf_server(pair.b):
        done = iperf(pair.a, address, "-n", "24M", *direction)
    assert done.sent >= 24 * MEBI


@pytest.mark.matrix
@pytest.mark.parametrize("direction", [(), ("-R",)], ids=["a-to-b", "b-to-a"])
@pytest.mark.parametrize("family", ["v4", "v6"])
def test_udp(pair: Pair, family: str, direction: tuple[str, ...]) -> None:
    address = pair.v4(pair.b) if family == "v4" else pair.v6(pair.b)
    with pair.iperf_server(pair.b):
        done = iperf(pair.a, address, *UDP, *direction)
    assert done.lost == 0
    assert done.sent >= 3 * MEBI - 1400


@pytest.mark.matrix
def test_bytes_arrive_as_they_were_sent(pair: Pair) -> None:
    transfer(pair.a, pair.b, pair.v4(pair.b), 16 * MEBI)


@pytest.mark.matrix
def test_offloads_do_the_work(pair: Pair) -> None:
    before = driver_statistics(pair.a)
    with pair.iperf_server(pair.b):
        iperf(pair.a, pair.v4(pair.b), "-n", "16M")
    after = driver_statistics(pair.a)
    moved = {name: after[name] - before[name] for name in after}
    assert moved["tx_tso_packets"] > 0
    assert moved["tx_tso_bytes"] > 12 * MEBI
    assert moved["tx_csum_partial"] > 0
    assert moved["rx_csum_complete"] + moved["rx_csum_unnecessary"] > 0


@pytest.mark.timeout(300)
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_parallel_streams_over_channels(wide: Pair, channels: int) -> None:
    for vm in (wide.a, wide.b):
        vm.run(["ethtool", "-L", IFACE, "combined", str(channels)])
    wide.a.run(["ping", "-c", "1", "-w", "20", wide.v4(wide.b)])
    before = driver_statistics(wide.b)
    with wide.iperf_server(wide.b):
        done = iperf(wide.a, wide.v4(wide.b), "-n", "24M", "-P", "16", timeout=200)
    assert done.sent >= 24 * MEBI
    after = driver_statistics(wide.b)
    used = [
        channel
        for channel in range(4)
        if after.get(f"rx{channel}_packets", 0) > before.get(f"rx{channel}_packets", 0) + 20
    ]
    assert used == list(range(channels)) if channels < 4 else len(used) >= 2
