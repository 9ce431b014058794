# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine without QEMU: guest memory, a driver with queues, and the NIC that it drives.

The driver does what ``mlx5_core`` does with rings, doorbell records and UAR pages, and knows of
the model only what ``seam.Device`` shows.
"""

import heapq
import os
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from nicmodel.command.caps import CONNECTX6DX, Profile
from nicmodel.device import Nic
from nicmodel.memory import GuestMemory, MemoryRegion
from nicmodel.queues.arbiter import Policy
from nicmodel.spec import commands as c
from nicmodel.spec.opcodes import CommandOpcode as Op
from nicmodel.trace.tracer import ListSink, Tracer
from nicmodel.transport.inmemory import InMemoryFrontend
from nicmodel.units import Cqn, Eqn, GuestAddr, Rqn, Sqn, Tisn
from nicmodel.wire.fabric import Fabric
from nicmodel.wire.link import Link
from tests.unit.command.fake_driver import CMD_EVENT
from tests.unit.command.lifecycle import Lifecycle
from tests.unit.queues.rig import data_segment, send_wqe
from tests.unit.transport.frontend import memfd

REGIONS = (MemoryRegion(0, 16 << 20), MemoryRegion(16 << 20, 8 << 20))
"""Rings and mailboxes lie in the first one, the data buffers in the second."""
RINGS, BUFFERS, END = 8 << 20, 16 << 20, 24 << 20

SEND, LSO, MPSW = 0x0A, 0x0E, 0x29


def _regions(extra: int) -> tuple[MemoryRegion, ...]:
    """As ``REGIONS``, with ``extra`` bytes more in each."""
    rings, buffers = REGIONS
    return (
        MemoryRegion(0, rings.size + extra),
        MemoryRegion(rings.size + extra, buffers.size + extra),
    )


class Loop:
    """An event loop whose time the test turns."""

    def __init__(self) -> None:
        self.now = 0.0
        self._ready: deque[Callable[[], None]] = deque()
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._ready.append(callback)

    def call_later(self, delay: float, callback: Callable[[], None]) -> None:
        heapq.heappush(self._later, (self.now + delay, next(self._numbers), callback))

    def run(self, rounds: int = 10_000) -> None:
        """Until nothing is ready; work that never ends fails."""
        while self._ready:
            assert rounds, "the model never comes to rest"
            rounds -= 1
            self._ready.popleft()()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        while self._later and self._later[0][0] <= self.now:
            heapq.heappop(self._later)[2]()
            self.run()
        self.run()

    def clock(self) -> int:
        return round(self.now * 1e9)


@dataclass
class Events:
    """An event queue as the driver sees it."""

    eqn: Eqn
    addr: int
    log_size: int
    consumer: int = 0


@dataclass
class Completions:
    """A completion queue as the driver sees it."""

    cqn: Cqn
    addr: int
    log_size: int
    dbr: int
    consumer: int = 0
    arms: int = 0


@dataclass
class Work:
    """A send or receive queue as the driver sees it; ``producer`` is not masked."""

    number: int
    addr: int
    size: int
    stride: int
    dbr: int
    producer: int = 0


class BarPort:
    """Command doorbells, as writes to BAR 0."""

    def __init__(self, machine: "Machine") -> None:
        self._machine = machine

    def set_queue_address(self, addr: GuestAddr) -> None:
        self._machine.write(0x10, struct.pack(">I", addr >> 32))
        self._machine.write(0x14, struct.pack(">I", addr & 0xFFFFFFFF))

    def doorbell(self, mask: int) -> None:
        self._machine.write(0x18, struct.pack(">I", mask))


class Machine(Lifecycle):
    """Guest memory, driver and NIC."""

    def __init__(
        self,
        name: str,
        mac: bytes,
        loop: Loop,
        *,
        extra: int = 0,
        profile: Profile = CONNECTX6DX,
        arbitration: Policy = Policy.FAIR,
    ) -> None:
        """``extra``: bytes of rings, and of buffers, that more than a few channels need."""
        self.loop = loop
        self.regions = REGIONS if not extra else _regions(extra)
        self.sink = ListSink()
        self.nic = Nic(
            name,
            mac,
            loop,
            loop.clock,
            Tracer(name, loop.clock, (self.sink,)),
            profile=profile,
            arbitration=arbitration,
        )
        self.frontend = InMemoryFrontend(self.nic, ())
        self.memory = GuestMemory()
        """As the CPU sees it, whatever the device may reach."""
        self.memory.enabled = True
        self.files = [memfd(region.size) for region in self.regions]
        for region, fd in zip(self.regions, self.files, strict=True):
            self.memory.map(region, fd)
            self.frontend.memory.map(region, fd)
        self.history: list[tuple[bytes, int]] = []
        super().__init__(self.memory, BarPort(self))
        self.forget()

    def __del__(self) -> None:
        for fd in self.files:
            os.close(fd)

    def forget(self) -> None:
        super().forget()
        self.listening = False
        self.slot = 0
        self.events: dict[int, Events] = {}
        self.completions: dict[int, Completions] = {}
        self.work: dict[int, Work] = {}
        self.heard: list[tuple[int, int, int, bytes]] = []
        self._commands: list[int] = []
        self._ring = RINGS
        self.rewind()
        self._pages: tuple[int, ...] = ()
        self._record = 0

    def write(self, offset: int, data: bytes) -> None:
        """Write BAR 0 and let the device come to rest."""
        self.frontend.write(offset, data)
        self.loop.run()

    def again(self, channels: int = 2) -> None:
        """PCI reset, then a driver that knows of nothing."""
        for number in range(len(self.regions)):
            self.give(number)
        self.frontend.reset()
        self.frontend.bus_master(True)
        self.forget()
        self.up(channels)

    # Memory

    def take_away(self, number: int) -> None:
        """Take a region from the device, if it has it."""
        region = self.regions[number]
        if region in self.frontend.memory.regions:
            self.frontend.memory.unmap(region.guest_addr, region.size)

    def give(self, number: int) -> None:
        """Give it back."""
        if self.regions[number] not in self.frontend.memory.regions:
            self.frontend.memory.map(self.regions[number], self.files[number])

    def pas(self, length: int) -> tuple[int, ...]:
        size = -(-length // 4096) * 4096
        self._pages = tuple(range(self._ring, self._ring + size, 4096))
        self._ring += size
        assert self._ring <= self.regions[1].guest_addr
        return self._pages

    def dbr(self) -> GuestAddr:
        self._record = super().dbr()
        self.memory.write(self._record, bytes(8))
        return GuestAddr(self._record)

    def place(self, data: bytes) -> int:
        """Put bytes into a buffer of their own; its address."""
        addr = self._buffer
        self._buffer += len(data) + 63 & ~63
        assert self._buffer <= self.regions[1].guest_addr + self.regions[1].size
        self.memory.write(addr, data)
        return addr

    def rewind(self) -> None:
        """Every buffer may be used again."""
        self._buffer = self.regions[1].guest_addr

    # Queues

    def create_eq(self, log_size: int, mask: int, vector: int = 2) -> Eqn:
        # mlx5's init_eq_buf: all entries are the device's, told by the owner bit of lap 0
        self.memory.write(self._ring, (bytes(63) + b"\1") * (1 << log_size))
        eqn = super().create_eq(log_size, mask, vector)
        self.events[eqn] = Events(eqn, self._pages[0], log_size)
        self.arm_eq(eqn)
        return eqn

    def create_cq(self, log_size: int, eq: int = 3) -> Cqn:
        self.memory.write(self._ring, (bytes(63) + b"\xf1") * (1 << log_size))
        cqn = super().create_cq(log_size, eq)
        self.completions[cqn] = Completions(cqn, self._pages[0], log_size, self._record)
        return cqn

    def create_rq(self, cqn: Cqn, log_size: int) -> Rqn:
        rqn = super().create_rq(cqn, log_size)
        self.work[rqn] = Work(rqn, self._pages[0], 1 << log_size, 16, self._record)
        return rqn

    def create_sq(self, cqn: Cqn, tis: tuple[Tisn, ...]) -> Sqn:
        sqn = super().create_sq(cqn, tis)
        self.work[1 << 24 | sqn] = Work(sqn, self._pages[0], 1 << 10, 64, self._record)
        return sqn

    def sq(self, channel: int = 0) -> Work:
        """The queue for traffic of a channel."""
        return self.work[1 << 24 | self.channels[channel].sqs[2]]

    def rq(self, channel: int = 0) -> Work:
        return self.work[self.channels[channel].rq]

    def sent_cq(self, channel: int = 0) -> Completions:
        return self.completions[self.channels[channel].cqs[2]]

    def got_cq(self, channel: int = 0) -> Completions:
        return self.completions[self.channels[channel].cqs[4]]

    # Doorbells

    def page(self) -> int:
        return self.uar * 4096

    def arm_eq(self, eqn: Eqn) -> None:
        word = eqn << 24 | self.events[eqn].consumer & 0xFFFFFF
        self.write(self.page() + 0x40, struct.pack(">I", word))

    def arm_cq(self, cq: Completions) -> None:
        cq.arms += 1
        word = (cq.arms & 3) << 28 | cq.consumer & 0xFFFFFF
        self.memory.store_be32(cq.dbr + 4, word)
        self.write(self.page() + 0x20, struct.pack(">II", word, cq.cqn))

    def poll_eq(self, eqn: Eqn) -> list[tuple[int, int, bytes]]:
        """Type, sub-type and data of new entries; the queue is armed again."""
        eq = self.events[eqn]
        found = []
        while True:
            at = eq.addr + (eq.consumer % (1 << eq.log_size)) * 64
            entry = self.memory.read(at, 64)
            if entry[63] & 1 != eq.consumer >> eq.log_size & 1:
                break
            found.append((entry[1], entry[3], entry[0x20:0x3C]))
            eq.consumer += 1
        if found:
            self.arm_eq(eqn)
        return found

    def command_events(self) -> list[int]:
        if self.listening:
            for kind, _, data in self.poll_eq(self.eqs[0]):
                assert kind == CMD_EVENT
                self._commands.append(int.from_bytes(data[:4], "big"))
        return list(self._commands)

    def command(self, data: bytes, outlen: int = 16) -> bytes:
        self.history.append((data, outlen))
        return super().command(data, outlen)

    def poll(self, cq: Completions) -> list[bytes]:
        """New CQEs, by the owner bit; the doorbell record follows."""
        found = []
        while True:
            at = cq.addr + (cq.consumer % (1 << cq.log_size)) * 64
            cqe = self.memory.read(at, 64)
            if cqe[63] >> 4 == 0xF or cqe[63] & 1 != cq.consumer >> cq.log_size & 1:
                break
            found.append(cqe)
            cq.consumer += 1
        self.memory.store_be32(cq.dbr, cq.consumer & 0xFFFFFF)
        return found

    # Traffic

    def lkey(self) -> int:
        return self.mkey << 8

    def segment(self, data: bytes) -> bytes:
        """A data segment that names ``data``."""
        return data_segment(len(data), self.lkey(), self.place(data))

    def put(
        self, queue: Work, opcode: int, body: bytes, *, ce: int = 2, imm: int = 0, opmod: int = 0
    ) -> int:
        """Write a WQE and move the doorbell record; its index."""
        index = queue.producer
        wqe = send_wqe(opcode, index, queue.number, body, ce=ce, imm=imm, opmod=opmod)
        for at in range(0, len(wqe), 64):
            slot = (index + at // 64) % queue.size
            self.memory.write(queue.addr + slot * 64, wqe[at : at + 64])
        queue.producer += len(wqe) // 64
        self.memory.store_be32(queue.dbr + 4, queue.producer & 0xFFFF)
        return index & 0xFFFF

    def ring(self, queue: Work, *, halves: bool = False) -> None:
        """The send doorbell: the first 8 bytes of the last WQE."""
        data = struct.pack(">II", (queue.producer & 0xFFFF) << 8, queue.number << 8)
        if halves:
            self.frontend.post(self.page() + 0x800, data[:4])
            self.write(self.page() + 0x804, data[4:])
        else:
            self.write(self.page() + 0x800, data)

    def send(self, opcode: int, body: bytes, *, channel: int = 0, halves: bool = False) -> int:
        """Post one WQE and ring; its index."""
        index = self.put(self.sq(channel), opcode, body)
        self.ring(self.sq(channel), halves=halves)
        return index

    def buffers(self, queue: Work, number: int, size: int = 2048) -> list[int]:
        """Post receive WQEs of one buffer each; the buffers' addresses."""
        addrs = [self.place(b"\xaa" * size) for _ in range(number)]
        for addr in addrs:
            at = queue.addr + queue.producer % queue.size * queue.stride
            self.memory.write(at, data_segment(size, self.lkey(), addr))
            queue.producer += 1
        self.memory.store_be32(queue.dbr, queue.producer & 0xFFFF)
        return addrs

    def leave(self) -> None:
        """From open to a function that is disabled."""
        self.close()
        self.remove()
        self.unload()
        self.disable()

    def query(self) -> bytes:
        """QUERY_VPORT_STATE: does firmware still answer?"""
        return self.run(Op.QUERY_VPORT_STATE, c.QueryVportStateIn(), c.QueryVportStateOut).encode()


class Pair:
    """Two machines on one cable."""

    def __init__(
        self,
        channels: int = 2,
        profile: Profile = CONNECTX6DX,
        arbitration: Policy = Policy.FAIR,
    ) -> None:
        self.loop = Loop()
        self.a = Machine("a", b"\2\0\0\0\0\1", self.loop, profile=profile, arbitration=arbitration)
        self.b = Machine("b", b"\2\0\0\0\0\2", self.loop)
        self.fabric = Fabric(Tracer("wire", self.loop.clock))
        self.link = Link(self.fabric, self.a.nic.port, self.b.nic.port)
        self.a.up(channels)
        self.b.up(channels)
