# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs of the suite or of scenarios, each a process: one, the parts of one, or a matrix of them.

What each of several leaves lies in a folder of its name below the results. Beside these are their
TAP and JUnit as one, and a table.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, TextIO
from xml.etree import ElementTree

from nicmodel.testbed.paths import CHECKOUT
from nicmodel.testbed.tap import Merged

SKIPPED = 4
INTERRUPTED = 130
REPORT, TAP, TABLE, LOG = "vm.xml", "vm.tap", "table.md", "log.txt"

MOST_JOBS = 4
"""As many files of tests are long: more parts would only boot more guests."""
_JOB_CORES, _JOB_GIB = 2, 4
"""What the guests of one run take. Two runs at once on two cores save a sixth of the time
(measured), and each is slower, so that an answer which comes in time alone may be late."""


@dataclass(frozen=True)
class Run:
    """A run: its name, and the flags of ``nicmodel test`` in which it differs from the others."""

    name: str
    flags: Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    """How a run ended: its exit status, its tests by outcome, and how long it took."""

    run: Run
    status: int
    passed: int
    failed: int
    skipped: int
    seconds: float

    @property
    def word(self) -> str:
        """For the table."""
        return {0: "passed", SKIPPED: "skipped"}.get(self.status, "FAILED")


def plan(variants: Sequence[Mapping[str, Any]], shard: tuple[int, int], jobs: int) -> list[Run]:
    """Return the runs of a matrix that are of part ``shard`` (number, of how many).

    The tests of a single one are parted instead, for the machines of a CI or for ``jobs``.
    """
    number, parts = shard
    if len(variants) > 1:
        mine = list(enumerate(variants, 1))[number - 1 :: parts]
        return [Run(_name(n, flags), flags) for n, flags in mine]
    (flags,) = variants
    if parts > 1 or jobs == 1:
        return [Run("run", {**flags, "shard": f"{number}/{parts}"})]
    shards = [f"{n}/{jobs}" for n in range(1, jobs + 1)]
    return [Run(f"part-{one.replace('/', '-of-')}", {**flags, "shard": one}) for one in shards]


def jobs_here() -> int:
    """How many runs go well at a time on this machine."""
    cores = len(os.sched_getaffinity(0))
    gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 30
    return max(1, min(MOST_JOBS, cores // _JOB_CORES, gib // _JOB_GIB))


def one(command: Sequence[str]) -> int:
    """Run pytest on this terminal; return 0, 1 or 4.

    :raises KeyboardInterrupt: it was interrupted
    """
    child = subprocess.Popen(command, cwd=CHECKOUT)
    # Ctrl-C reaches the child too, which cleans up; this process only waits for its verdict
    with _handed_on([child]):
        status = child.wait()
    if status == 2:
        raise KeyboardInterrupt
    return status if status in (0, SKIPPED) else 1


def many(runs: Sequence[Run], command: Sequence[str], results: Path, jobs: int) -> int:
    """Run ``command`` for each of ``runs``, ``jobs`` at a time; return 0, 1 or 4.

    On the terminal are one TAP stream, what pytest says of failures, and the table.

    :raises KeyboardInterrupt: it was interrupted
    """
    results.mkdir(parents=True, exist_ok=True)
    children: list[subprocess.Popen[str]] = []
    said: list[str] = []
    ended = Event()
    tap = Merged(results / TAP)

    def carry_out(run: Run) -> Verdict | None:
        if ended.is_set():
            return None
        folder = results / run.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / REPORT).unlink(missing_ok=True)
        began = time.monotonic()
        whole = [*command, *words(run.flags), f"--results={folder}"]
        with (
            (folder / LOG).open("w", buffering=1) as log,
            subprocess.Popen(
                whole,
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            ) as child,
        ):
            children.append(child)
            assert child.stdout is not None
            sections = tap.take(run.name, _kept(child.stdout, log))
            status = child.wait()
        if status == INTERRUPTED:
            ended.set()
        if status not in (0, SKIPPED):
            said.append(f"{run.name}: exit status {status}, {folder / LOG}\n" + "\n".join(sections))
        return _verdict(run, status, folder, time.monotonic() - began)

    with _handed_on(children), ThreadPoolExecutor(jobs) as threads:
        verdicts = [one for one in threads.map(carry_out, runs) if one is not None]
    tap.end()
    _merge(results, verdicts)
    print("".join(f"\n{text}\n" for text in said), end="")
    table = "\n".join(_table(verdicts)) + "\n"
    (results / TABLE).write_text(table)
    print(table, end="", flush=True)
    if ended.is_set():
        raise KeyboardInterrupt
    statuses = {verdict.status for verdict in verdicts}
    return 1 if statuses - {0, SKIPPED} else min(statuses, default=0)


def words(flags: Mapping[str, Any]) -> list[str]:
    """Return ``flags`` as a command line has them; what is None is left out."""
    given = {name.replace("_", "-"): value for name, value in flags.items() if value is not None}
    return [f"--{name}={value}" for name, value in given.items()]


def _kept(lines: Iterable[str], log: TextIO) -> Iterator[str]:
    """Yield ``lines``, each written to ``log`` before."""
    for line in lines:
        log.write(line)
        yield line


def _merge(results: Path, verdicts: Sequence[Verdict]) -> None:
    """One JUnit report of those of the runs, each a suite of its name."""
    root = ElementTree.Element("testsuites")
    for one in verdicts:
        report = results / one.run.name / REPORT
        if report.exists():
            for suite in ElementTree.parse(report).getroot():
                suite.set("name", one.run.name)
                root.append(suite)
    ElementTree.ElementTree(root).write(results / REPORT, "utf-8", xml_declaration=True)


def _name(number: int, flags: Mapping[str, Any]) -> str:
    """A name for a folder that tells what is varied; the number tells equal ones apart."""
    parts = [
        os.path.basename(str(value).rstrip("/")) or f"no-{key.replace('_', '-')}"
        for key, value in flags.items()
    ]
    text = "-".join([str(number), *parts])
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in text)[:100]


def _verdict(run: Run, status: int, folder: Path, seconds: float) -> Verdict:
    counts = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    report = folder / REPORT
    suite = ElementTree.parse(report).getroot().find("testsuite") if report.exists() else None
    if suite is not None:
        counts = {name: int(suite.get(name, "0")) for name in counts}
    failed = counts["failures"] + counts["errors"]
    passed = counts["tests"] - failed - counts["skipped"]
    return Verdict(run, status, passed, failed, counts["skipped"], seconds)


def _table(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Yield the lines of the table, which is Markdown too."""
    rows = [("run", "verdict", "passed", "failed", "skipped", "seconds")]
    for one in verdicts:
        counts = (str(one.passed), str(one.failed), str(one.skipped))
        rows.append((one.run.name, one.word, *counts, f"{one.seconds:.0f}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        yield "| " + " | ".join(map(str.ljust, row, widths)) + " |"
        if number == 0:
            yield "|" + "|".join("-" * (width + 2) for width in widths) + "|"


@contextmanager
def _handed_on(children: Sequence["subprocess.Popen[Any]"]) -> Iterator[None]:
    """Meanwhile Ctrl-C is the children's, who clean up, and SIGTERM is handed on to them."""

    def hand_on(_number: int, _frame: object) -> None:
        for child in children:
            child.terminate()

    before = {
        # not SIG_IGN, which children would inherit
        signal.SIGINT: signal.signal(signal.SIGINT, lambda _number, _frame: None),
        signal.SIGTERM: signal.signal(signal.SIGTERM, hand_on),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
