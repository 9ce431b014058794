# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests for the VM tests: booted once, shared, watched; a dead one is booted anew."""

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from nicmodel.errors import UserError
from nicmodel.testbed import driver, kernel
from nicmodel.testbed.console import KernelFault
from nicmodel.testbed.errors import CommandFailed, GuestError, Unavailable
from nicmodel.testbed.lab import Lab
from nicmodel.testbed.pytest_plugin import KERNELS, OPTIONS
from nicmodel.testbed.vm import Vm
from tests.vm.ktls import offload
from tests.vm.pair import Pair, boot_pair

LAB = pytest.StashKey[Lab]()
PAIRS = pytest.StashKey[list[Pair]]()
PairMaker = Callable[..., AbstractContextManager[Pair]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.vm)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what needs a lab on the first kernel, and what is marked ``matrix`` on all of them."""
    kernels = metafunc.config.stash[KERNELS]
    if "lab" in metafunc.fixturenames and len(kernels) > 1:
        every = metafunc.definition.get_closest_marker("matrix") is not None
        chosen = kernels if every else kernels[:1]
        metafunc.parametrize("lab", chosen, indirect=True, scope="session")


@pytest.fixture(scope="session")
def first_lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
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
        yield running


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest, first_lab: Lab) -> Iterator[Lab]:
    """The run with one kernel."""
    first = request.config.stash[OPTIONS].kernel
    chosen: str = getattr(request, "param", first)
    try:
        made = first_lab if chosen == first else first_lab.on(chosen)
    except Unavailable as error:
        pytest.skip(str(error))
    request.config.stash[LAB] = made
    yield made
    del request.config.stash[LAB]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the driver with TLS before the first test: it takes minutes, and says how far it is."""
    kernels = {
        item.callspec.params.get("lab") if hasattr(item, "callspec") else None
        for item in session.items
        if "tls_lab" in getattr(item, "fixturenames", ())
    }
    capturing = session.config.pluginmanager.getplugin("capturemanager")
    if not kernels or session.config.getoption("collectonly"):
        return
    with capturing.global_and_fixture_disabled(), suppress(UserError):  # the tests will say why
        for name in kernels:
            chosen = kernel.find(name or session.config.stash[OPTIONS].kernel)
            driver.find(chosen, driver.TLS)


class Captures:
    """What the NIC processes of this run have left: capture files and exit statuses."""

    def __init__(self, pairs: list[Pair]) -> None:
        self._pairs = pairs
        self._statuses: dict[int, int] = {}

    def add(self, pair: Pair) -> None:
        """Count ``pair`` in."""
        self._pairs.append(pair)

    def end(self, pair: Pair) -> None:
        """End a pair: guests, NIC process, host network."""
        for vm in (pair.a, pair.b):
            vm.destroy()
        if id(pair) not in self._statuses:
            self._statuses[id(pair)] = pair.model.stop()
            pair.host.remove()

    def closed(self) -> list[Path]:
        """All captures, whole; ends every pair."""
        for pair in self._pairs:
            self.end(pair)
        return [path for pair in self._pairs for path in pair.captures]

    def exit_statuses(self) -> dict[str, int]:
        """How the NIC processes ended, by the name of the first guest; ends every pair."""
        self.closed()
        return {pair.a.name: self._statuses[id(pair)] for pair in self._pairs}

    def meant_statuses(self) -> dict[str, int]:
        """How they were to end."""
        return {pair.a.name: pair.status for pair in self._pairs}


@pytest.fixture(scope="session")
def captures(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Captures]:
    """All captures with one kernel; in the end every pair ends."""
    made = Captures(request.config.stash.setdefault(PAIRS, []))
    yield made
    made.closed()
    del request.config.stash[PAIRS]


@pytest.fixture(scope="session")
def make_pair(lab: Lab, captures: Captures) -> PairMaker:
    """A maker of pairs for one test: ``with make_pair("name", memory=(256, 4096)) as pair``."""

    @contextmanager
    def make(name: str, **settings: Any) -> Iterator[Pair]:
        pair = boot_pair(lab, name, **settings)
        captures.add(pair)
        try:
            yield pair
        finally:
            captures.end(pair)

    return make


