# SPDX-License-Identifier: GPL-2.0-or-later
"""What a killed run leaves is cleared by the next, and nothing else is."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nicmodel.testbed import leftovers

OWNER = """\
import os, sys, time
from nicmodel.testbed.leftovers import Record
record = Record()
for name in sys.argv[1:]:
    record.add("folder", name)
print("written", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NICMODEL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def bystander(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that mentions another folder."""
    child = sleeper(tmp_path / "other")
    yield child
    child.kill()
    child.wait()


def sleeper(folder: Path) -> subprocess.Popen[bytes]:
    program = "import time; time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", program, str(folder / "socket")])
    # a program that has just started has no command line for a moment
    while not Path(f"/proc/{child.pid}/cmdline").read_bytes():
        assert child.poll() is None
    return child


def owner(*folders: Path) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(
        [sys.executable, "-c", OWNER, *map(str, folders)], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"written\n"
    return child


def kill(child: subprocess.Popen[bytes]) -> None:
    child.send_signal(signal.SIGKILL)
    child.wait()
    if child.stdout:
        child.stdout.close()


def test_dead_owner_is_cleared_and_others_live(
    tmp_path: Path, bystander: subprocess.Popen[bytes]
) -> None:
    folder = tmp_path / "lab-1"
    folder.mkdir()
    (folder / "file").touch()
    dead = owner(folder)
    victim = sleeper(folder)
    kill(dead)
    said = leftovers.clear_dead()
    assert victim.wait(5) == -signal.SIGKILL
    assert not folder.exists()
    assert bystander.poll() is None
    assert len(said) == 2
    assert leftovers.clear_dead() == []


def test_living_owner_keeps_its_things(tmp_path: Path) -> None:
    folder = tmp_path / "lab-2"
    folder.mkdir()
    living = owner(folder)
    try:
        assert leftovers.clear_dead() == []
        assert folder.exists()
    finally:
        kill(living)


def test_process_id_used_again_is_another_process(tmp_path: Path) -> None:
    folder = tmp_path / "lab-3"
    folder.mkdir()
    kill(owner(folder))
    (record,) = (tmp_path / "cache/records").iterdir()
    # the record of a dead run whose process id is now ours
    record.rename(record.with_name(f"{os.getpid()}-1-{record.name.split('-')[2]}"))
    assert leftovers.clear_dead() == [f"removed {folder}"]


def test_half_written_record_is_no_obstacle(tmp_path: Path) -> None:
    folder = tmp_path / "lab-4"
    folder.mkdir()
    kill(owner(folder))
    (record,) = (tmp_path / "cache/records").iterdir()
    with record.open("a") as file:
        file.write('["folder", "/')
    assert leftovers.clear_dead() == [f"removed {folder}"]


def test_own_record_ends_what_is_in_the_way(tmp_path: Path) -> None:
    folder = tmp_path / "lab-5"
    record = leftovers.Record()
    record.add("folder", str(folder))
    folder.mkdir()
    victim = sleeper(folder)
    assert len(record.clear()) == 2
    assert victim.wait(5) == -signal.SIGKILL
    assert record.clear() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces take root: sudo make test")
def test_namespace_goes_with_the_processes_in_it() -> None:
    name = f"nicmodel-test-{os.getpid()}"
    record = leftovers.Record()
    record.add("namespace", name)
    subprocess.run(["ip", "netns", "add", name], check=True)
    inside = subprocess.Popen(["ip", "netns", "exec", name, "sleep", "60"])
    # the namespace is entered once the program is the sleep
    while b"sleep" not in Path(f"/proc/{inside.pid}/cmdline").read_bytes().split(b"\0")[0]:
        assert inside.poll() is None
    record.clear()
    assert inside.wait(5) == -signal.SIGKILL
    assert not Path("/run/netns", name).exists()
