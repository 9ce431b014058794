# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests on one switch with a tap of the host, all with addresses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nicmodel.testbed.domain import ModelNic, VmSpec
from nicmodel.testbed.hostnet import HostNetwork
from nicmodel.testbed.lab import Lab
from nicmodel.testbed.model import ModelProcess
from nicmodel.testbed.paths import plugin
from nicmodel.testbed.vm import Vm

HOST = "host"
"""Name of the host's tap in the topology."""


@dataclass(frozen=True)
class Lan:
    """The NIC process, the host's end, and the guests in the order of their addresses."""

    model: ModelProcess
    host: HostNetwork
    guests: tuple[Vm, ...]

    def end(self) -> int:
        """End guests, NIC process and host network; return the exit status of the NIC process."""
        for vm in self.guests:
            vm.destroy()
        status = self.model.stop()
        self.host.remove()
        return status


def boot(
    lab: Lab,
    names: Sequence[str],
    *,
    memory_mib: int,
    cpus: int,
    strict: bool = False,
    topology: Mapping[str, Any],
) -> Lan:
    """Boot guests; number N has 10.77.0.N and fd00:77::N, the host 10.77.0.254 and fd00:77::fe.

    ``topology`` has more tables of the NIC process, as of a topology file.
    """
    host = lab.host_network(HOST)
    sockets: dict[str, Path] = {name: lab.scratch / f"{name}.sock" for name in names}
    model = lab.model(
        {
            "run": {"seed": lab.seed, "strict": strict},
            "nic": [
                {"name": name, "socket": str(path), "profile": lab.options.nic}
                for name, path in sockets.items()
            ],
            "tap": [{"name": HOST, "interface": host.tap, "netns": host.namespace}],
            **topology,
        }
    )
    guests = lab.boot(
        *(
            VmSpec(name, memory_mib, cpus, nics=(ModelNic(sockets[name], plugin()),))
            for name in names
        )
    )
    for number, vm in enumerate(guests, 1):
        vm.run(
            f"ip addr add {v4(number)}/24 dev eth0 && "
            f"ip addr add {v6(number)}/64 dev eth0 nodad && ip link set eth0 up"
        )
    return Lan(model, host, tuple(guests))


def v4(number: int) -> str:
    """IPv4 address of a guest; the first one is 1."""
    return f"10.77.0.{number}"


def v6(number: int) -> str:
    """IPv6 address of a guest."""
    return f"fd00:77::{number:x}"
