# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel faults on a console: found, whole, once; a healthy kernel has none."""

from pathlib import Path

import pytest

from nicmodel.testbed.console import Console, find_faults

# excerpts of a real boot: words that look bad and are not
HEALTHY = """\
[    0.000000] Command line: console=ttyS0 oops=panic panic=0
[    0.081234] ACPI BIOS Warning (bug): Optional FADT field Gpe1Block has valid Length but zero
[    0.271000] Spectre V2 : WARNING missing nothing
[    1.071811] clocksource: timekeeping watchdog on CPU0: Marking clocksource 'tsc' as unstable
[    3.100000] mlx5_core 0000:03:00.0: firmware version: 22.32.2004
[    3.200000] mlx5_core 0000:03:00.0 eth0: Link up
[    4.046549] nicmodel: guest ready
/ # echo WARNING
"""

WARN = """\
[   12.100000] ------------[ cut here ]------------
[   12.100100] WARNING: CPU: 1 PID: 42 at net/core/dev.c:10 napi_enable+0x3a/0x40
[   12.100200] Modules linked in: mlx5_core psample
[   12.100300] CPU: 1 PID: 42 Comm: ip Not tainted 6.1.0-56-amd64 #1  Debian 6.1.192-2
[   12.100400] RIP: 0010:napi_enable+0x3a/0x40
[   12.100500] Call Trace:
[   12.100600]  <TASK>
[   12.100700]  mlx5e_open_channels+0x1/0x2 [mlx5_core]
[   12.100800]  </TASK>
[   12.100900] ---[ end trace 0000000000000000 ]---
"""

OOPS = """\
[   20.000000] BUG: kernel NULL pointer dereference, address: 0000000000000008
[   20.000100] #PF: supervisor read access in kernel mode
[   20.000200] Oops: 0000 [#1] PREEMPT SMP NOPTI
[   20.000300] RIP: 0010:mlx5e_poll+0x1/0x2 [mlx5_core]
[   20.000400] Call Trace:
[   20.000500]  net_rx_action+0x2a/0x60
[   20.000600] Kernel panic - not syncing: Fatal exception
"""


def test_healthy_kernel_has_no_fault() -> None:
    assert find_faults(HEALTHY) == []


def test_warning_is_one_fault_with_its_whole_trace() -> None:
    (fault,) = find_faults(HEALTHY + WARN + HEALTHY)
    assert fault.kind == "warning"
    assert fault.headline.startswith("WARNING: CPU: 1")
    assert "mlx5e_open_channels" in fault.text
    assert fault.text.endswith("---[ end trace 0000000000000000 ]---")
    assert "guest ready" not in fault.text


def test_two_warnings_are_two_faults() -> None:
    assert len(find_faults(WARN + HEALTHY + WARN)) == 2


def test_oops_and_the_panic_after_it() -> None:
    kinds = [fault.kind for fault in find_faults(OOPS)]
    assert kinds[0] == "bug"
    assert "panic" in kinds


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("hung task", "INFO: task kworker/u4:1:33 blocked for more than 60 seconds."),
        ("soft lockup", "watchdog: BUG: soft lockup - CPU#1 stuck for 134s! [ip:42]"),
        ("RCU stall", "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:"),
        ("RCU stall", "rcu: INFO: rcu_preempt self-detected stall on CPU"),
        ("transmit timeout", "NETDEV WATCHDOG: eth0 (mlx5_core): transmit queue 0 timed out"),
        ("transmit timeout", "mlx5_core 0000:03:00.0 eth0: TX timeout detected"),
        ("checksum failure", "eth0: hw csum failure"),
        ("device failure", "mlx5_core 0000:03:00.0: device's health compromised - reached miss"),
        ("reference leak", "unregister_netdevice: waiting for eth0 to become free. Usage = 2"),
        ("sanitizer", "UBSAN: array-index-out-of-bounds in drivers/net/x.c:1:2"),
        ("oops", "general protection fault, probably for non-canonical address 0xdead: 0000"),
        ("stack trace", "Call Trace:"),
    ],
)
@pytest.mark.parametrize("stamp", ["[   12.000000] ", "[  12.000000][   T42] ", ""])
def test_kinds(kind: str, line: str, stamp: str) -> None:
    (fault,) = find_faults(HEALTHY + stamp + line + "\r\n" + HEALTHY)
    assert (fault.kind, fault.headline) == (kind, line)


def test_report_without_end_is_bounded() -> None:
    (fault,) = find_faults("WARNING: CPU: 0\n" + " frame+0x1/0x2\n" * 100)
    assert fault.text.count("\n") < 120


def test_mark_hides_what_was_seen_and_restart_forgets_a_panic(tmp_path: Path) -> None:
    console = Console(tmp_path / "console")
    assert console.faults() == []
    console.path.write_text(WARN)
    assert len(console.faults()) == 1
    console.mark()
    assert console.faults() == []
    with console.path.open("a") as file:
        file.write(OOPS)
    console.mark()
    assert console.panicked()
    console.restart()
    assert not console.panicked()
