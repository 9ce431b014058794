# SPDX-License-Identifier: GPL-2.0-or-later
"""Where things live: the checkout, its build folder, and the cache that clones share."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nicmodel.testbed.errors import Unavailable

CHECKOUT = Path(__file__).resolve().parents[2]
BUILD = CHECKOUT / "build"
RUNS = BUILD / "runs"
RESULTS = BUILD / "results"
GUEST = CHECKOUT / "guest"

SPACE_NEEDED = 3 << 30
"""Bytes: the cache takes two thirds of it, the QEMU source while it is configured the rest."""


def cache_root() -> Path:
    """Return the cache folder: ``NICMODEL_CACHE``, else the user's XDG cache."""
    if chosen := os.environ.get("NICMODEL_CACHE"):
        return Path(chosen).resolve()
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "nicmodel"


def require_space() -> None:
    """Refuse to start what would fill the disk; ``SPACE_NEEDED`` is enough for all of it."""
    free = free_space()
    if free < SPACE_NEEDED:
        raise Unavailable(
            f"{cache_root()} has {free >> 20} MiB of room and {SPACE_NEEDED >> 20} are needed: "
            "make room, or set NICMODEL_CACHE to another folder."
        )


def free_space() -> int:
    """Return the bytes that are free where the cache is, or will be."""
    root = cache_root()
    return shutil.disk_usage(next(p for p in (root, *root.parents) if p.exists())).free


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the cache-wide lock ``name``; a second process waits for the first."""
    folder = cache_root() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def cached(kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """Return the cache folder ``kind/key``, made by ``make(empty folder)`` the first time.

    It appears whole or not at all: it is made beside its place and renamed.
    """
    target = cache_root() / kind / key
    if target.exists():
        return target
    with locked(f"{kind}-{key}"):
        if target.exists():
            return target
        require_space()
        target.parent.mkdir(parents=True, exist_ok=True)
        for stale in target.parent.glob(f".making-{key}-*"):  # of a run that was killed
            shutil.rmtree(stale, ignore_errors=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".making-{key}-", dir=target.parent))
        try:
            make(scratch)
            scratch.chmod(0o755)
            scratch.rename(target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return target


def plugin() -> Path:
    """Return the QEMU plug-in for the installed QEMU, built the first time."""
    script = CHECKOUT / "qemu-plugin/build.sh"
    done = subprocess.run(
        [str(script), "--print-path"], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise Unavailable("the QEMU plug-in does not build: see the lines above.")
    return Path(done.stdout.strip())
