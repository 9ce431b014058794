# SPDX-License-Identifier: GPL-2.0-or-later
"""Many runs: which there are, that each has its own place, the table, the exit status."""

import os
import re
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from nicmodel import cli
from nicmodel.testbed.paths import CHECKOUT
from nicmodel.testbed.runs import Run, many, plan

EXAMPLES = CHECKOUT / "examples/ci"

# Stands in for `nicmodel test`: a report of one test that ended as --word says.
TEST = """
import os, signal, sys, time
flags = dict(word[2:].split("=") for word in sys.argv[1:])
wait = flags.get("wait")
if wait:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    open(f"{flags['results']}/waits", "w").close()
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        sys.exit(130)
word, results = flags["word"], flags["results"]
print("TAP version 13")
print("# seed 7")
print("1..2", flush=True)
print("ok 1 - first # 1.0 s")
print("not ok 2 - second" if word == "bad" else "ok 2 - second # SKIP no reason")
if word == "bad":
    print("  ---\\n  message: |\\n    ok 1 - no result\\n  ...")
    print("==== FAILURES ====\\nwhy it failed")
counts = {"ok": "failures='0' skipped='0'", "bad": "failures='1' skipped='0'",
          "lacks": "failures='0' skipped='1'", "none": ""}[word]
if counts:
    with open(f"{results}/vm.xml", "w") as out:
        out.write(f"<testsuites><testsuite tests='1' errors='0' {counts}/></testsuites>")
sys.exit({"ok": 0, "bad": 1, "lacks": 4, "none": 1}[word])
"""


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    (tmp_path / "test.py").write_text(TEST)
    return [sys.executable, str(tmp_path / "test.py")]


def test_a_matrix_is_parted_by_runs() -> None:
    variants = [{"seed": seed, "driver_patch": patch} for seed in (1, 2) for patch in ("", "/p/x")]
    names = [run.name for run in plan(variants, (1, 1), 1)]
    assert names == ["1-1-no-driver-patch", "2-1-x", "3-2-no-driver-patch", "4-2-x"]
    parts = [plan(variants, (number, 3), 2) for number in (1, 2, 3)]
    assert [[run.name for run in part] for part in parts] == [
        [names[0], names[3]],
        [names[1]],
        [names[2]],
    ]


def test_a_single_run_is_parted_by_tests() -> None:
    assert plan([{}], (1, 1), 1) == [Run("run", {"shard": "1/1"})]
    assert plan([{"seed": 1}], (2, 3), 4) == [Run("run", {"seed": 1, "shard": "2/3"})]
    assert plan([{}], (1, 1), 2) == [
        Run("part-1-of-2", {"shard": "1/2"}),
        Run("part-2-of-2", {"shard": "2/2"}),
    ]


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [("ok ok", 0), ("ok bad", 1), ("lacks ok", 0), ("lacks lacks", 4), ("none ok", 1), ("", 0)],
)
def test_the_worst_decides(tmp_path: Path, command: list[str], outcomes: str, status: int) -> None:
    planned = [Run(f"{n}", {"word": word}) for n, word in enumerate(outcomes.split())]
    assert many(planned, command, tmp_path / "out", 2) == status


