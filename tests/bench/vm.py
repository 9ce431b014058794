# SPDX-License-Identifier: GPL-2.0-or-later
"""Our NIC beside QEMU's own e1000e and virtio-net, in the same guests, in the same run.

Each round measures all of them, one after the other, so that what the machine does meanwhile hits
all; medians are compared. Absolute figures mean little under emulation.
"""

import json
import re
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from nicmodel.testbed.domain import End, ModelNic, PeerModel, PeerNic, VmSpec
from nicmodel.testbed.lab import Lab
from nicmodel.testbed.paths import plugin
from nicmodel.testbed.vm import Vm
from tests.bench.cpu import PARTS, used
from tests.bench.report import ROUNDS, Result, plot_shares

SECONDS = 4
"""Length of one TCP or UDP measurement, in the guest's time."""
PINGS = 200
SMALL = 22
"""UDP payload of a frame of 64 bytes, without FCS."""

OURS, PEER, VIRTIO = "eth0", "eth1", "eth2"
"""Interfaces of the guests; PCI order."""
_MODELS: dict[str, PeerModel] = {PEER: "e1000e", VIRTIO: "virtio-net-pci"}
_ENDS: dict[str, End] = {"a": "listen", "b": "connect"}
_NETS = {OURS: "10.77.0", PEER: "10.78.0", VIRTIO: "10.79.0"}

Measure = Callable[[str], float]
"""Measures over the network whose first three bytes it is given."""


def run(lab: Lab) -> list[Result]:
    """Boot two guests with all NICs, measure; print each round."""
    sockets = {name: lab.scratch / f"{name}.sock" for name in _ENDS}
    model = lab.model(
        {
            "nic": [
                {"name": name, "socket": str(sockets[name]), "mac": f"02:00:00:00:00:0{i}"}
                for i, name in enumerate(_ENDS, 1)
            ],
        }
    )
    a, b = lab.boot(*(_guest(lab, name, sockets[name]) for name in _ENDS))
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
    shares: dict[str, dict[str, float]] = {}

    def share(interface: str, measure: Measure) -> Measure:
        """Do ``measure``, and note whose CPU time went into it."""

        def measured(net: str) -> float:
            before = used(lab, model)
            found = measure(net)
            spent = shares.setdefault(interface, dict.fromkeys(PARTS, 0.0))
            for part, seconds in used(lab, model).items():
                spent[part] += seconds - before[part]
            return found

        return measured

    def stream(*options: str) -> dict[str, Measure]:
        return {nic: share(nic, lambda net: _tcp(a, net, *options)) for nic in _NETS}

    results = _compare("vm_tcp_stream", "Mbit/s", stream())
    results += _compare("vm_tcp_stream_reverse", "Mbit/s", stream("-R"))
    time_goes(shares, "TCP streams")
    ping: Measure = partial(_ping, a)
    small: Measure = partial(_udp, a)
    results += _compare("vm_ping_rtt", "us", dict.fromkeys((OURS, PEER), ping))
    results += _compare("vm_udp_small", "packets/s", dict.fromkeys((OURS, PEER), small))
    for vm in (a, b):
        vm.destroy()  # whoever measures next has the machine alone
    model.stop()
    return results


def _guest(lab: Lab, name: str, socket: Path) -> VmSpec:
    number = list(_ENDS).index(name) + 1
    peers = [
        PeerNic(kind, lab.scratch / f"cable-{nic}", _ENDS[name], f"02:00:00:00:0{slot}:0{number}")
        for slot, (nic, kind) in enumerate(_MODELS.items(), 1)
    ]
    return VmSpec(name, nics=(ModelNic(socket, plugin()), *peers))


def _compare(name: str, unit: str, measures: dict[str, Measure]) -> list[Result]:
    """Measure every NIC in each round; ours against each of the others."""
    rounds: list[dict[str, float]] = []
    for number in range(ROUNDS):
        # the order alternates, so that none has the other's aftermath every time
        order = list(measures) if number % 2 == 0 else list(reversed(measures))
        found = {nic: measures[nic](_NETS[nic]) for nic in order}
        rounds.append(found)
        others = ", ".join(f"{_MODELS[nic]} {found[nic]:.1f}" for nic in measures if nic != OURS)
        print(f"  {name} {number + 1}/{ROUNDS}: {found[OURS]:.1f}, {others} {unit}", flush=True)
    median = {nic: statistics.median(found[nic] for found in rounds) for nic in measures}
    ours = median.pop(OURS)
    return [
        Result(
            name if nic == PEER else f"{name}_{nic_model.removesuffix('-pci').replace('-', '_')}",
            ours,
            unit,
            nic_model,
            peer,
            ours / peer,
            tuple((found[OURS], found[nic]) for found in rounds),
        )
        for nic, peer in median.items()
        for nic_model in (_MODELS[nic],)
    ]


def time_goes(shares: dict[str, dict[str, float]], what: str) -> None:
    """Print and plot how the CPU time of ``what`` is shared between guests, QEMU and the model."""
    rows = {_MODELS.get(nic, "ours"): spent for nic, spent in shares.items()}
    for name, spent in rows.items():
        total = sum(spent.values())
        parts = ", ".join(f"{part} {seconds / total:.0%}" for part, seconds in spent.items())
        print(f"  CPU time of {what}, {name}: {parts}")
    plot_shares(rows, f"CPU time of {what}", "where_time_goes")


def _tcp(client: Vm, net: str, *options: str) -> float:
    end = _iperf(client, net, *options)
    return float(end["sum_received"]["bits_per_second"]) / 1e6


def _udp(client: Vm, net: str) -> float:
    """Small datagrams that arrive, per second."""
    end = _iperf(client, net, "-u", "-b", "0", "-l", str(SMALL))["sum"]
    return float((end["packets"] - end["lost_packets"]) / end["seconds"])


def _iperf(client: Vm, net: str, *options: str) -> dict[str, Any]:
    command = ["iperf3", "-c", f"{net}.2", "-t", str(SECONDS), "-J", *options]
    said = json.loads(client.run(command, timeout=SECONDS * 10 + 30).stdout)
    end: dict[str, Any] = said["end"]
    return end


def _ping(client: Vm, net: str) -> float:
    """Median round trip of single pings, us."""
    said = client.run(f"ping -c {PINGS} -i 0.01 {net}.2", timeout=60).stdout
    return statistics.median(float(t) for t in re.findall(r"time=([\d.]+) ms", said)) * 1000
