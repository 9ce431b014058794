# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's root: an initramfs made of distribution packages and kernel modules.

Only the files that ``guest/files.txt`` names are taken, with the shared libraries they load, so
that a guest of 256 MiB has room.
"""

import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from nicmodel.errors import UserError
from nicmodel.testbed import apt, driver, kbuild, kernel
from nicmodel.testbed.driver import Driver
from nicmodel.testbed.kernel import Kernel
from nicmodel.testbed.paths import GUEST, cached

ROOT_FOLDERS = ("dev", "etc", "proc", "run", "sys", "tmp", "root", "usr/bin", "usr/sbin", "usr/lib")
MERGED = ("bin", "sbin", "lib", "lib64")


def initramfs(chosen: Kernel, nic_driver: Driver | None = None) -> Path:
    """Return the initramfs for ``chosen`` with a driver (none: its own), made the first time."""
    loaded = nic_driver or driver.find(chosen)
    packages = kernel.remember(
        "guest " + " ".join(listed("packages.txt")), lambda: apt.resolve(listed("packages.txt"))
    )
    root = cached("guest-roots", _digest("\n".join(packages)), lambda f: _unpack(packages, f))
    parts = [chosen.key, loaded.build_id, *packages, Path(__file__).read_text(), *_overlay_texts()]
    folder = cached("images", _digest("\0".join(parts)), lambda f: _make(chosen, loaded, root, f))
    return folder / "initramfs"


def listed(name: str) -> list[str]:
    """Return the entries of the list ``guest/name``: one a line, ``#`` starts a comment."""
    return entries(GUEST / name)


def entries(path: Path) -> list[str]:
    """Return the entries of a list file: one a line, ``#`` starts a comment."""
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def archive(root: Path) -> Iterator[bytes]:
    """Yield ``root`` as a cpio archive ("newc", kernel: Documentation/driver-api/early-userspace).

    Owner and times are nought, so that equal trees make equal archives.
    """
    paths = sorted(root.rglob("*"))
    for inode, path in enumerate(paths, start=1):
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            data = os.readlink(path).encode()
        else:
            data = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        yield _entry(str(path.relative_to(root)), inode, status.st_mode, data)
    # the kernel opens /dev/console before devtmpfs is there
    yield _entry("dev/console", len(paths) + 1, stat.S_IFCHR | 0o600, b"", device=(5, 1))
    yield _entry("TRAILER!!!", 0, 0, b"")


def _entry(
    name: str, inode: int, mode: int, data: bytes, device: tuple[int, int] = (0, 0)
) -> bytes:
    fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name) + 1, 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields)
    head = header + name.encode() + b"\0"
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _overlay_texts() -> Iterator[str]:
    for path in sorted(GUEST.rglob("*")):
        if path.is_file():
            yield f"{path.relative_to(GUEST)} {path.stat().st_mode:o}\n{path.read_text()}"


def _skeleton(root: Path) -> None:
    for name in ROOT_FOLDERS:
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in MERGED:
        (root / "usr" / name).mkdir(exist_ok=True)
        (root / name).symlink_to(f"usr/{name}")


def _unpack(packages: Sequence[str], folder: Path) -> None:
    _skeleton(folder)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        for package in apt.download(packages, Path(scratch)):
            apt.unpack(package, folder)


def _make(chosen: Kernel, loaded: Driver, packages_root: Path, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        root = Path(scratch)
        _skeleton(root)
        _take_files(packages_root, root)
        _take_modules(chosen, loaded, root)
        shutil.copytree(GUEST / "root", root, dirs_exist_ok=True)
        _link_busybox(root)
        # not compressed: under emulation the guest would take two seconds to unpack it
        with (folder / "initramfs").open("wb") as sink:
            sink.writelines(archive(root))


def _take_files(source: Path, root: Path) -> None:
    programs = []
    for pattern in listed("files.txt"):
        found = [path for path in source.glob(f"usr/{pattern}") if path.exists()]
        if not found:
            raise UserError(f"guest/files.txt names {pattern}, which no guest package holds.")
        programs.extend(found)
    for path in dict.fromkeys([*programs, *_libraries(source, programs)]):
        target = root / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path.resolve(), target)


def _libraries(source: Path, programs: Sequence[Path]) -> Iterator[Path]:
    """Yield what the dynamic loader of ``source`` would load for ``programs``, itself included."""
    loader = source / "lib64/ld-linux-x86-64.so.2"
    yield source / "usr/lib64" / loader.name
    folders = [source / "usr/lib/x86_64-linux-gnu", source / "usr/lib"]
    search = ":".join(str(folder) for folder in folders)
    for program in programs:
        done = subprocess.run(
            [str(loader), "--inhibit-cache", "--library-path", search, "--list", str(program)],
            capture_output=True,
            text=True,
            check=False,
        )
        for line in done.stdout.splitlines():
            name, arrow, place = line.strip().partition(" => ")
            if not arrow or name.startswith("/"):
                continue
            path = Path(place.split(" (")[0])
            if not path.is_relative_to(source):
                raise UserError(f"{program.name} needs {name}: add its package to the guest.")
            yield path


def _take_modules(chosen: Kernel, loaded: Driver, root: Path) -> None:
    target = root / "usr/lib/modules" / chosen.release
    stock = driver.stock_module(chosen)
    names = [*listed("modules.txt"), *kbuild.depends(loaded.module)]
    for path in kernel.module_closure(chosen, names):
        place = target / path.parent / (path.name.split(".ko")[0] + ".ko")
        place.parent.mkdir(parents=True, exist_ok=True)
        source = chosen.modules / path
        place.write_bytes(kernel.module_binary(loaded.module if source == stock else source))
    for name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
        shutil.copy(chosen.modules / name, target / name)
    kernel.depmod(root / "usr", chosen.release)


def _link_busybox(root: Path) -> None:
    """Give every busybox tool its name where no real tool has it."""
    busybox = root / "usr/bin/busybox"
    done = subprocess.run([str(busybox), "--list"], capture_output=True, text=True, check=True)
    taken = {path.name for folder in ("bin", "sbin") for path in (root / "usr" / folder).iterdir()}
    for name in done.stdout.split():
        if name not in taken:
            (root / "usr/bin" / name).symlink_to("busybox")
    for name in ("modprobe", "insmod", "rmmod", "lsmod", "modinfo", "depmod"):
        # the kernel itself calls /sbin/modprobe to load what is asked for
        (root / "usr/bin" / name).unlink(missing_ok=True)
        (root / "usr/sbin" / name).symlink_to("../bin/kmod")
