# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run makes outside its own process, written down before it is made.

A run that ends, however it ends politely, takes everything away. What a killed run left is found
in its record by the next one. Only what a record names is touched: processes whose command line
holds a folder of the record (folder names are random), namespaces by name, folders by path.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nicmodel.testbed.paths import cache_root, locked

Kind = Literal["folder", "namespace"]
NAMESPACES = Path("/run/netns")
KILL_SECONDS = 10.0


@dataclass(frozen=True)
class Process:
    """A process; the start time (clock ticks since boot) tells it from a later one of its id."""

    pid: int
    start: int

    def alive(self) -> bool:
        """Say whether this very process still runs (a zombie does not)."""
        return process(self.pid) == self


def process(pid: int) -> Process | None:
    """Return the running process ``pid`` (proc(5): state is field 3, start time field 22)."""
    try:
        fields = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else Process(pid, int(fields[19]))


class Record:
    """The record of this process: add a thing before it is made, clear all at the end."""

    def __init__(self) -> None:
        me = process(os.getpid())
        assert me is not None
        folder = _records()
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{me.pid}-{me.start}-{time.monotonic_ns()}"
        self._path.touch(mode=0o600)

    def add(self, kind: Kind, name: str) -> None:
        """Write ``name`` down, to disk, before it exists."""
        with self._path.open("a") as handle:
            handle.write(json.dumps([kind, name]) + "\n")
            handle.flush()
            os.fsync(handle.fileno())

    def clear(self) -> list[str]:
        """Take away whatever of the record still exists; return a sentence for each."""
        return _clear(self._path)


def clear_dead() -> list[str]:
    """Take away what runs that are dead left behind; return a sentence for each thing."""
    done: list[str] = []
    with locked("leftovers"):
        for path in sorted(_records().glob("*-*-*")):
            pid, start, _ = path.name.split("-")
            if not Process(int(pid), int(start)).alive():
                done += _clear(path)
    return done


def _records() -> Path:
    return cache_root() / "records"


def _clear(path: Path) -> list[str]:
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return []
    entries: list[tuple[str, str]] = []
    for line in lines:
        try:
            kind, name = json.loads(line)
        except ValueError:  # the owner was killed while it wrote the line: nothing was made yet
            continue
        entries.append((kind, name))
    folders = [name for kind, name in entries if kind == "folder"]
    namespaces = [name for kind, name in entries if kind == "namespace"]
    said = _kill(_using_folders(folders) + _inside(namespaces))
    for name in namespaces:
        if (NAMESPACES / name).exists():
            _remove_namespace(name)
            said.append(f"removed network namespace {name}")
    for folder in folders:
        if Path(folder).exists():
            shutil.rmtree(folder, ignore_errors=True)
            said.append(f"removed {folder}")
    path.unlink(missing_ok=True)
    return said


def _all_processes() -> list[Process]:
    ids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [found for pid in ids if pid != os.getpid() and (found := process(pid))]


def _using_folders(folders: list[str]) -> list[Process]:
    """Return the processes whose command line names one of ``folders`` or a path below it."""
    marks = [os.fsencode(folder) for folder in folders]
    return [p for p in _all_processes() if any(mark in _command_line(p.pid) for mark in marks)]


def _command_line(pid: int) -> bytes:
    try:
        return Path("/proc", str(pid), "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def _inside(namespaces: list[str]) -> list[Process]:
    inodes = {(NAMESPACES / n).stat().st_ino for n in namespaces if (NAMESPACES / n).exists()}
    found = []
    for candidate in _all_processes() if inodes else []:
        try:
            inode = Path("/proc", str(candidate.pid), "ns/net").stat().st_ino
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if inode in inodes:
            found.append(candidate)
    return found


def _kill(processes: list[Process]) -> list[str]:
    said = []
    for victim in dict.fromkeys(processes):
        name = _command_line(victim.pid).split(b"\0")[0].decode(errors="replace")
        if not victim.alive():
            continue
        os.kill(victim.pid, signal.SIGKILL)
        deadline = time.monotonic() + KILL_SECONDS
        while victim.alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        verdict = "does not die" if victim.alive() else "killed"
        said.append(f"{verdict}: process {victim.pid} ({Path(name).name})")
    return said


def _remove_namespace(name: str) -> None:
    subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
