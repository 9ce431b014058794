# SPDX-License-Identifier: GPL-2.0-or-later
"""C programs for guests, built on the host: both have the same C library."""

import hashlib
import subprocess
from pathlib import Path

from nicmodel.testbed.paths import cached
from nicmodel.testbed.vm import Vm

PROGRAMS = Path(__file__).with_name("programs")
FLAGS = ("-O2", "-s", "-pthread")


def program(source: Path) -> Path:
    """Return the program made of ``source``."""
    name = source.stem
    text = "\0".join(FLAGS).encode() + source.read_bytes()

    def make(folder: Path) -> None:
        command = ["gcc", *FLAGS, "-o", str(folder / name), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise AssertionError(f"{source.name} does not build:\n{done.stderr}")

    return cached("programs", f"{name}-{hashlib.sha256(text).hexdigest()[:16]}", make) / name


def install(vm: Vm, source: Path) -> str:
    """Bring a program into a guest that has not got it yet; its path there."""
    built = program(source)
    place = f"/tmp/{built.name}"
    if vm.run(["test", "-x", place], check=False).status:
        vm.write_file(place, built.read_bytes(), mode=0o755)
    return place


def own(name: str) -> Path:
    """A program of this project."""
    return PROGRAMS / f"{name}.c"
