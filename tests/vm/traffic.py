# SPDX-License-Identifier: GPL-2.0-or-later
"""Traffic between guests, and what the guests' own stacks say about it."""

import json
import re
from dataclasses import dataclass
from typing import Any

from nicmodel.testbed.vm import Vm

IFACE = "eth0"
MEBI = 1 << 20


@dataclass(frozen=True)
class Transfer:
    """What an iperf3 run says: bytes that the sender got through, and for UDP datagrams lost."""

    sent: int
    lost: int


def iperf(
    client: Vm, server: str, *options: str, port: int = 5201, timeout: float = 90.0
) -> Transfer:
    """Run an iperf3 client in a guest; its server runs already."""
    command = ["iperf3", "-c", server, "-p", str(port), "-J", *options]
    said = client.run(command, timeout=timeout, check=False).stdout
    result: dict[str, Any] = json.loads(said)
    assert "error" not in result, f"{client.name}: iperf3: {result['error']}"
    end = result["end"]
    lost = end["sum"]["lost_packets"] if "-u" in options else 0
    # the receiver's count ends with the sender's last write, before the last bytes arrive
    return Transfer(int((end.get("sum_sent") or end["sum"])["bytes"]), int(lost))


def transfer(
    source: Vm, sink: Vm, address: str, octets: int, *, port: int = 7000, timeout: float = 60.0
) -> None:
    """Send random bytes over TCP; they must arrive as they were sent."""
    receiver = sink.start(f"socat -u TCP-LISTEN:{port},reuseaddr OPEN:/tmp/received,creat,trunc")
    try:
        source.run(f"head -c {octets} /dev/urandom >/tmp/sent")
        source.run(
            f"socat -u OPEN:/tmp/sent TCP:{address}:{port},retry=50,interval=0.1", timeout=timeout
        )
        receiver.wait(timeout)
        sent, received = (
            vm.run(["sha256sum", path]).stdout.split()[0]
            for vm, path in ((source, "/tmp/sent"), (sink, "/tmp/received"))
        )
        assert sent == received
    finally:
        receiver.kill()
        source.run("rm -f /tmp/sent")
        sink.run("rm -f /tmp/received")


def tcp_counters(vm: Vm) -> dict[str, int]:
    """The counters of the guest's TCP (snmp and netstat of /proc/net)."""
    lines = (vm.read_file("/proc/net/snmp") + vm.read_file("/proc/net/netstat")).splitlines()
    found: dict[str, int] = {}
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        if names.startswith(("Tcp:", "TcpExt:")):
            found |= zip(names.split()[1:], map(int, values.split()[1:]), strict=True)
    return found


def driver_statistics(vm: Vm, interface: str = IFACE) -> dict[str, int]:
    """``ethtool -S``."""
    said = vm.run(["ethtool", "-S", interface]).stdout
    return {name: int(value) for name, value in re.findall(r"^\s+(\S+): (\d+)$", said, re.M)}


_STACK_ERRORS = re.compile(r"InCsumErrors|InHdrErrors|Icmp6?InErrors|LinkErrors")


STACK_COUNTERS = (
    f"cat /proc/net/snmp; echo; cat /proc/net/snmp6; echo; ip -j -s -s link show {IFACE}"
)
"""What prints all that ``stack_errors`` looks at."""


def stack_errors(said: str) -> dict[str, int]:
    """The error counters of a guest's IP, ICMP, TCP and UDP, and of its interface."""
    found: dict[str, int] = {}
    snmp, snmp6, links = said.split("\n\n")
    lines = snmp.splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        proto, *keys = names.split()
        for key, value in zip(keys, values.split()[1:], strict=True):
            found[proto.rstrip(":") + key] = int(value)
    for line in snmp6.splitlines():
        key, value = line.split()
        found[key] = int(value)
    link = json.loads(links)[0]["stats64"]
    # The driver counts as aborted what it handed over while it had taken the port down itself, as
    # it does whenever it opens its channels anew (if_out_discards); that is no error of anybody.
    found["LinkErrors"] = link["rx"]["errors"] + link["tx"]["errors"] - link["tx"]["aborted_errors"]
    return {key: value for key, value in found.items() if _STACK_ERRORS.search(key) and value}
