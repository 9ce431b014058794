# SPDX-License-Identifier: GPL-2.0-or-later
"""pytest for suites that boot guests: options, TAP 13, one line a test, exit status 0, 1 or 4.

Loaded with ``pytest -p nicmodel.testbed.pytest_plugin -q``. (TAP: testanything.org)
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from nicmodel.errors import UserError
from nicmodel.testbed import kernel
from nicmodel.testbed.errors import Unavailable
from nicmodel.testbed.inputs import FLAGS, Inputs, load
from nicmodel.testbed.lab import LabOptions
from nicmodel.testbed.pytest_scenarios import ScenarioItem, Scenarios

NOT_RUN = 4
"""Exit status when every test was skipped: the machine lacks something, the reasons say what."""

OPTIONS = pytest.StashKey[LabOptions]()
INPUTS = pytest.StashKey[Inputs]()
KERNELS = pytest.StashKey[list[str]]()
"""What tests run on: the chosen kernel, or the default one and the second series if any."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of a run."""
    group = parser.getgroup("guests")
    group.addoption("--connect", default="embed", help="libvirt URI (default: embedded driver)")
    group.addoption("--accel", default="auto", choices=("auto", "kvm", "tcg"))
    group.addoption("--inputs", type=Path, default=None, help="TOML file with the user's inputs")
    group.addoption(
        "--kernel",
        default=None,
        help="package, or path of a tree (default: all tests on the distribution's kernel, "
        "those marked matrix on a second series too)",
    )
    group.addoption("--driver", default=None, help="stock or tls; tests of TLS choose tls")
    group.addoption("--driver-patch", default=None, help="patch file or folder, on top of tls")
    group.addoption("--smt-kmod", default=None, help="folder of the module under test")
    group.addoption("--smt-cflags", default=None, help="more words for its compiler")
    group.addoption("--nic", default=None, help="profile of the NICs")
    group.addoption("--run-folder", type=Path, default=None, help="where consoles and so on go")
    group.addoption("--shard", default="1/1", help="part I of N of the tests, as I/N")
    group.addoption("--seed", type=int, default=None, help="seed of everything random")
    group.addoption("--tap-file", type=Path, default=None, help="write TAP 13 to this file too")


def pytest_configure(config: pytest.Config) -> None:
    """Put the options into one object; make the reporter."""
    config.addinivalue_line("markers", "matrix: runs on a second series of kernels too")
    config.addinivalue_line("markers", "every_shard: runs in each part of a run that is parted")
    config.addinivalue_line(
        "markers", "findings: the sanitizer may find something, the test says what"
    )
    config.addinivalue_line(
        "markers", "kernel_faults(*kinds): the guests' kernels may report faults of these kinds"
    )
    path: Path | None = config.getoption("--inputs")
    try:
        given = load(path, {name: config.getoption(name) for name in FLAGS})
    except UserError as error:
        raise pytest.UsageError(str(error)) from error
    config.stash[INPUTS] = given
    config.stash[OPTIONS] = LabOptions(
        connect=config.getoption("--connect"),
        acceleration=config.getoption("--accel"),
        kernel=given.kernel or kernel.DEFAULT,
        nic_driver=given.nic_driver,
        nic=given.nic,
        module=given.module,
        facts=given.facts(),
        folder=config.getoption("--run-folder"),
        seed=LabOptions().seed if given.seed is None else given.seed,
    )
    kernels = [config.stash[OPTIONS].kernel]
    if not given.kernel and not given.scenarios:
        kernels += _second_kernel()
    config.stash[KERNELS] = kernels
    if path is not None:
        scenarios = Scenarios(path, given, config.stash[OPTIONS])
        config.pluginmanager.register(scenarios, "nicmodel-scenarios")
    if not config.getoption("collectonly"):
        config.pluginmanager.register(TapReporter(config), "nicmodel-tap")


