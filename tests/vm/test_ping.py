# SPDX-License-Identifier: GPL-2.0-or-later
"""ARP, neighbour discovery, and every size of frame."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.vm import build
from tests.vm.pair import Pair
from tests.vm.traffic import IFACE

SWEEP = build.own("sweep")
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


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_every_size_between_the_guests(pair: Pair, family: str) -> None:
    address, header = (pair.v4(pair.b), V4) if family == "v4" else (pair.v6(pair.b), V6)
    program = build.install(pair.a, SWEEP)
    done = pair.a.run([program, address, "0", str(1500 - header)], timeout=100, check=False)
    assert (done.status, done.stdout) == (0, "")


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_every_size_from_the_host(pair: Pair, family: str) -> None:
    address, header = (pair.v4(pair.a), V4) if family == "v4" else (pair.v6(pair.a), V6)
    _from_the_host(pair, address, 1500 - header)


@pytest.mark.timeout(300)
def test_jumbo_frames_of_every_size(jumbo: Pair) -> None:
    with ThreadPoolExecutor() as both:
        ways = [(jumbo.v4(jumbo.a), 9000 - V4), (jumbo.v6(jumbo.a), 9000 - V6)]
        for done in [both.submit(_from_the_host, jumbo, *way) for way in ways]:
            done.result()


def _from_the_host(pair: Pair, address: str, last: int) -> None:
    program = str(build.program(SWEEP))
    done = pair.host.run([program, address, "0", str(last)], timeout=200)
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
