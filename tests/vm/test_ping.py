# SPDX-License-Identifier: GPL-2.0-or-later
"""ARP, neighbour discovery, and every size of frame."""

import sys
from pathlib import Path

import pytest

from tests.vm.pair import Pair
from tests.vm.traffic import IFACE, ping_sizes

SWEEP = Path(__file__).with_name("sweep.py")
V4, V6 = 20 + 8, 40 + 8
"""IP and ICMP headers, bytes."""


@pytest.mark.matrix
def test_addresses_are_resolved(pair: Pair) -> None:
    for vm, peer in ((pair.a, pair.b), (pair.b, pair.a)):
        vm.run("ip neigh flush all")
        vm.run(["ping", "-c", "1", "-w", "10", pair.v4(peer)])
        vm.run(["ping", "-c", "1", "-w", "10", pair.v6(peer)])
        said = vm.run("ip neigh show dev eth0").stdout
        assert said.count(pair.mac(peer)) >= 2


@pytest.mark.timeout(400)
@pytest.mark.parametrize("family", ["v4", "v6"])
def test_every_size_between_the_guests(pair: Pair, family: str) -> None:
    if family == "v4":
        lost = ping_sizes(pair.a, pair.v4(pair.b), 0, 1500 - V4, "-M", "do")
    else:
        lost = ping_sizes(pair.a, pair.v6(pair.b), 0, 1500 - V6, "-M", "do")
    assert lost == []


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_every_size_from_the_host(pair: Pair, family: str) -> None:
    address, header = (pair.v4(pair.a), V4) if family == "v4" else (pair.v6(pair.a), V6)
    done = pair.host.run([sys.executable, str(SWEEP), address, "0", str(1500 - header)], timeout=90)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_jumbo_frames_of_every_size(jumbo: Pair) -> None:
    for address, header in ((jumbo.v4(jumbo.a), V4), (jumbo.v6(jumbo.a), V6)):
        last = str(9000 - header)
        done = jumbo.host.run([sys.executable, str(SWEEP), address, "0", last], timeout=110)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_jumbo_frames_between_the_guests(jumbo: Pair) -> None:
    for size in (0, 1472, 1473, 4000, 8000, 9000 - V4):
        jumbo.a.run(
            ["ping", "-c", "3", "-i", "0.1", "-M", "do", "-s", str(size), jumbo.v4(jumbo.b)]
        )
    too_long = jumbo.a.run(
        ["ping", "-c", "1", "-W", "1", "-M", "do", "-s", str(9001 - V4), jumbo.v4(jumbo.b)],
        check=False,
    )
    assert too_long.status != 0
    assert jumbo.a.read_file(f"/sys/class/net/{IFACE}/mtu").strip() == "9000"


@pytest.mark.matrix
def test_fragments_are_put_together(pair: Pair) -> None:
    for peer in (pair.v4(pair.b), pair.v6(pair.b)):
        pair.a.run(["ping", "-c", "3", "-i", "0.1", "-s", "20000", peer])
