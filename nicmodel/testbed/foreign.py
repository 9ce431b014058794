# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel module of somebody else, and programs: built on the host, brought into guests, loaded.

A module is built from a copy of its folder with its own makefile, as the kernel documents it for
external modules (Documentation/kbuild/modules.rst), or by a command of the user.
"""

import hashlib
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nicmodel.errors import UserError
from nicmodel.testbed import kbuild, kernel
from nicmodel.testbed.kernel import Kernel
from nicmodel.testbed.paths import BUILD, cached

if TYPE_CHECKING:  # building needs no libvirt
    from nicmodel.testbed.vm import Vm

LOG = BUILD / "module.log"
BUILD_SECONDS = 900.0
PROGRAMS_FOLDER = "/usr/local/bin"
"""Where programs lie in a guest; in the search path of all that runs there."""

_NO_SOURCE = (".git", "*.o", "*.ko", "*.cmd", "*.mod", "*.mod.c", "Module.symvers", "modules.order")


@dataclass(frozen=True)
class Module:
    """The source of one or more kernel modules, and how they are built and loaded."""

    folder: Path
    cflags: str = ""
    """More words for the compiler (kbuild: KCFLAGS)."""
    build: str = ""
    """Command that builds in place of kbuild's own, with KDIR, KVER and KCFLAGS set."""
    load: tuple[str, ...] = ()
    """What modprobe is told, in turn: name and parameters; nothing means all without parameters."""
    needs: tuple[str, ...] = ()
    """Modules of the kernel that it asks for only when it runs."""
    sysctl: Mapping[str, str] = field(default_factory=dict)
    """Set once it is loaded."""


@dataclass(frozen=True)
class Programs:
    """Programs for guests, by path below ``folder``; ``build`` is the command that makes them."""

    folder: Path
    files: tuple[str, ...]
    build: str = ""


def build(module: Module, chosen: Kernel) -> list[Path]:
    """Return the module files made of ``module`` for a kernel, built the first time.

    :raises UserError: it does not build
    """
    if not module.folder.is_dir():
        raise UserError(f"there is no folder {module.folder}: name that of the module's Makefile.")
    objects = kernel.build_folder(chosen)

    def make(folder: Path) -> None:
        source = folder / "source"
        shutil.copytree(module.folder, source, ignore=shutil.ignore_patterns(*_NO_SOURCE))
        if module.build:
            command = ["sh", "-c", module.build]
        else:
            command = ["make", "-C", str(objects), f"M={source}", f"-j{os.cpu_count() or 1}"]
            # type information would take pahole and the kernel's own
            command += [*_cflags(module), "CONFIG_DEBUG_INFO_BTF_MODULES=", "modules"]
        kbuild.say("module", f"building {module.folder.name} for {chosen.release}")
        environment = {"KDIR": str(objects), "KVER": chosen.release, "KCFLAGS": module.cflags}
        done = kbuild.build(
            command,
            log=LOG,
            folder=source,
            seconds=BUILD_SECONDS,
            who="module",
            environment=environment,
        )
        made = sorted(source.rglob("*.ko"))
        if done.status or not made:
            words = done.words if done.status else "it makes no .ko"
            words = words.replace(f"{source}/", "")
            raise UserError(
                f"module {module.folder.name} does not build for {chosen.release}: {words} "
                f"(all of it: {LOG})"
            )
        for path in made:
            kbuild.strip(path, folder / path.name)
        shutil.rmtree(source)

    parts = [chosen.key, str(objects), module.build, module.cflags, digest(module.folder)]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    return sorted(cached("modules", key, make).glob("*.ko"))


def digest(folder: Path) -> str:
    """Return a name for what a module's folder holds."""
    return hashlib.sha256("\0".join(_contents(folder)).encode()).hexdigest()[:16]


def load(vm: "Vm", module: Module, chosen: Kernel, files: Sequence[Path]) -> None:
    """Bring ``files`` and what they need into a guest, load them and set the sysctls.

    :raises UserError: the kernel refuses one of them
    """
    place = f"/usr/lib/modules/{chosen.release}/extra"
    names = {_name(path) for path in files}
    needed = [name for path in files for name in kbuild.depends(path)]
    wanted = [name for name in [*needed, *module.needs] if name.replace("-", "_") not in names]
    vm.run(["mkdir", "-p", place])
    there = set(vm.run(f"find {shlex.quote(place)}/.. -name '*.ko' | sed 's|.*/||'").stdout.split())
    for path in kernel.module_closure(chosen, wanted):
        name = path.name.split(".ko")[0] + ".ko"
        if name not in there:
            data = kernel.module_binary(chosen.modules / path)
            vm.write_file(f"{place}/{name}", data)
    for path in files:
        vm.write_file(f"{place}/{path.name}", path.read_bytes())
    vm.run(["depmod", "-a"], timeout=60)
    for words in module.load or sorted(names):
        _modprobe(vm, words)
    for key, value in module.sysctl.items():
        done = vm.run(["sysctl", "-qw", f"{key}={value}"], check=False)
        if done.status or done.stderr.strip():
            raise UserError(f"guest {vm.name} takes no sysctl {key}: {done.stderr.strip()}")


def build_programs(programs: Programs) -> list[Path]:
    """Return the files of ``programs``, which its command builds in their own folder.

    :raises UserError: it fails, or a file is not there
    """
    if programs.build:
        done = kbuild.build(
            ["sh", "-c", programs.build],
            log=LOG.with_name("programs.log"),
            folder=programs.folder,
            seconds=BUILD_SECONDS,
            who="programs",
        )
        if done.status:
            raise UserError(f"the programs do not build: {done.words}")
    found = [programs.folder / name for name in programs.files]
    for path in found:
        if not path.is_file():
            raise UserError(f"there is no program {path}: build it, or correct [programs] files.")
    return found


def install(vm: "Vm", files: Sequence[Path]) -> None:
    """Bring programs into a guest."""
    vm.run(["mkdir", "-p", PROGRAMS_FOLDER])
    for path in files:
        vm.write_file(f"{PROGRAMS_FOLDER}/{path.name}", path.read_bytes(), mode=0o755)


def _modprobe(vm: "Vm", words: str) -> None:
    before = len(vm.kernel_log().splitlines())
    done = vm.run(["modprobe", *shlex.split(words)], timeout=60, check=False)
    if done.status == 0:
        return
    name = words.split(maxsplit=1)[0]
    said = kbuild.telling(done.stderr, r"ERROR").removeprefix("modprobe: ERROR: ")
    log = [line.partition("] ")[2] for line in vm.kernel_log().splitlines()[before:]]
    about = [line for line in log if line.startswith(f"{name.replace('-', '_')}:")]
    kernels_words = f"; its kernel says: {about[-1]}" if about else ""
    raise UserError(f"module {name} does not load in guest {vm.name}: {said}{kernels_words}")


def _cflags(module: Module) -> list[str]:
    return [f"KCFLAGS={module.cflags}"] if module.cflags else []


def _name(path: Path) -> str:
    return path.name.split(".ko")[0].replace("-", "_")


def _contents(folder: Path) -> Iterator[str]:
    """Name each file of a folder with its content, but for what a build leaves there."""
    keep_out = shutil.ignore_patterns(*_NO_SOURCE)
    for place, folders, names in os.walk(folder):
        skipped = keep_out(place, [*folders, *names])
        folders[:] = sorted(set(folders) - skipped)
        for name in sorted(set(names) - skipped):
            path = Path(place, name)
            digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            yield f"{path.relative_to(folder)} {digest}"
