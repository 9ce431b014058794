# SPDX-License-Identifier: GPL-2.0-or-later
"""Our SMT kernel modules (``smt-kmod/``), built for a guest's kernel and loaded into guests.

They do not go into the guest's image: a guest that tests SMT gets them when it runs.
"""

import argparse
import hashlib
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nicmodel.errors import UserError
from nicmodel.testbed import foreign, kbuild, kernel
from nicmodel.testbed.errors import Unavailable
from nicmodel.testbed.foreign import Module
from nicmodel.testbed.kernel import Kernel
from nicmodel.testbed.paths import BUILD, CHECKOUT, cached

if TYPE_CHECKING:  # building needs no libvirt
    from nicmodel.testbed.vm import Vm

SOURCE = CHECKOUT / "smt-kmod"
MODULES = ("smt_ledger", "smt")
"""In the order in which they are loaded."""
LOG = BUILD / "kmod.log"
BUILD_SECONDS = 600.0


def build(chosen: Kernel) -> Path:
    """Return the folder with the ``.ko`` files of ``MODULES``, built the first time.

    Warnings of the compiler (``W=1``) and of sparse are errors.
    :raises UserError: it does not build
    :raises Unavailable: the package sources have no headers of this kernel
    """
    objects = kernel.build_folder(chosen)

    def make(folder: Path) -> None:
        tree = folder / "tree"
        for path in _sources():
            target = tree / path.relative_to(SOURCE)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        kbuild.say("kmod", f"building smt for {chosen.release}")
        _make(chosen, objects, tree)
        for name in MODULES:
            kbuild.strip(tree / f"{name}.ko", folder / f"{name}.ko")
        shutil.rmtree(tree)

    texts = [path.relative_to(SOURCE).as_posix() + path.read_text() for path in _sources()]
    parts = [chosen.key, *texts, Path(__file__).read_text()]
    return cached("smt-kmod", hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16], make)


def under_test(module: Module | None, chosen: Kernel) -> Path:
    """Return the folder with the ``.ko`` files that tests of SMT load: of ``module``, or ours.

    :raises UserError: it does not build, or is another one than ``smt``
    """
    if module is None:
        return build(chosen)
    files = foreign.build(module, chosen)
    names = [path.name for path in files]
    if f"{MODULES[-1]}.ko" not in names:
        raise UserError(
            f"module {module.folder.name} makes {' and '.join(names)}: the tests here know the "
            f"sockets of {MODULES[-1]}.ko alone, for another write scenarios as in the README"
        )
    return files[0].parent


def load(vm: "Vm", built: Path) -> None:
    """Load the modules of folder ``built`` into a guest."""
    for name in MODULES:
        if not (built / f"{name}.ko").exists():
            continue  # somebody's smt may do without
        vm.write_file(f"/tmp/{name}.ko", (built / f"{name}.ko").read_bytes())
        vm.run(f"grep -q '^{name} ' /proc/modules || insmod /tmp/{name}.ko")


def _sources() -> list[Path]:
    return sorted([*SOURCE.glob("*.[ch]"), SOURCE / "Kbuild", *SOURCE.glob("include/**/*.h")])


def _make(chosen: Kernel, objects: Path, tree: Path) -> None:
    command = [
        *("make", "-C", str(objects), f"M={tree}", f"-j{os.cpu_count() or 1}", "W=1"),
        *(("C=1",) if shutil.which("sparse") else ()),
        # type information would take pahole and the kernel's own
        "CONFIG_DEBUG_INFO_BTF_MODULES=",
        "modules",
    ]
    done = kbuild.build(command, log=LOG, seconds=BUILD_SECONDS, who="kmod")
    lines = LOG.read_text().replace(f"{tree}/", "").splitlines()
    wrong = [line for line in lines if ": warning:" in line or ": error:" in line or "***" in line]
    # the kernel's own headers are not ours to mend
    ours = [line for line in wrong if not line.startswith("/")]
    if done.status or ours:
        words = (ours or wrong or [done.words])[0]
        raise UserError(f"smt does not build for {chosen.release}: {words} (all of it: {LOG})")


def main() -> int:
    """Build for the kernel that the command line names; put the modules into ``build/kmod``."""
    parser = argparse.ArgumentParser(description="Build the SMT kernel modules.")
    parser.add_argument("kernel", nargs="?", default=kernel.DEFAULT, help="package or built tree")
    try:
        chosen = kernel.find(parser.parse_args().kernel)
        built = build(chosen)
    except (UserError, Unavailable) as error:
        print(f"kmod: {error}", file=sys.stderr)
        return 1
    target = BUILD / "kmod" / chosen.release
    target.mkdir(parents=True, exist_ok=True)
    for name in MODULES:
        shutil.copy(built / f"{name}.ko", target)
    print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
