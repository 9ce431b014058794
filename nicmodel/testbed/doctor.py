# SPDX-License-Identifier: GPL-2.0-or-later
"""What this machine has for us, what it lacks, and what to type."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nicmodel.errors import UserError
from nicmodel.testbed import accel, driver, image, kernel
from nicmodel.testbed.domain import EMULATOR, Boot
from nicmodel.testbed.image import entries
from nicmodel.testbed.paths import BUILD, CHECKOUT, SPACE_NEEDED, cache_root, free_space, plugin

PACKAGE_LISTS = (
    CHECKOUT / "nicmodel/testbed/packages.txt",
    CHECKOUT / "qemu-plugin/build-packages.txt",
)


@dataclass(frozen=True)
class Check:
    """One line of the table; ``advice`` is what to type if it is not ``fine``."""

    name: str
    fine: bool
    found: str
    advice: str = ""


def checks(
    kernel_choice: str = kernel.DEFAULT, driver_choice: driver.Choice = driver.STOCK
) -> Iterator[Check]:
    """Yield the checks as they are made, the quick ones first."""
    yield _packages()
    yield _python()
    yield _environment()
    yield _emulator()
    yield _attempt("plug-in", lambda: str(plugin()), "qemu-plugin/build.sh")
    yield _permission()
    yield _space()
    try:
        found = kernel.find(kernel_choice)
        boot = Boot(found.image, image.initramfs(found))
    except UserError as error:
        yield Check("guest", False, str(error), "make setup")
        return
    yield Check("guest", True, f"{found.origin}, initramfs {_mib(boot.initramfs)} MiB")
    yield _attempt("headers", lambda: str(kernel.headers()), "make setup")
    yield _driver(found, driver_choice)
    chosen = accel.choose("auto", boot)
    yield Check("acceleration", True, f"{chosen.name}: {chosen.reason}")


def missing_packages() -> list[str]:
    """Return the packages of the lists that are not installed."""
    wanted = sorted({name for path in PACKAGE_LISTS for name in entries(path)})
    done = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Abbrev}${Package}\n"],
        capture_output=True,
        text=True,
        check=False,
    )
    installed = {line[3:] for line in done.stdout.splitlines() if line[1:2] == "i"}
    return [name for name in wanted if name not in installed]


def table(results: Iterator[Check]) -> Iterator[str]:
    """Yield the lines of the table, one a check."""
    for check in results:
        yield f"{'ok' if check.fine else 'MISSING':<8} {check.name:<13} {check.found}"
        if not check.fine:
            yield f"{'':<22} type: {check.advice}"


def _packages() -> Check:
    missing = missing_packages()
    names = " ".join(missing)
    prefix = "" if os.geteuid() == 0 else "sudo "
    return Check(
        "packages",
        not missing,
        f"not installed: {names}" if missing else "all installed",
        f"{prefix}apt-get install --no-install-recommends {names}",
    )


def _python() -> Check:
    fine = sys.version_info >= (3, 11)
    found = f"{platform.python_version()} ({sys.executable})"
    return Check("python", fine, found, "PYTHON=/path/to/python3.11 make setup")


def _environment() -> Check:
    link = BUILD / "venv"
    fine = (link / "complete").exists()
    return Check("environment", fine, str(link.resolve()) if fine else "not made", "make setup")


def _emulator() -> Check:
    if shutil.which(EMULATOR) is None:
        advice = "apt-get install --no-install-recommends qemu-system-x86"
        return Check("QEMU", False, f"no {EMULATOR}", advice)
    done = subprocess.run([EMULATOR, "--version"], capture_output=True, text=True, check=False)
    return Check("QEMU", True, done.stdout.splitlines()[0])


def _permission() -> Check:
    fine = os.geteuid() == 0 and os.access("/dev/net/tun", os.R_OK | os.W_OK)
    found = "may be made" if fine else "namespaces and taps take root and /dev/net/tun"
    return Check("network", fine, found, "sudo make vm-test")


def _space() -> Check:
    free = free_space()
    found = f"{free / 2**30:.1f} GiB free for {cache_root()}"
    return Check("disk space", free >= SPACE_NEEDED, found, "export NICMODEL_CACHE=FOLDER")


def _attempt(name: str, action: Callable[[], str], advice: str) -> Check:
    try:
        return Check(name, True, action())
    except UserError as error:
        return Check(name, False, str(error), advice)


def _driver(chosen: kernel.Kernel, wanted: driver.Choice) -> Check:
    try:
        found = driver.find(chosen, wanted)
    except UserError as error:
        return Check("driver", False, str(error), "nicmodel doctor --driver stock")
    return Check("driver", True, f"{found.description}, build id {found.build_id}")


def _mib(path: Path) -> int:
    return path.stat().st_size >> 20
