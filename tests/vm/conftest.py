# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests for the VM tests: booted once, shared, watched; a dead one is booted anew."""

import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nicmodel.errors import UserError
from nicmodel.testbed.console import KernelFault
from nicmodel.testbed.domain import ModelNic, VmSpec
from nicmodel.testbed.errors import Unavailable
from nicmodel.testbed.hostnet import HostNetwork
from nicmodel.testbed.lab import Lab
from nicmodel.testbed.model import ModelProcess
from nicmodel.testbed.paths import plugin
from nicmodel.testbed.pytest_plugin import OPTIONS
from nicmodel.testbed.vm import Vm

LAB = pytest.StashKey[Lab]()
MACS = {"a": "02:00:00:00:00:0a", "b": "02:00:00:00:00:0b"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.vm)


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """The run: its folder, its guests, and the end of all of them."""
    # make and CI end a run with SIGTERM: it takes the way that Ctrl-C takes
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        made = Lab(request.config.stash[OPTIONS])
    except Unavailable as error:
        pytest.skip(str(error))
    except UserError as error:
        pytest.exit(str(error), returncode=1)
    with made as running:
        request.config.stash[LAB] = running
        yield running
    del request.config.stash[LAB]


@dataclass
class Pair:
    """Guests a and b on one switch, with the NIC process that serves them and a host tap."""

    a: Vm
    b: Vm
    model: ModelProcess
    host: HostNetwork
    captures: dict[str, Path] = field(default_factory=dict)


@pytest.fixture(scope="session")
def _pair(lab: Lab) -> Pair:
    host = lab.host_network("host")
    sockets = {name: lab.scratch / f"{name}.sock" for name in MACS}
    captures = {name: lab.folder / f"{name}.pcapng" for name in MACS}
    topology: dict[str, Any] = {
        "run": {"strict": True, "seed": lab.seed},
        "nic": [
            {"name": name, "socket": str(sockets[name]), "mac": mac} for name, mac in MACS.items()
        ],
        "tap": [{"name": "host", "interface": host.tap, "netns": host.namespace}],
        "capture": [{"port": name, "file": str(path)} for name, path in captures.items()],
    }
    model = lab.model(topology)
    specs = [VmSpec(name, nics=(ModelNic(sockets[name], plugin()),)) for name in MACS]
    a, b = lab.boot(*specs)
    return Pair(a, b, model, host, captures)


@pytest.fixture
def pair(_pair: Pair) -> Pair:
    """The shared guests, both of them alive."""
    if not _pair.model.running():
        _pair.model.start()
    for vm in (_pair.a, _pair.b):
        if not vm.alive:
            vm.destroy()
            vm.power_on()
            vm.wait_ready()
    return _pair


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail the test during which a guest kernel reported a fault, with what it reported."""
    try:
        result = yield
    except BaseException:
        for name, fault in _new_faults(item):
            item.add_report_section("call", f"kernel of guest {name}", fault.text)
        raise
    found = _new_faults(item)
    if found:
        text = "\n\n".join(f"guest {name}: {fault.kind}\n{fault.text}" for name, fault in found)
        pytest.fail(text, pytrace=False)
    return result


def _new_faults(item: pytest.Item) -> list[tuple[str, KernelFault]]:
    """Return the faults since the last call that ``item`` does not declare as its own."""
    lab = item.config.stash.get(LAB, None)
    if lab is None:
        return []
    allowed = {kind for marker in item.iter_markers("kernel_faults") for kind in marker.args}
    found = []
    for vm in lab.guests():
        found += [(vm.name, fault) for fault in vm.faults() if fault.kind not in allowed]
        vm.console.mark()
    return found