def test_the_table(tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    planned = [Run(word, {"word": word}) for word in ("ok", "bad", "lacks", "none")]
    many(planned, command, tmp_path, 3)
    table = (tmp_path / "table.md").read_text()
    assert capsys.readouterr().out.endswith(table)
    rows = [[cell.strip() for cell in line.split("|")[1:-2]] for line in table.splitlines()]
    assert rows[0] == ["run", "verdict", "passed", "failed", "skipped"]
    assert rows[2:] == [
        ["ok", "passed", "1", "0", "0"],
        ["bad", "FAILED", "0", "1", "0"],
        ["lacks", "skipped", "0", "0", "1"],
        ["none", "FAILED", "0", "0", "0"],
    ]


def test_one_tap_and_one_report_of_all(
    tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    many([Run(word, {"word": word}) for word in ("ok", "bad", "none")], command, tmp_path, 3)
    tap = (tmp_path / "vm.tap").read_text()
    out = capsys.readouterr().out
    head, _, tail = out.partition(tap)
    assert not head
    assert tap.startswith("TAP version 13\n")
    assert tap.endswith("\n1..6\n")
    results = re.findall(r"^(ok|not ok) (\d+) - (.*)", tap, re.M)
    assert [int(number) for _, number, _ in results] == [*range(1, 7)]
    assert sorted(f"{verdict} {name}" for verdict, _, name in results) == [
        *("not ok second # bad", "ok first # 1.0 s, bad", "ok first # 1.0 s, none"),
        *("ok first # 1.0 s, ok", "ok second # SKIP no reason, none"),
        "ok second # SKIP no reason, ok",
    ]
    assert re.search(
        r"^not ok \d - second # bad\n  ---\n  message: \|\n    ok 1 - no result\n  \.\.\.\n",
        tap,
        re.M,
    )
    assert "# bad: seed 7\n" in tap
    assert "why it failed" not in tap
    assert "why it failed" in tail
    suites = ElementTree.parse(tmp_path / "vm.xml").getroot()
    assert [(suite.get("name"), suite.get("failures")) for suite in suites] == [
        ("ok", "0"),
        ("bad", "1"),
    ]


def test_parts_by_default_only_of_the_whole_suite(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[int] = []

    def note(runs: list[Run], _command: list[str], _results: Path, _jobs: int) -> int:
        seen.append(len(runs))
        return 0

    monkeypatch.setattr("nicmodel.testbed.runs.jobs_here", lambda: 3)
    monkeypatch.setattr("nicmodel.testbed.runs.many", note)
    monkeypatch.setattr("nicmodel.testbed.runs.one", lambda _command: note([], [], tmp_path, 1))
    for words in ("", "--jobs 2", "--jobs 1", "-k ping", "-k ping --jobs 2", "--shard 1/2"):
        assert cli.main(["test", "--results", str(tmp_path), *words.split()]) == 0
    assert seen == [3, 2, 0, 0, 2, 0]


def test_a_report_of_an_earlier_run_does_not_count(tmp_path: Path, command: list[str]) -> None:
    many([Run("x", {"word": "ok"})], command, tmp_path, 1)
    many([Run("x", {"word": "none"})], command, tmp_path, 1)
    assert "| x   | FAILED  | 0 " in (tmp_path / "table.md").read_text()


def test_an_end_from_outside_is_handed_on(tmp_path: Path, command: list[str]) -> None:
    code = (
        "from pathlib import Path; from nicmodel.testbed.runs import *\n"
        f"planned = [Run(str(n), {{'wait': 1}}) for n in range(3)]\n"
        f"many(planned, {command!r}, Path({str(tmp_path)!r}), 2)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], cwd=CHECKOUT, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 30
    while not all((tmp_path / f"{n}/waits").exists() for n in range(2)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGTERM)
    assert child.stderr is not None
    assert child.stderr.read().endswith("KeyboardInterrupt\n")
    child.wait(10)
    assert not (tmp_path / "2").exists()
    assert (tmp_path / "table.md").read_text().count("FAILED") == 2


SUITES = {"test_one": 3, "test_two": 2, "test_three": 2, "test_zz": 1}


def test_parts_have_each_test_once_and_files_stay_whole(tmp_path: Path) -> None:
    for name, tests in SUITES.items():
        mark = "import pytest\n@pytest.mark.every_shard\n" if name == "test_zz" else ""
        text = "".join(f"def test_{n}(): pass\n" for n in range(tests))
        (tmp_path / f"{name}.py").write_text(mark + text)
    seen: list[str] = []
    for number in (1, 2, 3):
        tap = tmp_path / "vm.tap"
        subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "-p", "nicmodel.testbed.pytest_plugin"),
                *("-c", "/dev/null", "--rootdir", str(tmp_path), "-p", "no:cacheprovider"),
                *(str(tmp_path), "--tap-file", str(tap), "--shard", f"{number}/3"),
            ],
            cwd=CHECKOUT,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        found = re.findall(r"^ok \d+ - (\w+)\.py::\w+", tap.read_text(), re.M)
        assert found.pop() == "test_zz"
        assert f"1..{len(found) + 1}" in tap.read_text()
        assert all(found.count(name) == SUITES[name] for name in found)
        seen += found
    assert sorted(seen) == sorted(
        n for n, count in SUITES.items() for _ in range(count) if n != "test_zz"
    )


@pytest.mark.parametrize("name", ["github.yml", "run.sh"])
def test_commands_of_the_examples_are_understood(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = re.sub(r"\\?\n\s+(?=--)", " ", (EXAMPLES / name).read_text())
    text = re.sub(r"\$\{\{.*?\}\}", "1", text).replace('"$shard"', "1/1")
    (words,) = re.findall(r"-m nicmodel (.*)", text)
    seen: list[Namespace] = []

    def body(args: Namespace) -> int:
        seen.append(args)
        return 0

    monkeypatch.setattr(cli, "_testbed", lambda _name: body)
    assert cli.main([word.strip('"') for word in words.split()]) == 0
    assert [args.shard[0] for args in seen] == [1]


def test_inputs_of_the_examples_are_understood(tmp_path: Path) -> None:
    from nicmodel.testbed.inputs import load, matrix

    (tmp_path / "patches").mkdir()
    (tmp_path / "patches/one.patch").touch()
    (tmp_path / "ci").mkdir()
    path = tmp_path / "ci/nicmodel.toml"
    path.write_text((EXAMPLES / "nicmodel.toml").read_text())
    assert len(matrix(path, {})) == 4
    assert [patch.name for patch in load(path, {}).nic_driver.patches] == ["one.patch"]
