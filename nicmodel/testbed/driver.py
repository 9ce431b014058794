# SPDX-License-Identifier: GPL-2.0-or-later
"""Which ``mlx5_core`` a guest loads: the kernel package's own, or its source built anew.

Distributions build the driver without ``CONFIG_MLX5_EN_TLS``, so TLS offload takes a build of our
own: the unmodified source of the very kernel package, out of tree against its headers package, with
that option on. Patches may be put on top; only what they change is compiled then.
"""

import hashlib
import os
import shutil
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nicmodel.entry import check_known
from nicmodel.errors import UserError
from nicmodel.testbed import kbuild, kernel
from nicmodel.testbed.kernel import Kernel
from nicmodel.testbed.paths import BUILD, cached

if TYPE_CHECKING:  # set-up makes images before there is a libvirt
    from nicmodel.testbed.vm import Vm

MODULE = "mlx5_core"
FOLDER = Path("drivers/net/ethernet/mellanox/mlx5/core")
PARTS = ("drivers/net/ethernet/mellanox", "include/linux/mlx5")
"""What of the kernel's source a build takes, and a patch may change."""
CONFIG = ("CONFIG_MLX5_EN_TLS",)
LOG = BUILD / "driver.log"
BUILD_SECONDS = 1800.0

_RUNNING_NOTE = f"/sys/module/{MODULE}/notes/.note.gnu.build-id"
_NOTE = struct.pack("<III", 4, 20, 3) + b"GNU\0"  # NT_GNU_BUILD_ID with a SHA-1


@dataclass(frozen=True)
class Choice:
    """Which driver is wanted: the package's, or one with TLS and patches on top of it."""

    tls: bool = False
    patches: tuple[Path, ...] = ()

    @property
    def words(self) -> str:
        """For a person."""
        names = " and ".join(patch.name for patch in self.patches)
        return ("tls" if self.tls else "stock") + (f" with {names}" if names else "")


STOCK = Choice()
TLS = Choice(tls=True)


@dataclass(frozen=True)
class Driver:
    """A driver for one kernel; ``debug`` is the module with debug information, if there is any."""

    module: Path
    build_id: str
    description: str
    debug: Path | None = None


def choice(word: str = "stock", patches: Path | None = None) -> Choice:
    """Return what a user chose: ``stock`` or ``tls``, or ``tls`` with patches on top.

    ``patches`` is a patch file, or a folder with a quilt ``series`` or else its ``*.patch`` in the
    order of their names.
    :raises UserError: there is no such driver or patch
    """
    check_known("driver", word, ("stock", "tls"))
    if patches is None:
        return TLS if word == "tls" else STOCK
    return Choice(tls=True, patches=_series(patches))


def _series(place: Path) -> tuple[Path, ...]:
    """Return the patches of a file or folder in their order (series: quilt(1))."""
    if not place.exists():
        raise UserError(f"there is no patch {place}: name a patch file or a folder of them.")
    if place.is_file():
        return (place.absolute(),)
    series = place / "series"
    if series.exists():
        lines = (line.split("#")[0].split() for line in series.read_text().splitlines())
        patches = [place.absolute() / words[0] for words in lines if words]
    else:
        # git format-patch writes a cover letter that is named like a patch
        found = sorted(place.absolute().glob("*.patch"))
        patches = [path for path in found if not path.name.endswith("-cover-letter.patch")]
    if not patches:
        raise UserError(f"{place} has no patches: put *.patch files into it, or a series.")
    for patch in patches:
        if not patch.is_file():
            raise UserError(f"{series} names {patch.name}, which is not there.")
    return tuple(patches)


def find(chosen: Kernel, wanted: Choice = STOCK) -> Driver:
    """Return the driver that ``wanted`` names, built the first time.

    :raises UserError: a patch does not apply, or the module does not build or does not fit
    :raises Unavailable: the package sources have no source or headers of this kernel
    """
    stock = stock_module(chosen)
    if not wanted.tls:
        found = build_id(kernel.module_binary(stock))
        return Driver(stock, found, f"stock mlx5_core of {chosen.origin}")
    folder = _patched(chosen, wanted.patches) if wanted.patches else _plain(chosen)
    module = folder / f"{MODULE}.ko"
    theirs, ours = kbuild.modinfo(stock, "vermagic"), kbuild.modinfo(module, "vermagic")
    if theirs != ours:
        raise UserError(f"the driver was built for '{ours}' and the kernel wants '{theirs}'.")
    names = "".join(f" and {patch.name}" for patch in wanted.patches)
    description = f"mlx5_core of {chosen.origin} rebuilt with {', '.join(CONFIG)}=y{names}"
    debug = folder / f"{MODULE}.debug.ko"
    return Driver(module, build_id(module.read_bytes()), description, debug)


def stock_module(chosen: Kernel) -> Path:
    """Return the driver's file in the kernel's own modules."""
    for path in kernel.module_closure(chosen, [MODULE]):
        if path.name.split(".ko")[0] == MODULE:
            return chosen.modules / path
    raise UserError(f"kernel {chosen.release} has {MODULE} built in: build it as a module.")


def build_id(data: bytes) -> str:
    """Return the build id in an ELF file, or in the note alone, as hexadecimal digits.

    :raises UserError: there is none
    """
    at = data.find(_NOTE)
    if at < 0:
        raise UserError(f"{MODULE} has no build id: build it with --build-id=sha1.")
    return data[at + len(_NOTE) :][:20].hex()


