# SPDX-License-Identifier: GPL-2.0-or-later
"""``make bench``: our NIC beside QEMU's own e1000e, in the same guests, in the same run.

Each round measures both, one after the other, so that what the machine does meanwhile hits both;
medians are compared. Absolute figures mean little under emulation.
"""

import json
import re
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from nicmodel.errors import UserError
from nicmodel.testbed.domain import End, ModelNic, PeerNic, VmSpec
from nicmodel.testbed.errors import GuestError, Unavailable
from nicmodel.testbed.lab import Lab, LabOptions
from nicmodel.testbed.paths import BUILD, plugin
from nicmodel.testbed.vm import Vm

ROUNDS = 5
SECONDS = 4
"""Length of one TCP measurement, in the guest's time."""
PINGS = 200

RESULTS = BUILD / "bench" / "results.json"

OURS, PEER = "eth0", "eth1"
"""Interfaces of the guests; PCI order."""
_ENDS: dict[str, End] = {"a": "listen", "b": "connect"}
_NETS = {OURS: "10.77.0", PEER: "10.78.0"}


@dataclass(frozen=True)
class Result:
    """One line of ``results.json``: medians of ``value`` (ours) and ``peer_value`` (the peer's)."""

    name: str
    value: float
    unit: str
    peer: str
    peer_value: float
    ratio: float
    rounds: tuple[tuple[float, float], ...]


def run(options: LabOptions | None = None) -> list[Result]:
    """Boot two guests with both NICs, measure, print the table, write ``results.json``."""
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
        results = [
            _compare("vm_tcp_stream", "Mbit/s", lambda net: _tcp(a, net)),
            _compare("vm_tcp_stream_reverse", "Mbit/s", lambda net: _tcp(a, net, "-R")),
            _compare("vm_ping_rtt", "us", lambda net: _ping(a, net)),
        ]
    _report(results, RESULTS)
    return results


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


def _report(results: list[Result], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")
    print(f"\n{'':24}{'ours':>12}{'e1000e':>12}{'ratio':>8}")
    for r in results:
        print(f"{r.name:24}{r.value:12.1f}{r.peer_value:12.1f}{r.ratio:8.2f}  {r.unit}")
    print(f"\nwritten to {path}")


def main() -> int:
    """Measure; the exit status."""
    try:
        run()
    except Unavailable as error:
        print(error, file=sys.stderr)
        return 4
    except (UserError, GuestError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
