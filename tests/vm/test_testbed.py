# SPDX-License-Identifier: GPL-2.0-or-later
"""The testbed's own promises, in guests with QEMU's NICs."""

import hashlib
import json
import time
from collections.abc import Iterator

import pytest

from nicmodel.testbed.domain import PeerNic, VmSpec
from nicmodel.testbed.errors import CommandFailed, GuestDied, GuestTimeout, Unavailable
from nicmodel.testbed.lab import Lab
from nicmodel.testbed.vm import Vm
from tests.vm.pair import boot_pair


@pytest.fixture(scope="module")
def guest(lab: Lab) -> Iterator[Vm]:
    (vm,) = lab.boot(VmSpec("solo"))
    yield vm
    vm.destroy()


def test_command_returns_status_and_both_outputs(guest: Vm) -> None:
    done = guest.run("echo out; echo err >&2; exit 3", check=False)
    assert (done.status, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_failed_command_raises_with_its_words(guest: Vm) -> None:
    with pytest.raises(CommandFailed, match=r"status 1: .*no-such-file"):
        guest.run("cat /no-such-file")


def test_command_past_its_time_is_killed_with_its_children(guest: Vm) -> None:
    with pytest.raises(GuestTimeout):
        guest.run("sleep 4242 & sleep 4242", timeout=0.5)
    guest.wait_until("! pgrep -f '^sleep 4242'")


def test_files_of_any_bytes_reach_the_guest(guest: Vm) -> None:
    data = bytes(range(256)) * 64
    guest.write_file("/tmp/a b", data)
    digest = guest.run(["sha256sum", "/tmp/a b"]).stdout.split()[0]
    assert digest == hashlib.sha256(data).hexdigest()


def test_tools_of_the_guest_are_the_real_ones(guest: Vm) -> None:
    versions = "ip -V; ping -V; ethtool --version; iperf3 --version; tcpdump --version 2>&1"
    text = guest.run(versions).stdout
    for word in ("iproute2", "iputils", "ethtool version", "iperf 3", "tcpdump version"):
        assert word in text


def test_reboot_is_a_new_kernel_and_the_same_guest(guest: Vm) -> None:
    guest.run("touch /tmp/before")
    guest.reboot()
    assert guest.run("test -e /tmp/before", check=False).status == 1
    assert guest.run("hostname").stdout == "solo\n"


@pytest.mark.kernel_faults("panic", "bug")
def test_panic_is_seen_and_the_guest_comes_back(guest: Vm) -> None:
    guest.start("echo c > /proc/sysrq-trigger")
    with pytest.raises(GuestDied, match="panic"):
        guest.run("sleep 60", timeout=60)
    assert [fault.kind for fault in guest.faults()][-1] == "panic"
    guest.destroy()
    guest.power_on()
    guest.wait_ready()
    assert guest.alive
    assert guest.faults() == []


@pytest.mark.parametrize("memory", [256, 4096])
def test_small_and_large_guests_boot(lab: Lab, memory: int) -> None:
    (vm,) = lab.boot(VmSpec(f"m{memory}", memory_mib=memory))
    total = int(vm.run("awk '/MemTotal/ { print $2 }' /proc/meminfo").stdout) // 1024
    assert memory * 0.75 < total <= memory
    vm.shutdown()
    assert not vm.alive


def test_two_guests_on_a_cable(lab: Lab) -> None:
    cable = lab.scratch / "cable"
    a, b = lab.boot(
        VmSpec("left", nics=(PeerNic("e1000e", cable, "listen", "02:00:00:00:01:01"),)),
        VmSpec("right", nics=(PeerNic("e1000e", cable, "connect", "02:00:00:00:01:02"),)),
    )
    for number, vm in enumerate((a, b), 1):
        vm.run(f"ip addr add 192.0.2.{number}/24 dev eth0 && ip link set eth0 up")
    for vm in (a, b):
        vm.wait_until("grep -q 1 /sys/class/net/eth0/carrier")
    a.run("ping -c 1 -w 15 192.0.2.2", timeout=20)
    server = b.start("iperf3 -s -1")
    b.wait_until("ss -Hltn | grep -q :5201")
    client = a.run("iperf3 -J -t 2 -c 192.0.2.2", timeout=30)
    assert json.loads(client.stdout)["end"]["sum_received"]["bytes"] > 1_000_000
    server.wait()
    for vm in (a, b):
        vm.destroy()


def test_a_pair_that_does_not_boot_leaves_nothing(lab: Lab) -> None:
    """The first guest runs when QEMU finds no room for the second one's initramfs."""
    with pytest.raises(Unavailable, match="QEMU does not start"):
        boot_pair(lab, "half", memory=(256, 16))
    assert [vm.name for vm in lab.guests() if vm.name.startswith("half") and vm.alive] == []
    assert [path.name for path in lab.scratch.glob("half*.sock")] == [], "the NIC process is there"
    lab.host_network("half").remove()


def test_a_command_costs_less_than_a_tenth_of_a_second(guest: Vm) -> None:
    """The best of several: other work on this machine is not what is measured."""

    def cost() -> float:
        started = time.monotonic()
        guest.run("true")
        return time.monotonic() - started

    assert min(cost() for _ in range(20)) < 0.1
