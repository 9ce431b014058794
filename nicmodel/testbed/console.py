# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest's serial console, and the kernel faults that show on it."""

import re
from dataclasses import dataclass
from pathlib import Path

LONGEST_BLOCK = 120  # lines; a trace of a deep stack with registers has about 80

# what a kernel says when something is wrong with it (lib/bug.c, kernel/panic.c, kernel/rcu,
# kernel/hung_task.c, kernel/watchdog.c, net/sched/sch_generic.c, net/core/dev.c, mlx5 en_tx.c)
_FAULTS = {
    "panic": r"Kernel panic - not syncing",
    "warning": r"WARNING: ",
    "bug": r"(kernel )?BUG(: | at )",
    "oops": r"Oops: |general protection fault|unable to handle",
    "sanitizer": r"(UBSAN|KASAN|KFENCE|KCSAN): |BUG: KASAN",
    "soft lockup": r"watchdog: BUG: soft lockup",
    "hung task": r"INFO: task .* blocked for more than",
    "RCU stall": r"rcu: INFO: .*(stall|expedited)",
    "transmit timeout": r"NETDEV WATCHDOG|.*\bTX timeout detected",
    "checksum failure": r".*: hw csum failure",
    "device failure": r"mlx5_core .*(health compromised|device's health|firmware over|"
    r"Firmware internal|command timeout|Command timeout|timeout\. Will cause a leak)",
    "reference leak": r"unregister_netdevice: waiting for",
    "stack trace": r"Call Trace:",
}
_STAMP = re.compile(r"^(<\d+>)?\[ *\d+\.\d+\](\[ *[CT]\d+\])? ")
_TRIGGER = re.compile("|".join(f"(?P<k{n}>{p})" for n, p in enumerate(_FAULTS.values())))
_KINDS = list(_FAULTS)
_PANIC = re.compile(r"Kernel panic - not syncing")
# lines that go on with a report: indented stack frames, registers, code, markers, and the like
_CONTINUATION = re.compile(
    r"[ \t]|Call Trace:|[A-Z0-9]{2,3}: |RIP: |Code: |Modules linked in|CPU: |Hardware name: |"
    r"---\[|</?[A-Z#]+>|FS: |PKRU|CR2|DR[0-9]|Workqueue: |Tainted|note: |stack:|\?|$"
)


@dataclass(frozen=True)
class KernelFault:
    """A fault that a guest kernel reported: what kind, its first line, the whole report."""

    kind: str
    headline: str
    text: str


def find_faults(text: str) -> list[KernelFault]:
    """Return the faults in console ``text``; a report's own lines make no second fault."""
    lines = text.splitlines()
    stripped = [_STAMP.sub("", line.rstrip("\r")) for line in lines]
    faults = []
    index = 0
    while index < len(lines):
        match = _TRIGGER.match(stripped[index])
        if not match:
            index += 1
            continue
        end = _end_of_report(stripped, index)
        kind = _KINDS[int((match.lastgroup or "k0")[1:])]
        report = "\n".join(line.rstrip("\r") for line in lines[index:end])
        faults.append(KernelFault(kind, stripped[index], report))
        index = end
    return faults


def _end_of_report(stripped: list[str], start: int) -> int:
    """Return the index after the report that begins at ``start``."""
    last = min(len(stripped), start + LONGEST_BLOCK)
    for index in range(start, last):
        if stripped[index].startswith("---[ end trace"):
            return index + 1
        if index > start and not _CONTINUATION.match(stripped[index]):
            return index
    return last


class Console:
    """The console file of one guest, with a mark: what is before it has been looked at."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._boot = 0
        self._mark = 0

    def restart(self) -> None:
        """A new QEMU appends to the file: what came so far is of the one before."""
        self._boot = self._mark = self._size()

    def text(self) -> str:
        """Return what came since the mark."""
        return self._since(self._mark)

    def mark(self) -> None:
        """Set the mark to the end of what came so far."""
        self._mark = self._size()

    def faults(self) -> list[KernelFault]:
        """Return the kernel faults since the mark."""
        return find_faults(self.text())

    def panicked(self) -> bool:
        """Say whether the kernel panicked since this QEMU started."""
        return _PANIC.search(self._since(self._boot)) is not None

    def _size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def _since(self, offset: int) -> str:
        if not self.path.exists():
            return ""
        with self.path.open("rb") as handle:
            handle.seek(offset)
            return handle.read().decode(errors="replace")
