# SPDX-License-Identifier: GPL-2.0-or-later
"""The device breaks on purpose; the driver's own recovery runs, and traffic goes on."""

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from nicmodel.control import Control
from nicmodel.testbed.vm import Vm
from tests.vm.conftest import PairMaker
from tests.vm.pair import Pair
from tests.vm.traffic import IFACE, MEBI, driver_statistics, iperf

PCI = "pci/0000:03:00.0"
COMMAND_TIMEOUT_MS = 4000
"""Instead of 60 s. The driver then waits 5 s more (``cmd.c`` MLX5_CMD_TIMEOUT_RECOVER_MSEC)."""


@pytest.fixture(scope="module")
def guests(make_pair: PairMaker) -> Iterator[Pair]:
    """Guests whose firmware recovers as often as it breaks, not once a minute."""
    nic = {"command_timeout_ms": COMMAND_TIMEOUT_MS}
    with make_pair("faulty", capture=False, nic=nic) as made:
        for vm in (made.a, made.b):
            vm.run(f"devlink health set {PCI} reporter fw_fatal grace_period 0")
        yield made
        assert made.errors() == {}


@pytest.fixture
def pair(guests: Pair) -> Iterator[Pair]:
    """They are connected before and after a test, and no fault is left."""
    for vm in (guests.a, guests.b):
        guests.restore(vm)
    guests.connected()
    yield guests
    control = guests.model.control
    left = control.faults()
    for nic, faults in left.items():
        for fault in faults:
            control.remove_fault(nic, fault["number"])
    assert not any(left.values()), "a fault did not fire"
    guests.connected()


@pytest.fixture
def control(pair: Pair) -> Control:
    return pair.model.control


class Log:
    """What a guest's kernel says from now on."""

    def __init__(self, vm: Vm) -> None:
        self._vm = vm
        lines = int(vm.run("dmesg | wc -l").stdout)
        self._command = f"dmesg | tail -n +{lines + 1}"

    def wait(self, words: str, timeout: float = 20) -> None:
        """Until it has said ``words``."""
        self._vm.wait_until(f"{self._command} | grep -q '{words}'", timeout=timeout)

    def text(self) -> str:
        return self._vm.run(self._command).stdout


def reporter(vm: Vm, name: str) -> dict[str, Any]:
    """A health reporter as ``devlink`` shows it: state, error, recover."""
    shown = json.loads(vm.run("devlink -j health show").stdout)["health"]
    (found,) = (each for device in shown.values() for each in device if each["reporter"] == name)
    return dict(found)


def counts(vm: Vm, name: str) -> tuple[int, int]:
    """Errors and recoveries of a reporter."""
    shown = reporter(vm, name)
    return shown["error"], shown["recover"]


def moved(vm: Vm, before: dict[str, int]) -> dict[str, int]:
    """What the driver has counted since."""
    after = driver_statistics(vm)
    return {name: after[name] - before.get(name, 0) for name in after}


def channels(vm: Vm, number: int) -> int:
    """``ethtool -L``; its exit status."""
    command = ["ethtool", "-L", IFACE, "combined", str(number)]
    return vm.run(command, check=False, timeout=60).status


def send_queue(vm: Vm) -> int:
    """Number of the first send queue."""
    said = vm.run(f"devlink health diagnose {PCI}/65535 reporter tx").stdout
    found = re.search(r"txq ix: 0 sqn: (\d+)", said)
    assert found, said
    return int(found[1])


def recovered(pair: Pair, logs: dict[str, Log]) -> None:
    """Wait until both drivers have recovered; then configure the interfaces, which are new."""
    for vm in (pair.a, pair.b):
        logs[vm.name].wait("health recovery succeeded", 60)
        vm.wait_until(f"test -e /sys/class/net/{IFACE}")
        pair.restore(vm)


def test_error_completions(pair: Pair, control: Control) -> None:
    """tx reporter: ERR, flush, RST, RDY; rx reporter: the same for the receive queue."""
    before = {vm.name: driver_statistics(vm) for vm in (pair.a, pair.b)}
    tx, rx = counts(pair.a, "tx"), counts(pair.b, "rx")
    log = Log(pair.a)
    control.fault(pair.a.name, "cqe-error", queue="sq", syndrome="LOCAL_PROT_ERR", after=100)
    control.fault(pair.b.name, "cqe-error", queue="rq", syndrome="LOCAL_PROT_ERR", after=1000)
    with pair.iperf_server(pair.b):
        assert iperf(pair.a, pair.v4(pair.b), "-n", "24M").sent >= 24 * MEBI
    pair.a.wait_until("devlink health show | grep -A1 'reporter tx' | grep -q healthy")
    assert counts(pair.a, "tx") == (tx[0] + 1, tx[1] + 1)
    assert counts(pair.b, "rx") == (rx[0] + 1, rx[1] + 1)
    sent, got = (moved(vm, before[vm.name]) for vm in (pair.a, pair.b))
    assert sent["tx_recover"] == 1
    assert sent["tx_cqe_err"] >= 1
    assert got["rx_recover"] == 1
    assert got["rx_wqe_err"] == 1
    assert "opcode 0xd, syndrome 0x4" in log.text()


