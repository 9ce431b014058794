# SPDX-License-Identifier: GPL-2.0-or-later
"""Has guests note what the tracepoints of SMT say, for ``nicmodel explain``."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nicmodel.explain.guests import SUFFIX, Reading
from nicmodel.testbed.errors import GuestDied, GuestError
from nicmodel.testbed.vm import Vm

TRACEFS = "/sys/kernel/tracing"
INSTANCE = f"{TRACEFS}/instances/nicmodel"
"""A buffer of our own: what a program of the user traces stays as it is."""
KIBIBYTES = 1024
"""Of a guest's memory for what is noted; then the oldest goes."""
READINGS = 8
"""How often clocks are compared; the quickest answer counts."""

# clock tai: that of the day in ns, without steps; not a CPU's own as the default one
_BEGIN = f"""
mountpoint -q {TRACEFS} || mount -t tracefs none {TRACEFS}
test -d {TRACEFS}/events/smt || exit 3
mkdir -p {INSTANCE} && cd {INSTANCE} || exit
echo tai >trace_clock && echo $(({KIBIBYTES} / $(nproc))) >buffer_size_kb
echo 1 >events/smt/enable
"""
_NO_TRACEPOINTS = 3


@contextmanager
def traced(guests: Sequence[Vm], folder: Path) -> Iterator[None]:
    """Note meanwhile; then leave a file in ``folder`` for each guest that lives.

    Guests whose modules have no tracepoints ``smt:*`` by now note nothing.
    """
    begun = [(vm, _reading(vm)) for vm in guests if _begin(vm)]
    try:
        yield
    finally:
        for vm, first in begun:
            try:
                _save(vm, first, folder / f"{vm.name}{SUFFIX}")
            except GuestDied:
                continue  # its console says why
            except GuestError as error:
                print(f"no trace of guest {vm.name}: {error}", file=sys.stderr)


def _begin(vm: Vm) -> bool:
    status = vm.run(_BEGIN, check=False).status
    if status not in (0, _NO_TRACEPOINTS):
        print(f"no trace of guest {vm.name}: its kernel has not what it takes", file=sys.stderr)
    return status == 0


def _save(vm: Vm, first: Reading, path: Path) -> None:
    vm.run(f"echo 0 >{INSTANCE}/events/smt/enable")
    last = _reading(vm)
    said = vm.run(["cat", f"{INSTANCE}/trace"], timeout=120).stdout
    path.write_text(f"{first}\n{last}\n{said}")


def _reading(vm: Vm) -> Reading:
    """The guest's clock and ours at one time."""
    found = []
    for _ in range(READINGS):
        before = time.time_ns()
        guest = vm.agent.call("guest-get-time")
        after = time.time_ns()
        found.append(Reading(guest, (before + after) // 2, (after - before) // 2))
    return min(found, key=lambda one: one.error)
