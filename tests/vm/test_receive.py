# SPDX-License-Identifier: GPL-2.0-or-later
"""How received frames reach the kernel: striding and cyclic queues."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from nicmodel.testbed.vm import Vm
from tests.vm.pair import Pair
from tests.vm.traffic import IFACE, MEBI, driver_statistics, iperf


@contextmanager
def private_flag(vm: Vm, flag: str, value: str) -> Iterator[None]:
    """A private flag of the driver, meanwhile."""
    before = dict(
        line.split()[::2]
        for line in vm.run(["ethtool", "--show-priv-flags", IFACE]).stdout.splitlines()[1:]
        if len(line.split()) == 3
    )[flag]
    vm.run(["ethtool", "--set-priv-flags", IFACE, flag, value])
    try:
        yield
    finally:
        vm.run(["ethtool", "--set-priv-flags", IFACE, flag, before])


def moved(vm: Vm, before: dict[str, int]) -> dict[str, int]:
    """What ``ethtool -S`` has counted since ``before``."""
    return {name: value - before.get(name, 0) for name, value in driver_statistics(vm).items()}


def test_the_driver_chooses_striding_queues(pair: Pair) -> None:
    said = pair.b.run(["ethtool", "--show-priv-flags", IFACE]).stdout
    assert "rx_striding_rq     : on" in said
    assert "StrdRq(1)" in pair.b.kernel_log()


@pytest.mark.parametrize("value", ["off", "on"])
def test_traffic_with_striding_queues_off_and_on(pair: Pair, value: str) -> None:
    with private_flag(pair.b, "rx_striding_rq", value):
        pair.connected()
        before = driver_statistics(pair.b)
        with pair.iperf_server(pair.b):
            done = iperf(pair.a, pair.v4(pair.b), "-n", "16M")
        assert done.sent >= 16 * MEBI
        counted = moved(pair.b, before)
        assert counted["rx_bytes"] > 16 * MEBI
        assert counted["rx_buff_alloc_err"] == counted["rx_oversize_pkts_sw_drop"] == 0
    pair.connected()