def test_late_completions(pair: Pair, control: Control) -> None:
    control.fault(pair.b.name, "late-completion", queue="rq", delay_ms=300, after=2)
    said = pair.a.run(["ping", "-c", "6", "-i", "0.1", "-w", "20", pair.v4(pair.b)]).stdout
    assert " 0% packet loss" in said
    worst = re.search(r"= [\d.]+/[\d.]+/([\d.]+)/", said)
    assert worst, said
    assert float(worst[1]) > 295


def test_refused_commands(pair: Pair, control: Control) -> None:
    log = Log(pair.a)
    control.fault(
        pair.a.name, "command-failure", command="CREATE_SQ", status="NO_RES", syndrome=0x123456
    )
    assert channels(pair.a, 1) != 0
    assert "CREATE_SQ(0x904) op_mod(0x0) failed, status no resources(0xf), syndrome (0x123456)" in (
        log.text()
    )
    pair.connected()
    control.fault(pair.a.name, "exhaustion", objects="RQ", limit=2, status="LIM")
    log = Log(pair.a)
    assert channels(pair.a, 1) != 0
    assert "CREATE_RQ(0x908) op_mod(0x0) failed, status limits exceeded(0x8)" in log.text()
    pair.connected()
    assert channels(pair.a, 1) == 0
    assert channels(pair.a, 2) == 0


def test_lost_event_of_a_command(pair: Pair, control: Control) -> None:
    """The command was executed: the driver finds its event when it looks for it."""
    log = Log(pair.a)
    control.fault(pair.a.name, "lost-interrupt", reports="command")
    assert channels(pair.a, 1) == 0
    assert channels(pair.a, 2) == 0
    said = log.text()
    assert "Recovered 1 EQEs on cmd_eq" in said
    assert "recovered after timeout" in said


@pytest.mark.timeout(300)
@pytest.mark.kernel_faults("transmit timeout")
def test_transmit_timeouts(pair: Pair, control: Control) -> None:
    """The watchdog's 15 s: what lies in the event queue helps a; b opens its channels anew."""
    for vm in (pair.a, pair.b):
        assert channels(vm, 1) == 0
    pair.connected()
    before = driver_statistics(pair.a)
    errors = {vm.name: counts(vm, "tx") for vm in (pair.a, pair.b)}
    queue = send_queue(pair.b)
    logs = {vm.name: Log(vm) for vm in (pair.a, pair.b)}
    control.fault(pair.a.name, "lost-interrupt", reports="completion")
    lost = control.fault(pair.b.name, "lost-completion", number=queue, count=0)
    pings = [vm.start("ping -i 0.2 10.77.0.254 >/dev/null") for vm in (pair.a, pair.b)]
    try:
        for vm in (pair.a, pair.b):
            logs[vm.name].wait("TX timeout on queue: 0", 60)
            vm.wait_until("devlink health show | grep -A1 'reporter tx' | grep -q healthy")
            vm.run(["ping", "-c", "1", "-w", "20", "10.77.0.254"], timeout=30)
    finally:
        for ping in pings:
            ping.kill()
        control.remove_fault(pair.b.name, lost)
    for name, (error, recover) in errors.items():
        vm = pair.a if name == pair.a.name else pair.b
        assert counts(vm, "tx") == (error + 1, recover + 1)
    assert re.search(r"Recovered \d+ eqes on EQ", logs[pair.a.name].text())
    assert moved(pair.a, before)["ch_eq_rearm"] == 1
    assert "Recovered" not in logs[pair.b.name].text()
    assert send_queue(pair.b) != queue
    for vm in (pair.a, pair.b):
        assert channels(vm, 2) == 0


