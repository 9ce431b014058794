# SPDX-License-Identifier: GPL-2.0-or-later
"""Two guests on one switch, with the NIC process that serves them and a host tap."""

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nicmodel.testbed.domain import End, ModelNic, PeerNic, VmSpec
from nicmodel.testbed.hostnet import HostNetwork
from nicmodel.testbed.lab import Lab
from nicmodel.testbed.model import ModelProcess
from nicmodel.testbed.paths import plugin
from nicmodel.testbed.vm import Vm
from tests.vm.traffic import IFACE, STACK_COUNTERS, stack_errors

_ENDS: tuple[End, End] = ("listen", "connect")
_PEER_MACS = ("02:00:00:00:e1:01", "02:00:00:00:e1:02")


@dataclass
class Pair:
    """Guests ``a`` (addresses end in 1) and ``b`` (in 2); the host's tap ends in 254 and fe."""

    lab: Lab
    a: Vm
    b: Vm
    model: ModelProcess
    host: HostNetwork
    captures: list[Path]
    mtu: int = 1500
    macs: dict[str, str] = field(default_factory=dict)
    read: int = 0
    """Bytes of the file of events that were looked at for findings."""
    status: int = 0
    """How the NIC process is to end: 1 where a finding fails the run."""

    def number(self, vm: Vm) -> int:
        """1 for a, 2 for b."""
        return 1 if vm is self.a else 2

    def v4(self, vm: Vm) -> str:
        """IPv4 address."""
        return f"10.77.0.{self.number(vm)}"

    def v6(self, vm: Vm) -> str:
        """IPv6 address."""
        return f"fd00:77::{self.number(vm)}"

    def mac(self, vm: Vm) -> str:
        """Permanent address, as the topology has it."""
        return self.macs[vm.name]

    def restore(self, *guests: Vm) -> None:
        """Bring interface and addresses to where every test starts, whatever was before."""
        self.both(self._restoring, *guests)

    def _restoring(self, vm: Vm) -> str:
        number = self.number(vm)
        # each program that is started costs tens of milliseconds without KVM
        return (
            "for side in r w; do echo 4194304 >/proc/sys/net/core/${side}mem_max; done\n"
            "ip -batch - <<.\n"
            f"link set {IFACE} mtu {self.mtu} up\n"
            f"addr flush dev {IFACE} scope global\n"
            f"addr add 10.77.0.{number}/24 dev {IFACE}\n"
            f"addr add fd00:77::{number}/64 dev {IFACE} nodad\n"
            "neigh flush all\n"
            "."
        )

    def both(self, command: Callable[[Vm], str], *guests: Vm) -> dict[str, str]:
        """Run a command in both guests (or some) at the same time; what it printed, by guest."""
        running = {vm.name: vm.start(command(vm)) for vm in guests or (self.a, self.b)}
        return {name: process.wait().stdout for name, process in running.items()}

    def mend(self) -> None:
        """Bring the cables to where every test starts."""
        for name in (self.a.name, self.b.name, "host"):
            cable = self.model.control.link(name)
            cable.up()
            cable.clear()

    def connected(self) -> None:
        """Wait until the guests reach each other."""
        self.a.run(["ping", "-c", "1", "-w", "30", self.v4(self.b)], timeout=40)

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """The NIC process stands still meanwhile."""
        self.model.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.model.signal(signal.SIGCONT)

    @contextmanager
    def iperf_server(self, vm: Vm, *, port: int = 5201) -> Iterator[None]:
        """An iperf3 server in a guest, listening when the body starts."""
        server = vm.start(f"iperf3 -s -p {port}")
        try:
            vm.run(f"until ss -Hltn | grep -q :{port}; do sleep 0.05; done", timeout=20)
            yield
        finally:
            server.kill()
            server.wait(20, check=False)

    def events(self, kind: str) -> list[dict[str, Any]]:
        """The model's events of one class so far."""
        lines = self.model.events.read_text().splitlines()
        return [event for event in map(json.loads, lines) if event["event"] == kind]

    def new_findings(self) -> list[dict[str, Any]]:
        """What the sanitizer has found since the last call."""
        with self.model.events.open() as lines:
            lines.seek(self.read)
            text = lines.read()
        whole = text.rpartition("\n")[0]
        self.read += len(whole.encode()) + 1 if whole else 0
        events = map(json.loads, whole.splitlines())
        return [event for event in events if event["severity"] == "finding"]

    def errors(self) -> dict[str, dict[str, int]]:
        """What the guests' stacks count as errors, by guest; empty when all is well."""
        said = self.both(lambda _: STACK_COUNTERS)
        counted = {name: stack_errors(text) for name, text in said.items()}
        return {name: errors for name, errors in counted.items() if errors}


def boot_pair(
    lab: Lab,
    name: str,
    *,
    memory: tuple[int, int] = (512, 512),
    vcpus: int = 2,
    mtu: int = 1500,
    capture: bool = True,
    show: bool = False,
    peer: bool = False,
    nic: dict[str, Any] | None = None,
    sanitizer: dict[str, Any] | None = None,
) -> Pair:
    """Start the NIC process and boot guests ``{name}a`` and ``{name}b``, with addresses.

    ``peer``: they have an e1000e too, on a cable of their own, whose driver has no interface up.
    ``show``: captures have both sides of the crypto engine, and there are its keys beside them.
    ``nic``: more keys of both NICs in the topology; ``sanitizer``: keys of that table.
    """
    names = [f"{name}a", f"{name}b"]
    order = sum(map(ord, name)) & 0xFF
    macs = {guest: f"02:00:00:00:{order:02x}:0{i}" for i, guest in enumerate(names, 1)}
    sockets = {guest: lab.scratch / f"{guest}.sock" for guest in names}
    captures = [lab.folder / f"{guest}.pcapng" for guest in names] if capture else []
    topology: dict[str, Any] = {
        "run": {"strict": True, "seed": lab.seed},
        "sanitizer": sanitizer or {},
        "nic": [
            {"name": guest, "socket": str(sockets[guest]), "mac": macs[guest]}
            | {"profile": lab.options.nic, **(nic or {})}
            for guest in names
        ],
        "capture": [
            {"port": guest, "file": str(path)}
            | ({"clear": True, "keys": str(path.with_suffix(".keys"))} if show else {})
            for guest, path in zip(names, captures, strict=False)
        ],
    }
    specs = [
        VmSpec(
            guest,
            megabytes,
            vcpus,
            nics=(
                ModelNic(sockets[guest], plugin()),
                *([PeerNic("e1000e", lab.scratch / f"{name}cable", end, mac)] if peer else []),
            ),
        )
        for guest, megabytes, end, mac in zip(names, memory, _ENDS, _PEER_MACS, strict=True)
    ]
    with ExitStack() as made:  # it goes if the rest fails: names are free for the next to come
        host = lab.host_network(name or "host", mtu=mtu)
        made.callback(host.remove)
        topology["tap"] = [{"name": "host", "interface": host.tap, "netns": host.namespace}]
        model = lab.model(topology, name=f"model{name}")
        made.callback(model.stop)
        made.callback(_destroy, lab, names)
        a, b = lab.boot(*specs)
        pair = Pair(lab, a, b, model, host, captures, mtu, macs)
        for vm in (a, b):
            pair.restore(vm)
        pair.connected()
        made.pop_all()
    return pair


def _destroy(lab: Lab, names: list[str]) -> None:
    for vm in lab.guests():
        if vm.name in names:
            vm.destroy()