def running(vm: "Vm") -> str | None:
    """Return the build id of the driver that a guest has loaded, if it has."""
    done = vm.run(f"od -An -v -tx1 {_RUNNING_NOTE}", check=False)
    return build_id(bytes.fromhex(done.stdout)) if done.status == 0 else None


def verify(vm: "Vm", wanted: Driver) -> None:
    """Refuse a guest that has loaded another driver than it was to.

    :raises UserError: it has
    """
    loaded = running(vm)
    if loaded is not None and loaded != wanted.build_id:
        raise UserError(
            f"guest {vm.name} has loaded an mlx5_core with build id {loaded} where "
            f"{wanted.build_id} ({wanted.description}) was to run: "
            "remove its image from the cache and start again."
        )


def _plain(chosen: Kernel) -> Path:
    """Return the folder with the unpatched module and, in ``tree``, all that it was made of."""

    def make(folder: Path) -> None:
        tree = folder / "tree"
        source = kernel.sources(chosen)
        for part in PARTS:
            # objects of a user's tree were made with another configuration
            skip = shutil.ignore_patterns("*.o", "*.ko", "*.cmd", "*.mod", "*.mod.c")
            shutil.copytree(source / part, tree / part, ignore=skip)
        kbuild.say("driver", f"building mlx5_core for {chosen.release} with {', '.join(CONFIG)}=y")
        _build(chosen, tree, folder)
        (tree / "built-in").write_text(str(tree))

    return cached("drivers", _digest(_identity(chosen)), make)


def _patched(chosen: Kernel, patches: Sequence[Path]) -> Path:
    """Return the folder with a module that has ``patches`` on top of the unpatched one."""
    plain = _plain(chosen) / "tree"
    texts = [hashlib.sha256(patch.read_bytes()).hexdigest() for patch in patches]

    def make(folder: Path) -> None:
        tree = folder / "tree"
        shutil.copytree(plain, tree, symlinks=True)
        _relocate(tree)
        for patch in patches:
            _apply(patch, tree)
        kbuild.say(
            "driver",
            f"building mlx5_core for {chosen.release} with {', '.join(p.name for p in patches)}",
        )
        _build(chosen, tree, folder)
        shutil.rmtree(tree)

    return cached("drivers", _digest("\0".join([_identity(chosen), *texts])), make)


def _identity(chosen: Kernel) -> str:
    """Name all that a build depends on: kernel, source, recipe."""
    parts = [chosen.key, chosen.origin, *_flags(Path("tree"))]
    if chosen.tree is not None:
        for part in PARTS:
            for path in sorted((chosen.tree / part).rglob("*.[chM]*")):
                status = path.stat()
                parts.append(f"{path} {status.st_size} {status.st_mtime_ns}")
    return "\0".join(parts)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _relocate(tree: Path) -> None:
    """Tell a copied tree where it is, or kbuild would find every command line changed."""
    mark = tree / "built-in"
    before, after = mark.read_bytes(), os.fsencode(tree)
    for path in (*tree.rglob(".*.cmd"), *tree.rglob("*.mod")):
        status = path.stat()
        path.write_bytes(path.read_bytes().replace(before, after))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _apply(patch: Path, tree: Path) -> None:
    command = ["patch", "-p1", "--forward", "--batch", "--no-backup-if-mismatch"]
    done = subprocess.run(
        [*command, "-d", str(tree), "-i", str(patch.absolute())],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        words = kbuild.telling(
            done.stdout + done.stderr, r"FAILED|can't find|malformed|Only garbage|ignor"
        )
        raise UserError(f"{patch.name} does not apply to the driver of this kernel: {words}")


def _build(chosen: Kernel, tree: Path, folder: Path) -> None:
    """Build the module in ``tree``; put it into ``folder``, with and without debug information."""
    core = tree / FOLDER
    command = [
        *("make", "-C", str(kernel.build_folder(chosen)), f"M={core}", f"-j{os.cpu_count() or 1}"),
        *_flags(tree),
        "modules",
    ]
    done = kbuild.build(command, log=LOG, seconds=BUILD_SECONDS, who="driver")
    module = core / f"{MODULE}.ko"
    if done.status or not module.exists():
        words = done.words.removeprefix(f"{tree}/")
        raise UserError(f"{MODULE} does not build for {chosen.release}: {words} (all of it: {LOG})")
    kbuild.strip(module, folder / f"{MODULE}.ko")
    module.rename(folder / f"{MODULE}.debug.ko")
    (core / f"{MODULE}.o").unlink()  # it is linked anew anyway


def _flags(tree: Path) -> list[str]:
    """Return what kbuild is told beside where things are."""
    defines = " ".join(f"-D{name}=1" for name in CONFIG)
    return [
        *(f"{name}=y" for name in CONFIG),
        # no path of this machine in the module; compressed, or all objects take 400 MB
        f"KCFLAGS={defines} -gz=zlib -ffile-prefix-map={tree}/=",
        # a patch may change the headers beside the driver
        f"NOSTDINC_FLAGS=-nostdinc -I{tree}/include",
        # type information would take pahole and the kernel's own; nothing here asks for it
        "CONFIG_DEBUG_INFO_BTF_MODULES=",
    ]