@pytest.mark.timeout(300)
@pytest.mark.kernel_faults("device failure")
def test_health_that_needs_no_restart(pair: Pair, control: Control) -> None:
    before = counts(pair.a, "fw")[0]
    log = Log(pair.b)
    control.fault(pair.a.name, "health", syndrome="HIGH_TEMP", fatal=False)
    # three polls of 2 to 3 s each must see the same counter
    control.fault(pair.b.name, "frozen-counter", count=26)
    pair.a.wait_until("devlink health show | grep -A1 'reporter fw$' | grep -q 'state error'")
    assert counts(pair.a, "fw")[0] == before + 1
    diagnosed = pair.a.run(f"devlink health diagnose {PCI} reporter fw").stdout
    assert "Syndrome: 16 Description: High temperature" in diagnosed
    log.wait("health compromised - reached miss count", 40)
    pair.connected()
    deadline = time.monotonic() + 30
    while any(control.faults().values()) and time.monotonic() < deadline:
        pair.b.run("sleep 0.5")


@pytest.mark.timeout(300)
def test_firmware_that_must_restart(pair: Pair, control: Control) -> None:
    """fw_fatal reporter: a restarts its firmware; b is told that nobody serves it."""
    before = {vm.name: counts(vm, "fw_fatal") for vm in (pair.a, pair.b)}
    logs = {vm.name: Log(vm) for vm in (pair.a, pair.b)}
    control.fault(pair.a.name, "health", syndrome="FW_ERR", fatal=True)
    control.fault(pair.b.name, "interface-disabled")
    recovered(pair, logs)
    pair.connected()
    for vm in (pair.a, pair.b):
        error, recover = before[vm.name]
        assert counts(vm, "fw_fatal") == (error + 1, recover + 1)
        assert reporter(vm, "fw_fatal")["state"] == "healthy"
    said = logs[pair.a.name].text()
    assert "synd 0x1: firmware internal error" in said
    assert "Issuing FW Reset" in said
    assert "NIC IFC still" not in said
    assert "Syndrome: 0" in pair.a.run(f"devlink health diagnose {PCI} reporter fw").stdout


@pytest.mark.timeout(300)
@pytest.mark.parametrize("noticed", [False, True], ids=["at-once", "when-the-guests-noticed"])
def test_killed_process(pair: Pair, noticed: bool) -> None:
    """kill -9 of the NIC process while both guests send: what TCP was sending arrives."""
    size = 16 * MEBI
    logs = {vm.name: Log(vm) for vm in (pair.a, pair.b)}
    for vm in (pair.a, pair.b):
        vm.run(f"rm -f /tmp/got; head -c {size} /dev/urandom >/tmp/sent")
    receivers = [
        vm.start("socat -u TCP-LISTEN:7200,reuseaddr OPEN:/tmp/got,creat")
        for vm in (pair.a, pair.b)
    ]
    senders = [
        vm.start(f"socat -u OPEN:/tmp/sent TCP:{pair.v4(to)}:7200,retry=50,interval=0.1")
        for vm, to in ((pair.a, pair.b), (pair.b, pair.a))
    ]
    for vm in (pair.a, pair.b):
        vm.wait_until("[ $(stat -c %s /tmp/got 2>/dev/null || echo 0) -gt 1000000 ]", timeout=30)
    pair.model.kill()
    arrived = [int(vm.run("stat -c %s /tmp/got").stdout) for vm in (pair.a, pair.b)]
    assert max(arrived) < size, "it was too late to kill"
    if noticed:
        for log in logs.values():
            log.wait("Fatal error 1 detected", 20)
    pair.model.start()
    recovered(pair, logs)
    for process in (*senders, *receivers):
        process.wait(120)
    for vm, to in ((pair.a, pair.b), (pair.b, pair.a)):
        sent = vm.run(["sha256sum", "/tmp/sent"]).stdout.split()[0]
        assert to.run(["sha256sum", "/tmp/got"]).stdout.split()[0] == sent
    for vm in (pair.a, pair.b):
        vm.run("rm /tmp/sent /tmp/got")


@pytest.mark.timeout(300)
@pytest.mark.kernel_faults("device failure")
def test_command_that_is_answered_too_late(pair: Pair, control: Control) -> None:
    """The command fails after the time-out; its slot is lost until the answer comes."""
    log = Log(pair.a)
    control.fault(pair.a.name, "command-timeout", command="CREATE_SQ", delay_ms=13_000)
    assert channels(pair.a, 1) != 0
    said = log.text()
    assert "CREATE_SQ(0x904) No done completion" in said
    assert "CREATE_SQ(0x904) timeout. Will cause a leak of a command resource" in said
    pair.connected()
    assert channels(pair.a, 1) == 0
    assert channels(pair.a, 2) == 0
    log.wait("Command completion arrived after timeout", 40)
    pair.a.run("modprobe -r mlx5_core && modprobe mlx5_core", timeout=60)
    pair.a.run(f"devlink health set {PCI} reporter fw_fatal grace_period 0")
    pair.a.wait_until(f"test -e /sys/class/net/{IFACE}")
    pair.restore(pair.a)
