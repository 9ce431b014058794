# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the time goes: CPU seconds of the guests, of QEMU around them, and of the model.

Read from ``/proc`` (proc(5), ``stat``): QEMU names its threads; ``CPU n/TCG`` is a processor of the
guest, every other thread is QEMU itself.
"""

import os
from collections import defaultdict
from pathlib import Path

from nicmodel.testbed.lab import Lab
from nicmodel.testbed.model import ModelProcess

_TICK = os.sysconf("SC_CLK_TCK")

PARTS = ("guests", "QEMU", "model")


def used(lab: Lab, model: ModelProcess) -> dict[str, float]:
    """CPU seconds that each of ``PARTS`` has used so far."""
    total = dict.fromkeys(PARTS, 0.0)
    total["model"] = sum(threads(model.pid).values())
    for name in (vm.name for vm in lab.guests()):
        for comm, seconds in threads(_qemu(lab, name)).items():
            total["guests" if comm.startswith("CPU ") else "QEMU"] += seconds
    return total


def _qemu(lab: Lab, name: str) -> int:
    (path,) = (lab.scratch / "libvirt").glob(f"run/**/{name}.pid")
    return int(path.read_text())


def threads(pid: int) -> dict[str, float]:
    """CPU seconds by thread name."""
    found: defaultdict[str, float] = defaultdict(float)
    for task in Path(f"/proc/{pid}/task").iterdir():
        text = (task / "stat").read_text()
        comm = text[text.index("(") + 1 : text.rindex(")")]
        fields = text[text.rindex(")") + 2 :].split()
        found[comm] += (int(fields[11]) + int(fields[12])) / _TICK
    return found
