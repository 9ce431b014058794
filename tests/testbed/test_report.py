# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run of the guest suite prints and returns, seen from outside."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from nicmodel.testbed import kernel
from nicmodel.testbed.paths import CHECKOUT


def run(
    folder: Path, suite: str, chosen: str = "linux-image-amd64", flags: Sequence[str] = ()
) -> tuple[int, str, str]:
    """Return exit status, terminal and TAP file of ``suite`` on ``chosen``; "": on the default."""
    (folder / "test_it.py").write_text("import pytest\n" + suite)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "nicmodel.testbed.pytest_plugin"),
            *("-c", "/dev/null", "--rootdir", str(folder), "-p", "no:cacheprovider"),
            *(str(folder), "--seed", "7", "--tap-file", str(folder / "out/vm.tap")),
            *("--junit-xml", str(folder / "out/vm.xml"), "--kernel", chosen),
            *flags,
        ],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, (folder / "out/vm.tap").read_text()


def without_times(tap: str) -> list[str]:
    return [
        line.split(" # ")[0] if line.startswith(("ok", "not")) else line
        for line in tap.splitlines()
    ]


def test_passed(tmp_path: Path) -> None:
    status, terminal, tap = run(tmp_path, "def test_a(): pass\ndef test_b(): pass\n")
    assert status == 0
    assert without_times(tap) == [
        "TAP version 13",
        "# seed 7, kernel linux-image-amd64, driver stock",
        "1..2",
        "ok 1 - test_it.py::test_a",
        "ok 2 - test_it.py::test_b",
    ]
    assert "ok 2 - test_it.py::test_b" in terminal
    assert "2 passed" in terminal
    suite = ElementTree.parse(tmp_path / "out/vm.xml").getroot().find("testsuite")
    assert suite is not None
    assert suite.get("tests") == "2"


def test_a_module_of_the_user_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/smt.c").write_text("int one;\n")
    flags = ["--smt-kmod", str(tmp_path / "mine")]
    _, _, tap = run(tmp_path, "def test_a(): pass\n", flags=flags)
    before = tap.splitlines()[2:4]
    assert before[0] == f"# module: {tmp_path}/mine"
    (tmp_path / "mine/smt.c").write_text("int other;\n")
    _, _, tap = run(tmp_path, "def test_a(): pass\n", flags=flags)
    after = tap.splitlines()[2:4]
    assert after[0] == before[0]
    assert after[1].startswith("# module content: ")
    assert after[1] != before[1]


def test_a_second_series_is_named_if_there_is_one(tmp_path: Path) -> None:
    _, _, tap = run(tmp_path, "def test_a(): pass\n", chosen="")
    others = kernel.second()
    names = " and ".join(["linux-image-amd64", *([others] if others else [])])
    assert f"# seed 7, kernel {names}, driver stock" in tap.splitlines()


def test_failures_of_every_phase_are_not_ok_and_say_why(tmp_path: Path) -> None:
    suite = """
@pytest.fixture
def broken():
    raise ValueError("no guest")
@pytest.fixture
def dirty():
    yield
    raise ValueError("stays dirty")
def test_call(): assert 1 == 2, "one is not two"
def test_setup(broken): pass
def test_teardown(dirty): pass
def test_fine(): pass
"""
    status, _, tap = run(tmp_path, suite)
    assert status == 1
    lines = without_times(tap)
    assert [line for line in lines if line.startswith(("ok", "not"))] == [
        "not ok 1 - test_it.py::test_call",
        "not ok 2 - test_it.py::test_setup",
        "not ok 3 - test_it.py::test_teardown",
        "ok 4 - test_it.py::test_fine",
    ]
    assert "one is not two" in tap
    assert "no guest" in tap
    assert "stays dirty" in tap


def test_nothing_could_run(tmp_path: Path) -> None:
    status, terminal, tap = run(tmp_path, "def test_a(): pytest.skip('no QEMU: install it')\n")
    assert status == 4
    assert "ok 1 - test_it.py::test_a # SKIP no QEMU: install it" in tap
    assert "No test could run" in terminal


def test_one_that_ran_is_enough(tmp_path: Path) -> None:
    suite = "def test_a(): pytest.skip('no')\ndef test_b(): pass\n"
    assert run(tmp_path, suite)[0] == 0
