# SPDX-License-Identifier: GPL-2.0-or-later
"""A driver that speaks mailbox and doorbell, as ``cmd.c`` does, against memory of its own.

It knows nothing of the model's inside: commands go through guest memory, and what the model does
with queues is recorded by ``FakeQueues``.
"""

import struct
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from nicmodel.command.caps import CONNECTX6DX, Profile
from nicmodel.command.firmware import Firmware
from nicmodel.command.interface import CommandInterface
from nicmodel.command.mailbox import Memory
from nicmodel.command.registry import REGISTRY
from nicmodel.errors import DmaFault
from nicmodel.objects.counters import PortCounters
from nicmodel.objects.queue import CqConfig, EqConfig, QueueState, RqConfig, SqConfig
from nicmodel.objects.store import Objects
from nicmodel.spec.layout import Layout
from nicmodel.spec.opcodes import CommandOpcode
from nicmodel.trace.tracer import ListSink, Tracer
from nicmodel.units import CounterSet, Cqn, Dekn, Eqn, GuestAddr, Rqn, Sqn, Tirn, Tisn

R = TypeVar("R", bound=Layout)

MAC = bytes.fromhex("020000000101")
CMDQ = 0x10000
BLOCKS = 0x100000
PAGES = 0x200000
DBRS = 0x300000
CMD_EVENT = 0x0A
PAGE_EVENT = 0x0B
PORT_EVENT = 0x09


class Ram:
    """Guest memory: one region from address 0."""

    def __init__(self, size: int = 4 << 20) -> None:
        self.data = bytearray(size)

    def read(self, addr: int, length: int) -> bytes:
        if addr < 0 or addr + length > len(self.data):
            raise DmaFault(addr, length, "read")
        return bytes(self.data[addr : addr + length])

    def write(self, addr: int, data: bytes) -> None:
        if addr < 0 or addr + len(data) > len(self.data):
            raise DmaFault(addr, len(data), "write")
        self.data[addr : addr + len(data)] = data


@dataclass
class FakeQueues:
    """Records what commands do to queues; knows states, refuses nothing."""

    eqs: dict[Eqn, EqConfig] = field(default_factory=dict)
    cqs: dict[Cqn, CqConfig] = field(default_factory=dict)
    sqs: dict[Sqn, SqConfig] = field(default_factory=dict)
    rqs: dict[Rqn, RqConfig] = field(default_factory=dict)
    states: dict[tuple[str, int], QueueState] = field(default_factory=dict)
    events: list[tuple[int, int, bytes]] = field(default_factory=list)
    gone: list[Tisn | Tirn | Dekn] = field(default_factory=list)
    drops: int = 0
    resets: int = 0

    def create_eq(self, config: EqConfig) -> None:
        self.eqs[config.eqn] = config

    def destroy_eq(self, eqn: Eqn) -> None:
        del self.eqs[eqn]

    def create_cq(self, config: CqConfig) -> None:
        assert config.eqn in self.eqs
        self.cqs[config.cqn] = config

    def modify_cq(self, config: CqConfig) -> None:
        assert config.cqn in self.cqs
        self.cqs[config.cqn] = config

    def destroy_cq(self, cqn: Cqn) -> None:
        del self.cqs[cqn]

    def create_sq(self, config: SqConfig) -> None:
        assert config.cqn in self.cqs
        self.sqs[config.sqn] = config
        self.states["SQ", config.sqn] = QueueState.RST

    def sq_state(self, sqn: Sqn) -> QueueState:
        return self.states["SQ", sqn]

    def modify_sq(self, sqn: Sqn, state: QueueState) -> None:
        self.states["SQ", sqn] = state

    def destroy_sq(self, sqn: Sqn) -> None:
        del self.sqs[sqn]

    def create_rq(self, config: RqConfig) -> None:
        assert config.cqn in self.cqs
        self.rqs[config.rqn] = config
        self.states["RQ", config.rqn] = QueueState.RST

    def configure_rq(self, config: RqConfig) -> None:
        assert config.rqn in self.rqs
        self.rqs[config.rqn] = config

    def rq_state(self, rqn: Rqn) -> QueueState:
        return self.states["RQ", rqn]

    def modify_rq(self, rqn: Rqn, state: QueueState) -> None:
        self.states["RQ", rqn] = state

    def destroy_rq(self, rqn: Rqn) -> None:
        del self.rqs[rqn]

    def tis_destroyed(self, tisn: Tisn) -> None:
        self.gone.append(tisn)

    def tir_destroyed(self, tirn: Tirn) -> None:
        self.gone.append(tirn)

    def dek_destroyed(self, dekn: Dekn) -> None:
        self.gone.append(dekn)

    def out_of_buffer(self, counter_set: CounterSet) -> int:
        return self.drops

    def post_event(self, event_type: int, sub_type: int, data: bytes) -> None:
        for eq in self.eqs.values():
            if eq.event_mask >> event_type & 1:
                self.events.append((event_type, sub_type, data))

    def reset(self) -> None:
        self.resets += 1
        for table in (self.eqs, self.cqs, self.sqs, self.rqs):
            table.clear()


