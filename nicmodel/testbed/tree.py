# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel tree of the user: as it was built there, or built here if it was not.

A tree without ``.config`` is built outside of itself, with the small ``guest/kernel.config``, so it
stays as it is; one with a ``.config`` is built in place, as its owner would do it.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nicmodel.errors import UserError
from nicmodel.testbed import kbuild
from nicmodel.testbed.paths import BUILD, GUEST, cache_root, locked, require_space

CONFIG = GUEST / "kernel.config"
LOG = BUILD / "kernel.log"
BUILD_SECONDS = 3 * 3600.0
PROGRESS_FILES = 200
_TARGETS = ("bzImage", "modules")


@dataclass(frozen=True)
class Tree:
    """``source`` is where the source lies, ``objects`` where what was made of it lies."""

    source: Path
    objects: Path

    @property
    def image(self) -> Path:
        """The kernel to boot."""
        return self.objects / "arch/x86/boot/bzImage"

    @property
    def release(self) -> str:
        """As of ``uname -r``."""
        return (self.objects / "include/config/kernel.release").read_text().strip()

    @property
    def built(self) -> bool:
        """Say whether there is a kernel and its modules."""
        made = ("arch/x86/boot/bzImage", "include/config/kernel.release", "modules.order")
        return all((self.objects / name).exists() for name in made)


def find(folder: Path) -> Tree:
    """Return the tree in ``folder``, built if it was not, or has changed since it was built here.

    :raises UserError: it is no kernel tree, or does not build
    """
    source = folder.resolve()
    in_place = Tree(source, source)
    if in_place.built:
        return in_place
    if not (source / "Kconfig").exists() or not (source / "arch/x86").exists():
        raise UserError(f"{folder} holds no kernel: name a kernel tree, or a package.")
    if (source / ".config").exists():
        with locked(f"tree-{_digest(str(source))}"):
            if not in_place.built:
                _make(in_place)
        return in_place
    return _outside(source)


def _outside(source: Path) -> Tree:
    """Build in a folder of the cache, where the next build finds the objects of this one."""
    found = Tree(source, cache_root() / "trees" / _digest(str(source)))
    mark = found.objects / "made-of"
    with locked(f"tree-{found.objects.name}"):
        now = _digest("\0".join([CONFIG.read_text(), *_state(source)]))
        if found.built and mark.exists() and mark.read_text() == now:
            return found
        require_space()
        found.objects.mkdir(parents=True, exist_ok=True)
        mark.unlink(missing_ok=True)
        _make(found, f"O={found.objects}", f"KCONFIG_ALLCONFIG={CONFIG}", "allnoconfig")
        _check_config(found)
        _make(found, f"O={found.objects}")
        mark.write_text(now)
    return found


def _make(tree: Tree, *words: str) -> None:
    targets = words if "allnoconfig" in words else (*words, *_TARGETS)
    if targets[-1] == _TARGETS[-1]:
        kbuild.say("kernel", f"building {tree.source}, which takes a while (output: {LOG})")
    command = ["make", "-C", str(tree.source), f"-j{os.cpu_count() or 1}", *targets]
    done = kbuild.build(
        command, log=LOG, seconds=BUILD_SECONDS, who="kernel", progress=PROGRESS_FILES
    )
    if done.status:
        raise UserError(f"{tree.source} does not build: {done.words} (all of it: {LOG})")


def _check_config(tree: Tree) -> None:
    """Refuse a kernel that lacks what guests need, or it would fail later and say less."""
    has = set((tree.objects / ".config").read_text().splitlines())
    wanted = [line for line in CONFIG.read_text().splitlines() if line.startswith("CONFIG_")]
    if missing := [line for line in wanted if line not in has]:
        raise UserError(
            f"{tree.source} has no {', '.join(missing)}, which guests need: "
            "configure the tree yourself (.config) and start again."
        )


def _state(source: Path) -> Iterator[str]:
    """Name what the tree holds: sizes and times, since reading all of it takes minutes."""
    for folder, folders, names in os.walk(source):
        folders[:] = sorted(name for name in folders if name not in (".git", "Documentation"))
        for name in sorted(names):
            status = os.lstat(os.path.join(folder, name))
            yield f"{folder}/{name} {status.st_size} {status.st_mtime_ns}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