def revive(pair: Pair) -> None:
    """Boot anew what died, and bring the interfaces to where every test starts."""
    if not pair.model.running():
        pair.model.start()
    pair.mend()
    try:
        pair.restore()
    except CommandFailed:
        raise
    except GuestError:
        for vm in (pair.a, pair.b):
            if not _answers(vm):
                vm.destroy()
                vm.power_on()
                vm.wait_ready()
        pair.restore()
    pair.connected()


def _answers(vm: Vm) -> bool:
    try:
        vm.run("true")
    except GuestError:
        return False
    return True


@pytest.fixture(scope="session")
def _pair(lab: Lab, captures: Captures) -> Pair:
    pair = boot_pair(lab, "")
    captures.add(pair)
    return pair


@pytest.fixture(scope="session")
def tls_lab(lab: Lab) -> Lab:
    """The run for guests whose driver has TLS offload: the chosen one, unless that is the stock."""
    if lab.options.nic_driver.tls:
        return lab
    try:
        return lab.on(nic_driver=driver.TLS)
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def _ktls_pair(tls_lab: Lab, captures: Captures) -> Pair:
    pair = boot_pair(tls_lab, "tls", vcpus=4, memory=(768, 768))
    captures.add(pair)
    return pair


@pytest.fixture
def erring_ktls_pair(_ktls_pair: Pair) -> Pair:
    """Shared guests with TLS offload, alive and connected; their stacks may count errors.

    Their devices encrypt, and software decrypts, unless a test says otherwise.
    """
    revive(_ktls_pair)
    for vm in (_ktls_pair.a, _ktls_pair.b):
        offload(vm, transmit=True, receive=False)
    return _ktls_pair


@pytest.fixture
def ktls_pair(erring_ktls_pair: Pair) -> Iterator[Pair]:
    """Shared guests with TLS offload; the stacks must count no error during the test."""
    pair = erring_ktls_pair
    before = pair.errors()
    yield pair
    if pair.a.alive and pair.b.alive and pair.model.running():
        assert pair.errors() == before


@pytest.fixture
def erring(_pair: Pair) -> Pair:
    """The shared guests, alive and connected; their stacks may count errors."""
    revive(_pair)
    return _pair


@pytest.fixture
def pair(erring: Pair) -> Iterator[Pair]:
    """The shared guests, alive and connected; the stacks must count no error during the test."""
    before = erring.errors()
    yield erring
    if erring.a.alive and erring.b.alive and erring.model.running():
        assert erring.errors() == before


@pytest.fixture(scope="module")
def jumbo(make_pair: PairMaker) -> Iterator[Pair]:
    """Guests with an MTU of 9000."""
    with make_pair("jumbo", mtu=9000) as made:
        yield made
        assert made.errors() == {}


@pytest.fixture(scope="module")
def wide(make_pair: PairMaker) -> Iterator[Pair]:
    """Guests with four processors, hence four channels."""
    with make_pair("wide", vcpus=4) as made:
        yield made
        assert made.errors() == {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail the test during which a guest kernel reported a fault, with what it reported.

    Also where TLS is offloaded and the sanitizer found something: all traffic is to be healthy,
    unless the test is marked ``findings``.
    """
    try:
        result = yield
    except BaseException:
        for name, fault in _new_faults(item):
            item.add_report_section("call", f"kernel of guest {name}", fault.text)
        for pair in _tls_pairs(item):
            for one in pair.new_findings()[:20]:
                item.add_report_section("call", "the sanitizer", one["sentence"])
        raise
    found = _new_faults(item)
    if found:
        text = "\n\n".join(f"guest {name}: {fault.kind}\n{fault.text}" for name, fault in found)
        pytest.fail(text, pytrace=False)
    sentences = [one["sentence"] for pair in _tls_pairs(item) for one in pair.new_findings()]
    if sentences and item.get_closest_marker("findings") is None:
        pytest.fail("the sanitizer found\n" + "\n".join(sentences[:20]), pytrace=False)
    return result


def _tls_pairs(item: pytest.Item) -> list[Pair]:
    return [pair for pair in item.config.stash.get(PAIRS, []) if pair.lab.driver.debug is not None]


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