class Refused(Exception):
    """A command ended with a status other than 0."""

    def __init__(self, status: int, syndrome: int) -> None:
        super().__init__(f"status {status:#x} syndrome {syndrome:#x}")
        self.status = status


class Undelivered(Exception):
    """A command was not delivered."""

    def __init__(self, delivery: int) -> None:
        super().__init__(f"delivery status {delivery:#x}")
        self.delivery = delivery


class CommandPort(Protocol):
    """Where the initialization segment's writes go."""

    def set_queue_address(self, addr: GuestAddr) -> None: ...

    def doorbell(self, mask: int) -> None: ...


class CommandDriver:
    """The driver's command layer: mailboxes in ``ram``, doorbells to ``device``."""

    def __init__(self, ram: Memory, device: CommandPort) -> None:
        self.ram = ram
        self.device = device
        self.token = 0
        self.slot = 0
        self.listening = False

    def start(self) -> None:
        """Set the command queue, as ``mlx5_cmd_enable`` does."""
        self.listening = False
        self.device.set_queue_address(GuestAddr(CMDQ))

    def chain(self, start: int, length: int, token: int, data: bytes = b"") -> int:
        """Build a chain of mailbox blocks for ``length`` bytes; its address, 0 if none."""
        count = -(-max(0, length - 16) // 512)
        for number in range(count):
            addr = start + number * 1024
            last = number == count - 1
            # Stale links and data behind the message are normal: the driver reuses chains.
            follow = 0xDEAD000 if last else addr + 1024
            block = data[number * 512 : number * 512 + 512].ljust(512, b"\xee") + bytes(48)
            block += struct.pack(">QIBBBB", follow, number, 0, token, 0, 0)
            self.ram.write(addr, block)
        return start if count else 0

    def post(self, data: bytes, outlen: int, slot: int) -> None:
        """Write an entry and its mailboxes; the doorbell is for ``ring``."""
        self.token = self.token % 255 + 1
        in_ptr = self.chain(BLOCKS + slot * 0x8000, len(data), self.token, data[16:])
        out_ptr = self.chain(BLOCKS + slot * 0x8000 + 0x4000, outlen, self.token)
        entry = struct.pack(">B3xIQ", 7, len(data), in_ptr) + data[:16].ljust(16, b"\0") + bytes(16)
        entry += struct.pack(">QIBBBB", out_ptr, outlen, self.token, 0, 0, 1)
        self.ram.write(CMDQ + slot * 64, entry)

    def collect(self, slot: int, outlen: int) -> bytes:
        """Read status and output of a slot back."""
        entry = self.ram.read(CMDQ + slot * 64, 64)
        assert not entry[0x3F] & 1, "the device still owns the entry"
        if entry[0x3F] >> 1:
            raise Undelivered(entry[0x3F] >> 1)
        out = entry[0x20:0x30]
        (addr,) = struct.unpack_from(">Q", entry, 0x30)
        while len(out) < outlen:
            block = self.ram.read(addr, 576)
            out += block[:512]
            (addr,) = struct.unpack_from(">Q", block, 0x230)
        out = out[:outlen]
        if out[0]:
            raise Refused(out[0], struct.unpack_from(">I", entry, 0x24)[0])
        return out

    def command(self, data: bytes, outlen: int = 16) -> bytes:
        """One command in the next slot; checks the completion event as ``cmd.c`` relies on it."""
        slot, self.slot = self.slot, (self.slot + 1) % 31
        before = self.command_events()
        self.post(data, outlen, slot)
        self.device.doorbell(1 << slot)
        fresh = self.command_events()[len(before) :]
        assert fresh == ([1 << slot] if self.listening else [])
        return self.collect(slot, outlen)

    def run(self, opcode: CommandOpcode, request: Layout, reply: type[R], room: int = 0) -> R:
        """A command by layouts; ``room`` bytes of output beyond the fixed part."""
        command = REGISTRY[opcode]
        assert (command.request, command.reply) == (type(request), reply)
        data = bytearray(request.encode())
        data[0:2] = opcode.to_bytes(2, "big")
        return reply.decode(self.command(bytes(data), reply.SIZE + room))

    def command_events(self) -> list[int]:
        """Slot masks of the CMD events so far."""
        raise NotImplementedError


class FakeDriver(CommandDriver):
    """The command layer, and firmware without queues for it to talk to."""

    ram: Ram
    device: CommandInterface

    def __init__(self, profile: Profile = CONNECTX6DX) -> None:
        self.queues = FakeQueues()
        self.objects = Objects()
        self.counters = PortCounters()
        self.sink = ListSink()
        self.tracer = Tracer("nic0", lambda: 0, (self.sink,))
        self.firmware = Firmware(
            self.objects, self.queues, self.counters, MAC, self.tracer, profile=profile
        )
        ram = Ram()
        super().__init__(ram, CommandInterface(self.firmware, ram))

    def command_events(self) -> list[int]:
        """Slot masks of the CMD events so far."""
        return [
            struct.unpack_from(">I", data)[0]
            for kind, _, data in self.queues.events
            if kind == CMD_EVENT
        ]
