# SPDX-License-Identifier: GPL-2.0-or-later
"""A lab: guests, NIC processes and host networks of one run; whatever happens, all of it ends."""

import copy
import json
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import libvirt

from nicmodel.command.caps import CONNECTX6DX
from nicmodel.serve import FROZEN, THAWED
from nicmodel.testbed import accel, driver, hypervisor, image, kernel, leftovers
from nicmodel.testbed.accel import Acceleration, Choice
from nicmodel.testbed.domain import Boot, VmSpec, domain_xml
from nicmodel.testbed.errors import Unavailable
from nicmodel.testbed.foreign import Module
from nicmodel.testbed.hostnet import HostNetwork
from nicmodel.testbed.model import ModelProcess
from nicmodel.testbed.paths import RUNS, cache_root
from nicmodel.testbed.vm import Vm

KEPT_RUNS = 20
NAME_PREFIX = "nicmodel-"


@dataclass(frozen=True)
class LabOptions:
    """What a run may choose."""

    connect: str = hypervisor.EMBEDDED
    acceleration: Choice = "auto"
    kernel: str = kernel.DEFAULT
    nic_driver: driver.Choice = driver.STOCK
    nic: str = CONNECTX6DX.name
    """Profile of the NICs."""
    module: Module | None = None
    """Of the user; it is for whoever runs something in guests to load it."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """More that is written down with what ran."""
    folder: Path | None = None
    """Where the run keeps what it leaves; none is a new folder in ``RUNS``."""
    seed: int = field(default_factory=lambda: random.getrandbits(32))


class Lab:
    """A context manager that owns the run's folder and everything that is started for the run.

    ``folder`` keeps consoles, logs and captures; ``scratch`` (a short path, for sockets) goes.
    """

    def __init__(self, options: LabOptions | None = None) -> None:
        self.options = options or LabOptions()
        self.seed = self.options.seed
        self.kernel = kernel.find(self.options.kernel)
        self.driver = driver.find(self.kernel, self.options.nic_driver)
        self.boot_files = Boot(self.kernel.image, image.initramfs(self.kernel, self.driver))
        self.acceleration: Acceleration = accel.choose(self.options.acceleration, self.boot_files)
        self.folder = _made(self.options.folder) if self.options.folder else _new_run_folder()
        self.token = f"{NAME_PREFIX}{os.getpid()}-{random.SystemRandom().getrandbits(32):08x}"
        self.scratch = Path(tempfile.gettempdir(), self.token)
        self._stack = ExitStack()
        self._vms: dict[str, Vm] = {}

    def __enter__(self) -> Self:
        for sentence in leftovers.clear_dead():
            print(f"left by a run that was killed, {sentence}", file=sys.stderr)
        try:
            self._record = leftovers.Record()
            self._stack.callback(self._record.clear)
            self._record.add("folder", str(self.scratch))
            self.scratch.mkdir(mode=0o755)
            self._connection = self._connect()
        except BaseException:
            self._stack.close()
            raise
        self._write_facts()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # a second Ctrl-C must not stop the cleaning up
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            self._stack.close()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def on(self, choice: str | None = None, *, nic_driver: driver.Choice | None = None) -> "Lab":
        """Return this lab for guests with another kernel or driver, with a folder of its own.

        A process has one embedded libvirt, hence one lab. Guests of both have to have other names,
        unless the first ones are gone.
        """
        other = copy.copy(self)
        if choice is not None:
            other.kernel = kernel.find(choice)
        wanted = self.options.nic_driver if nic_driver is None else nic_driver
        other.driver = driver.find(other.kernel, wanted)
        other.boot_files = Boot(other.kernel.image, image.initramfs(other.kernel, other.driver))
        other.folder = _made(self.folder / f"{other.kernel.release}-{other.driver.build_id[:8]}")
        if choice is not None:
            other._vms = {}
        other._write_facts()
        return other

    def within(self, name: str) -> "Lab":
        """Return this lab with a folder of its own below its folder, and no guests yet."""
        other = copy.copy(self)
        other.folder = _made(self.folder / name)
        other._vms = {}
        return other

    def define(self, spec: VmSpec) -> Vm:
        """Return a guest that is switched off."""
        base = self.folder / f"console-{spec.name}.log"
        console_socket = self.scratch / f"{spec.name}.console"
        xml = domain_xml(spec, self.boot_files, self.acceleration.name, base, console_socket)
        vm = Vm(spec, base, console_socket, lambda: self._launch(xml))
        self._vms[spec.name] = vm
        self._stack.callback(vm.destroy)
        return vm

    def boot(self, *specs: VmSpec) -> list[Vm]:
        """Boot guests at the same time; return them when all can be talked to."""
        vms = [self.define(spec) for spec in specs]
        for vm in vms:
            vm.power_on()
        for vm in vms:
            vm.wait_ready()
            driver.verify(vm, self.driver)
        return vms

    def guests(self) -> list[Vm]:
        """Return all guests of this lab, on or off."""
        return list(self._vms.values())

    def model(
        self, topology: dict[str, Any], *, name: str = "model", options: Sequence[str] = ()
    ) -> ModelProcess:
        """Start a NIC process that serves ``topology``; it has a control socket."""
        path = self.scratch / f"{name}.topology.json"
        path.write_text(json.dumps(topology, indent=1))
        control = self.scratch / f"{name}.control"
        names = {nic["name"] for nic in topology["nic"]}
        process = ModelProcess(
            path, self.folder, control, name=name, options=options, hear=partial(self._hear, names)
        )
        self._stack.callback(process.stop)
        process.start()
        return process

    def _hear(self, names: set[str], line: str) -> None:
        """The NIC process says something; the guests that its NICs are of stand still with them."""
        guests = [vm for vm in self.guests() if vm.name in names and vm.alive]
        if line == THAWED:
            for vm in guests:
                vm.thaw()
        elif line.startswith(FROZEN):
            print(line, flush=True)
            for vm in guests:
                stub = self.debugger(vm)
                vm.freeze(stub)
                print(f"guest {vm.name}: gdb vmlinux -ex 'target remote {stub}'", flush=True)
            print("nicmodel thaw lets them go on", flush=True)

    def debugger(self, vm: Vm) -> Path:
        """Where the gdb stub of a frozen guest listens."""
        return self.scratch / f"{vm.name}.gdb"

    def host_network(self, name: str, **settings: Any) -> HostNetwork:
        """Make a namespace with a tap; its name has the lab's token before ``name``."""
        network = HostNetwork(f"{self.token}-{name}", **settings)
        self._record.add("namespace", network.namespace)
        network.create()
        self._stack.callback(network.remove)
        return network

    def on_exit(self, action: Callable[[], object]) -> None:
        """Run ``action`` when the lab ends, before what was made earlier goes."""
        self._stack.callback(action)

    def _connect(self) -> Any:
        root = self.scratch / "libvirt"
        root.mkdir()
        # QEMU's capabilities cost libvirt 4 seconds to ask for; it checks that they still hold
        shared = cache_root() / "libvirt"
        shared.mkdir(parents=True, exist_ok=True)
        (root / "cache").symlink_to(shared)
        (root / "log").symlink_to(self.folder)  # QEMU's own words, one file a guest
        connection = hypervisor.connect(self.options.connect, root)
        self._stack.callback(connection.close)
        return connection

    def _launch(self, xml: str) -> Any:
        try:
            return self._connection.createXML(xml)
        except libvirt.libvirtError as error:
            raise Unavailable(f"QEMU does not start: {error}") from error

    def _write_facts(self) -> None:
        """Write down what ran, so that a result can be looked at later."""
        facts = {
            "seed": self.seed,
            "kernel": self.kernel.origin,
            "release": self.kernel.release,
            "driver": self.driver.description,
            "driver build id": self.driver.build_id,
            "nic": self.options.nic,
            "acceleration": self.acceleration.name,
            "why": self.acceleration.reason,
            "qemu": _version(self._connection.getVersion()),
            "libvirt": _version(self._connection.getLibVersion()),
            "python": platform.python_version(),
            "host": platform.platform(),
            **self.options.facts,
        }
        (self.folder / "facts.json").write_text(json.dumps(facts, indent=1) + "\n")


def _version(number: int) -> str:
    return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _new_run_folder() -> Path:
    """Make a folder for this run; the oldest ones go."""
    RUNS.mkdir(parents=True, exist_ok=True)
    for old in sorted(RUNS.iterdir())[: -KEPT_RUNS + 1]:
        shutil.rmtree(old, ignore_errors=True)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for number in range(1000):
        folder = RUNS / (stamp if number == 0 else f"{stamp}.{number}")
        with suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise Unavailable(f"{RUNS} is full of runs of this very second.")