def _second_kernel() -> list[str]:
    try:
        found = kernel.second()
    except Unavailable:
        return []  # the tests on the first kernel say what is missing
    return [found] if found else []


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep one part of the tests; those of a file share guests and stay together."""
    number, parts = map(int, config.getoption("--shard").split("/"))
    if parts == 1:
        return
    groups = Counter(_group(item) for item in items)
    loads = [0] * parts
    mine: set[str] = set()
    # the largest ones first, each to who has least
    for group, size in sorted(groups.items(), key=lambda pair: (-pair[1], pair[0])):
        lightest = loads.index(min(loads))
        loads[lightest] += size
        if lightest == number - 1:
            mine.add(group)
    every = {item for item in items if item.get_closest_marker("every_shard")}
    config.hook.pytest_deselected(
        items=[item for item in items if _group(item) not in mine and item not in every]
    )
    items[:] = [item for item in items if _group(item) in mine or item in every]


def _group(item: pytest.Item) -> str:
    return item.nodeid if isinstance(item, ScenarioItem) else str(item.path)


class TapReporter:
    """Writes a TAP line per test, to the terminal and to the TAP file, as the test ends."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._file: IO[str] | None = None
        self._done = 0
        self._ran = 0
        self._seconds = 0.0
        self._verdict = ""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Write the head: version, seed, plan."""
        path: Path | None = self._config.getoption("--tap-file")
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w", buffering=1)
        seed, kernels = self._config.stash[OPTIONS].seed, self._config.stash[KERNELS]
        self._write("TAP version 13")
        words = self._config.stash[OPTIONS].nic_driver.words
        self._write(f"# seed {seed}, kernel {' and '.join(kernels)}, driver {words}")
        for fact, value in self._config.stash[INPUTS].facts().items():
            self._write(f"# {fact}: {value}")
        self._write(f"1..{len(session.items)}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Keep pytest's dots off the terminal; the summary still counts."""
        if report.when == "call" and report.passed:
            return "passed", "", ""
        if report.skipped:
            return "skipped", "", ""
        if report.failed:
            return ("failed" if report.when == "call" else "error"), "", ""
        return "", "", ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add a phase of a test; its last one writes the line."""
        self._seconds += report.duration
        if report.failed and not self._verdict:
            self._verdict = f"not ok {self._done + 1} - {_name(report.nodeid)}"
            self._why = report
        elif report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
            reason = reason.removeprefix("Skipped: ")
            self._verdict = f"ok {self._done + 1} - {_name(report.nodeid)} # SKIP {reason}"
        if report.when != "teardown":
            return
        self._done += 1
        failed = self._verdict.startswith("not ok")
        if not self._verdict:
            self._verdict = f"ok {self._done} - {_name(report.nodeid)}"
        if "# SKIP" not in self._verdict:
            self._ran += 1
            self._verdict += f" # {self._seconds:.1f} s"
        self._write(self._verdict)
        if failed:
            for line in _yaml(self._why):
                self._write(line)
        self._verdict, self._seconds = "", 0.0

    def pytest_keyboard_interrupt(self) -> None:
        """Say that the plan was not carried out."""
        self._write("Bail out! interrupted")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Turn "nothing could run" into its own exit status."""
        if self._file is not None:
            self._file.close()
        if exitstatus == pytest.ExitCode.OK and self._done and not self._ran:
            session.exitstatus = NOT_RUN

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say why nothing ran."""
        if self._done and not self._ran:
            terminalreporter.write_line("No test could run on this machine: see the SKIP reasons.")

    def _write(self, line: str) -> None:
        if self._file is not None and not self._file.closed:
            self._file.write(line + "\n")
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if isinstance(reporter, pytest.TerminalReporter):
            reporter.ensure_newline()
            reporter.write_line(line)
            reporter.flush()


def _name(nodeid: str) -> str:
    """Return ``file::test`` without the folders; ``#`` would start a directive."""
    return nodeid.rpartition("/")[2].replace("#", "\\#")


def _yaml(report: pytest.TestReport) -> Iterator[str]:
    """Yield the diagnostic block of a failure (TAP 13: indented YAML)."""
    crash = getattr(report.longrepr, "reprcrash", None)
    message = crash.message if crash is not None else str(report.longrepr)
    yield "  ---"
    yield f"  phase: {report.when}"
    yield "  message: |"
    for line in message.splitlines():
        yield f"    {line}"
    yield "  ..."
