# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames of many flows towards guest b, and which of its queues they reach."""

import re
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address

from nicmodel.testbed.vm import Vm
from tests.oracles import rss
from tests.vm import build
from tests.vm.pair import Pair
from tests.vm.superpackets import frame_record
from tests.vm.traffic import IFACE, driver_statistics

TCP, UDP, OTHER = 6, 17, 253
REPEAT = 8
"""Frames of each flow: more than other traffic brings a queue in between."""


@dataclass(frozen=True)
class Flow:
    """A flow; ``proto`` 0 is a frame that is not IP. Nobody answers: the addresses are no one's."""

    source: str = "10.77.0.50"
    destination: str = "10.77.0.200"
    proto: int = UDP
    sport: int = 1000
    dport: int = 2000
    vlan: int | None = None
    ethertype: int = 0x88B5
    source_mac: str = "02:00:00:00:50:50"

    @property
    def ports(self) -> tuple[int, int] | tuple[()]:
        """What the hash takes beside the addresses."""
        return (self.sport, self.dport) if self.proto in (TCP, UDP) else ()

    def record(self, destination_mac: str) -> bytes:
        """The frame for ``supersend frames``; L4 has its checksum."""
        tag = b"" if self.vlan is None else struct.pack(">HH", 0x8100, self.vlan)
        macs = bytes.fromhex((destination_mac + self.source_mac).replace(":", ""))
        if not self.proto:
            return frame_record(macs + tag + struct.pack(">H", self.ethertype) + bytes(50))
        source, target = ip_address(self.source).packed, ip_address(self.destination).packed
        if self.proto == TCP:
            l4 = struct.pack(">HHIIBBHHH", self.sport, self.dport, 1, 1, 0x50, 0x10, 100, 0, 0)
        elif self.proto == UDP:
            l4 = struct.pack(">HHHH", self.sport, self.dport, 8, 0)
        else:
            l4 = bytes(20)
        pseudo = source + target + struct.pack(">II", self.proto, len(l4))
        if self.proto in (TCP, UDP):
            at = 16 if self.proto == TCP else 6
            l4 = l4[:at] + struct.pack(">H", _checksum(pseudo + l4)) + l4[at + 2 :]
        if len(source) == 4:
            header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(l4), 7, 0, 64, self.proto, 0)
            header += source + target
            header = header[:10] + struct.pack(">H", _checksum(header)) + header[12:]
            return frame_record(macs + tag + b"\x08\x00" + header + l4)
        header = struct.pack(">IHBB", 6 << 28, len(l4), self.proto, 64) + source + target
        return frame_record(macs + tag + b"\x86\xdd" + header + l4)


def _checksum(data: bytes) -> int:
    return 0xFFFF - int.from_bytes(data + bytes(len(data) & 1), "big") % 0xFFFF


@dataclass(frozen=True)
class Spread:
    """What ``ethtool -x`` says of a guest."""

    key: bytes
    table: Sequence[int]

    def queue(self, flow: Flow) -> int:
        """The queue that the flow's hash leads to; frames that are not IP are not spread."""
        if not flow.proto:
            return 0
        result = rss.flow_hash(self.key, flow.source, flow.destination, *flow.ports)
        return rss.queue(self.table, result)


def spread(vm: Vm) -> Spread:
    """Ask the guest for its key and indirection table."""
    said = vm.run(["ethtool", "-x", IFACE]).stdout
    head, _, tail = said.partition("RSS hash key:")
    table = [
        int(n) for row in re.findall(r"^\s*\d+:((?:\s+\d+)+)$", head, re.M) for n in row.split()
    ]
    key = bytes.fromhex(tail.split("\n")[1].strip().replace(":", ""))
    assert len(key) == 40
    return Spread(key, table)


class Counted:
    """How many frames of flows came to each queue of guest b, the last few by chance left out."""

    def __init__(self, pair: Pair, queues: int) -> None:
        self._pair = pair
        self._queues = queues
        self._program = build.install(pair.a, build.own("supersend"))

    def send(self, flows: Iterable[Flow], mac: str = "") -> Counter[int]:
        """Send ``REPEAT`` frames of each flow; how many flows reached which queue."""
        pair = self._pair
        destination = mac or pair.mac(pair.b)
        records = b"".join(flow.record(destination) * REPEAT for flow in flows)
        before = driver_statistics(pair.b)
        pair.a.run(f"{self._program} frames {IFACE} /etc/hosts", stdin=records, timeout=60)
        # what is sent after them arrives after them, in whichever queue
        pair.a.run(["ping", "-c", "1", "-w", "10", pair.v4(pair.b)])
        after = driver_statistics(pair.b)
        moved = {
            queue: after[f"rx{queue}_packets"] - before[f"rx{queue}_packets"]
            for queue in range(self._queues)
        }
        return Counter({q: round(n / REPEAT) for q, n in moved.items() if round(n / REPEAT)})


def many(count: int, **changes: object) -> list[Flow]:
    """Flows with ports and addresses of their own."""
    return [
        replace(
            Flow(),
            source=f"10.{number % 7}.{number % 251}.{number % 13}",
            sport=1024 + 37 * number,
            dport=5000 + 101 * (number % 50),
            **changes,  # type: ignore[arg-type]
        )
        for number in range(count)
    ]
