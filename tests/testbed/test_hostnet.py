# SPDX-License-Identifier: GPL-2.0-or-later
"""A host network: namespace, tap, addresses; usable at once and gone afterwards."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nicmodel.testbed.hostnet import HostNetwork
from nicmodel.wire.tap import open_tap

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/dev/net/tun").exists(),
    reason="namespaces and taps take root and /dev/net/tun",
)


@pytest.fixture
def network() -> Iterator[HostNetwork]:
    made = HostNetwork(f"nicmodel-test-{os.getpid()}", mtu=9000)
    made.create()
    yield made
    made.remove()
    assert not Path("/run/netns", made.namespace).exists()


def test_addresses_are_usable_without_delay(network: HostNetwork) -> None:
    shown = network.run(["ip", "-o", "addr", "show", "dev", network.tap]).stdout
    assert "10.77.0.254/24" in shown
    assert "fd00:77::fe/64" in shown
    assert "tentative" not in shown.split("fd00")[1].split("\n")[0]


def test_frames_of_the_host_come_out_of_the_tap(network: HostNetwork) -> None:
    fd = open_tap(network.tap, network.namespace)
    try:
        pinging = network.start(["ping", "-c", "1", "-w", "2", "10.77.0.1"])
        pinging.communicate(timeout=10)
        assert pinging.returncode != 0
        seen = []
        while True:
            try:
                seen.append(os.read(fd, 65536))
            except BlockingIOError:
                break
        arp = [frame for frame in seen if frame[12:14] == b"\x08\x06"]
        assert arp
        assert arp[0][38:42] == bytes([10, 77, 0, 1])
    finally:
        os.close(fd)
