# SPDX-License-Identifier: GPL-2.0-or-later
"""Which acceleration: tried with a real kernel and a deadline; /dev/kvm may exist and hang."""

import json
import os
import platform
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nicmodel.errors import UserError
from nicmodel.testbed.domain import EMULATOR, Accelerator, Boot
from nicmodel.testbed.paths import cache_root, locked

Choice = Literal["auto", "kvm", "tcg"]
DEADLINE_SECONDS = 10.0
# what the guest's first program says when there is no agent port to serve
MARKER = b"Run /init as init process"


@dataclass(frozen=True)
class Acceleration:
    """The accelerator that guests use here, and a sentence that says why."""

    name: Accelerator
    reason: str


def choose(choice: Choice, boot: Boot) -> Acceleration:
    """Return the accelerator for ``choice``; ``auto`` tries KVM once per boot of this machine."""
    if choice == "tcg":
        return Acceleration("tcg", "asked for")
    found = _remembered(boot)
    if choice == "kvm" and found.name != "kvm":
        raise UserError(f"KVM was asked for but {found.reason}: use --accel tcg.")
    return found


def _remembered(boot: Boot) -> Acceleration:
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    present = os.access("/dev/kvm", os.R_OK | os.W_OK)
    identity = f"{boot_id} {platform.release()} {present}"
    memo = cache_root() / "acceleration.json"
    with locked("acceleration"):
        if memo.exists():
            stored = json.loads(memo.read_text())
            if stored["identity"] == identity:
                return Acceleration(stored["name"], stored["reason"])
        found = _try(boot)
        scratch = memo.with_suffix(".new")
        scratch.write_text(
            json.dumps({"identity": identity, "name": found.name, "reason": found.reason})
        )
        scratch.rename(memo)
    return found


def _try(boot: Boot) -> Acceleration:
    if not Path("/dev/kvm").exists():
        return Acceleration("tcg", "this machine has no /dev/kvm")
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return Acceleration("tcg", "/dev/kvm may not be opened by this user")
    with tempfile.TemporaryFile() as console:
        child = subprocess.Popen(
            [
                *(EMULATOR, "-M", "q35", "-accel", "kvm", "-cpu", "host", "-m", "256"),
                *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
                *("-kernel", str(boot.kernel), "-initrd", str(boot.initramfs)),
                *("-append", "console=ttyS0 panic=-1", "-serial", "stdio"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            return _watch(child, console.fileno())
        finally:
            child.kill()
            # one that is stuck in the kernel cannot be ended from user space
            with suppress(subprocess.TimeoutExpired):
                child.wait(timeout=DEADLINE_SECONDS)


def _watch(child: "subprocess.Popen[str]", console: int) -> Acceleration:
    started = time.monotonic()
    while time.monotonic() - started < DEADLINE_SECONDS:
        if MARKER in os.pread(console, 1 << 20, 0):
            seconds = time.monotonic() - started
            return Acceleration("kvm", f"a guest kernel reached its init in {seconds:.1f} s")
        if child.poll() is not None:
            assert child.stderr is not None
            said = child.stderr.read().strip().splitlines() or ["no reason given"]
            return Acceleration("tcg", f"KVM does not start: {said[-1]}")
        time.sleep(0.05)
    return Acceleration(
        "tcg", f"/dev/kvm exists, but a guest showed no life on it within {DEADLINE_SECONDS:g} s"
    )
