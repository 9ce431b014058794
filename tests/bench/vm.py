# SPDX-License-Identifier: GPL-2.0-or-later
"""Our NIC beside QEMU's own e1000e, in the same guests, in the same run.

Each round measures both, one after the other, so that what the machine does meanwhile hits both;
medians are compared. Absolute figures mean little under emulation.
"""

import json
import re
import statistics
from collections.abc import Callable

from nicmodel.testbed.domain import End, ModelNic, PeerNic, VmSpec
from nicmodel.testbed.lab import Lab, LabOptions
from nicmodel.testbed.paths import plugin
from nicmodel.testbed.vm import Vm
from tests.bench.report import ROUNDS, Result

SECONDS = 4
"""Length of one TCP measurement, in the guest's time."""
PINGS = 200

OURS, PEER = "eth0", "eth1"
"""Interfaces of the guests; PCI order."""
_ENDS: dict[str, End] = {"a": "listen", "b": "connect"}
_NETS = {OURS: "10.77.0", PEER: "10.78.0"}


def run(options: LabOptions | None = None) -> list[Result]:
    """Boot two guests with both NICs, measure; print each round."""
    with Lab(options) as lab:
        sockets = {name: lab.scratch / f"{name}.sock" for name in "ab"}
        cable = lab.scratch / "cable"
        lab.model(
            {
                "nic": [
                    {"name": name, "socket": str(sockets[name]), "mac": f"02:00:00:00:00:0{i}"}
                    for i, name in enumerate("ab", 1)
                ],
            }
        )
        specs = [
            VmSpec(
                name,
                nics=(
                    ModelNic(sockets[name], plugin()),
                    PeerNic("e1000e", cable, end, f"02:00:00:00:01:0{number}"),
                ),
            )
            for number, (name, end) in enumerate(_ENDS.items(), 1)
        ]
        a, b = lab.boot(*specs)
        print(f"guests are up ({lab.acceleration.name}); {ROUNDS} rounds", flush=True)
        for number, vm in enumerate((a, b), 1):
            for interface, net in _NETS.items():
                vm.run(f"ip addr add {net}.{number}/24 dev {interface}; ip link set {interface} up")
        for vm in (a, b):
            for interface in _NETS:
                vm.wait_until(f"grep -q 1 /sys/class/net/{interface}/carrier")
        b.start("iperf3 -s")
        for net in _NETS.values():
            a.run(f"ping -c 1 -W 1 -w 20 {net}.2", timeout=40)
        return [
            _compare("vm_tcp_stream", "Mbit/s", lambda net: _tcp(a, net)),
            _compare("vm_tcp_stream_reverse", "Mbit/s", lambda net: _tcp(a, net, "-R")),
            _compare("vm_ping_rtt", "us", lambda net: _ping(a, net)),
        ]


def _compare(name: str, unit: str, measure: Callable[[str], float]) -> Result:
    rounds = []
    for number in range(ROUNDS):
        # the order alternates, so that neither has the other's aftermath every time
        order = (OURS, PEER) if number % 2 == 0 else (PEER, OURS)
        found = {interface: measure(_NETS[interface]) for interface in order}
        rounds.append((found[OURS], found[PEER]))
        print(f"  {name} {number + 1}/{ROUNDS}: {found[OURS]:.1f}, e1000e {found[PEER]:.1f} {unit}")
    ours, peer = (statistics.median(column) for column in zip(*rounds, strict=True))
    return Result(name, ours, unit, "e1000e", peer, ours / peer, tuple(rounds))


def _tcp(client: Vm, net: str, *options: str) -> float:
    command = ["iperf3", "-c", f"{net}.2", "-t", str(SECONDS), "-J", *options]
    said = json.loads(client.run(command, timeout=SECONDS * 10 + 30).stdout)
    return float(said["end"]["sum_received"]["bits_per_second"]) / 1e6


def _ping(client: Vm, net: str) -> float:
    """Median round trip of single pings, us."""
    said = client.run(f"ping -c {PINGS} -i 0.01 {net}.2", timeout=60).stdout
    return statistics.median(float(t) for t in re.findall(r"time=([\d.]+) ms", said)) * 1000
