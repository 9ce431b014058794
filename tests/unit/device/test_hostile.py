# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest, or a peer on the wire, that does anything to a NIC in the midst of its life.

Nothing may leave the model as an exception, take long, or reach memory that was taken away; and a
reset makes it a NIC again.
"""

import struct
import time
from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nicmodel.frame import Checked, Frame
from nicmodel.spec.opcodes import CommandOpcode as Op
from nicmodel.spec.registers import RegisterId
from tests.unit.command.fake_driver import BLOCKS, CMDQ
from tests.unit.device.machine import (
    LSO,
    MPSW,
    REGIONS,
    SEND,
    Completions,
    Loop,
    Machine,
    Pair,
    Work,
)
from tests.unit.device.packets import ethernet, right, tcp, udp
from tests.unit.device.striding import Strided
from tests.unit.queues.rig import eth_segment

pytestmark = pytest.mark.fuzz

A, B = b"\2\0\0\0\0\1", b"\2\0\0\0\0\2"
IP_A, IP_B = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))
CPU_SECONDS = 3.0
"""More than any one step may take, by far, on any machine."""

Patches = list[tuple[int, int]]
Step = Callable[[Pair], None]

bytes_ = st.one_of(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]), st.integers(0, 255))
words = st.one_of(
    st.integers(0, 40),
    st.builds(lambda b, d: (1 << b) + d & 0xFFFFFFFF, st.integers(0, 32), st.integers(-2, 2)),
    st.integers(0, 0xFFFFFFFF),
)
small = st.integers(0, 1 << 16)


def patches(limit: int, most: int = 4) -> st.SearchStrategy[Patches]:
    """Changes of single bytes, more of them near the start, where the numbers are."""
    at = st.one_of(st.integers(0, min(limit, 48) - 1), st.integers(0, limit - 1))
    return st.lists(st.tuples(at, bytes_), max_size=most)


def patched(data: bytes, changes: Patches) -> bytes:
    out = bytearray(data)
    for at, value in changes:
        if at < len(out):
            out[at] = value
    return bytes(out)


@cache
def life() -> tuple[tuple[bytes, int], ...]:
    """Every command from probe to unbinding, as this driver sends them to a fresh device."""
    machine = Machine("recorded", B, Loop())
    machine.up(1)
    Strided(machine).destroy()
    machine.leave()
    return tuple(machine.history)


def queue(machine: Machine, number: int) -> Work:
    return list(machine.work.values())[number % len(machine.work)]


def cq(machine: Machine, number: int) -> Completions:
    return list(machine.completions.values())[number % len(machine.completions)]


# What a step may be. The victim is machine b; a is the honest peer.


def bar(page: int, at: int, data: bytes, flush: bool) -> Step:
    def step(pair: Pair) -> None:
        offset = min(page * 4096 + at, len(pair.b.frontend.host.bar) - len(data))
        (pair.b.frontend.write if flush else pair.b.frontend.post)(offset, data)

    return step


def doorbell(at: int, kind: int, number: int, word: int) -> Step:
    def step(pair: Pair) -> None:
        b = pair.b
        numbers = (list(b.events), list(b.completions), [w.number for w in b.work.values()])[kind]
        named = numbers[number % len(numbers)]
        if kind == 0:
            b.write(b.page() + at, struct.pack(">I", (named & 0xFF) << 24 | word & 0xFFFFFF))
        elif kind == 1:
            b.write(b.page() + at, struct.pack(">II", word, named))
        else:
            b.write(b.page() + at, struct.pack(">II", word, named << 8))

    return step


def send(which: int, opcode: int, changes: Patches, body: Patches, times: int) -> Step:
    """Real WQEs, mutated in the ring and in what they point to; the first 16 bytes are control."""

    def step(pair: Pair) -> None:
        b = pair.b
        b.rewind()
        work = b.sq() if which else queue(b, len(b.work) - 1)
        frame = patched(ethernet(A, B, 0x0800, tcp(IP_B, IP_A, 80, 9, b"d" * 400)), body)
        for _ in range(times):
            start = work.producer
            if opcode == MPSW:
                wqe = eth_segment(cs=0xC0) + b.segment(frame) * 3
            elif opcode == LSO:
                wqe = eth_segment(cs=0xC0, mss=100, inline=frame[:54]) + b.segment(frame[54:])
            else:
                wqe = eth_segment(cs=0xC0, inline=frame[:18]) + b.segment(frame[18:])
            b.put(work, opcode, wqe)
            for at, value in changes:
                slot = (start + at // 64) % work.size
                b.memory.write(work.addr + slot * work.stride + at % 64, bytes((value,)))
        b.ring(work)

    return step


def receive(which: int, number: int, size: int, changes: Patches) -> Step:
    def step(pair: Pair) -> None:
        b = pair.b
        b.rewind()
        work = b.rq(which % len(b.channels))
        start = work.producer
        b.buffers(work, number, size)
        for at, value in changes:
            slot = (start + at // 16) % work.size
            b.memory.write(work.addr + slot * 16 + at % 16, bytes((value,)))

    return step


def record(which: int, half: int, word: int, of_cq: bool) -> Step:
    def step(pair: Pair) -> None:
        addr = cq(pair.b, which).dbr if of_cq else queue(pair.b, which).dbr
        pair.b.memory.store_be32(addr + 4 * half, word)

    return step


def command(which: int, changes: Patches, chain: Patches, entry: Patches, slot: int) -> Step:
    """A command of a real life, mutated in its bytes, its mailboxes, its entry."""

    def step(pair: Pair) -> None:
        b = pair.b
        data, outlen = life()[which % len(life())]
        b.post(patched(data, changes), outlen, slot)
        for at, value in chain:
            block, offset = divmod(at, 64)
            b.memory.write(BLOCKS + slot * 0x8000 + block * 1024 + 512 + offset, bytes((value,)))
        for at, value in entry:
            b.memory.write(CMDQ + slot * 64 + at, bytes((value,)))
        b.device.doorbell(1 << slot)

    return step


def any_command(opcode: int, op_mod: int, changes: Patches, length: int, outlen: int) -> Step:
    """Any command that the device has, with numbers that may be those of objects."""

    def step(pair: Pair) -> None:
        b = pair.b
        head = struct.pack(">HHHH", opcode, 0, 0, op_mod)
        b.post(patched(head.ljust(length, b"\0"), [(8 + at, v) for at, v in changes]), outlen, 3)
        b.device.doorbell(1 << 3)

    return step


def register(number: int, op_mod: int, argument: int, data: bytes, outlen: int) -> Step:
    """ACCESS_REG, for a register that the device has or not."""

    def step(pair: Pair) -> None:
        b = pair.b
        head = struct.pack(">HHHHHHI", Op.ACCESS_REG, 0, 0, op_mod, 0, number, argument)
        b.post(head + data, outlen, 4)
        b.device.doorbell(1 << 4)

    return step


def region(number: int, there: bool) -> Step:
    def step(pair: Pair) -> None:
        (pair.b.give if there else pair.b.take_away)(number)

    return step


def wire(tags: int, kind: int, changes: Patches, cut: int, checked: int) -> Step:
    """A frame of a real shape, with tags before it, mutated and cut."""

    def step(pair: Pair) -> None:
        packet = (udp, tcp)[kind & 1](IP_A, IP_B, 1, 2, b"w" * 100)
        if kind & 2:
            packet = b"\x60" + bytes(3) + struct.pack(">HBB", 88, kind, 64) + bytes(32) + packet
        frame = B + A + b"\x81\x00\x00\x05" * tags + (b"\x86\xdd" if kind & 2 else b"\x08\x00")
        data = patched(frame + packet, changes)[: cut or None]
        pair.a.nic.port.send(Frame(data, Checked(checked)))

    return step


def raw(data: bytes) -> Step:
    return lambda pair: pair.a.nic.port.send(Frame(data))


def plain(which: int, seconds: float) -> Step:
    def step(pair: Pair) -> None:
        b = pair.b
        actions: list[Callable[[], object]] = [
            b.frontend.flush,
            pair.loop.run,
            lambda: pair.loop.advance(seconds),
            lambda: b.frontend.bus_master(False),
            lambda: b.frontend.bus_master(True),
            lambda: b.nic.port.enable(False),
            lambda: b.nic.port.enable(True),
            b.frontend.reset,
        ]
        actions[which % len(actions)]()

    return step


interesting = st.sampled_from([0x10, 0x18, 0x20, 0x24, 0x40, 0x44, 0x48, 0x800, 0x804, 0xFF8])
steps = st.one_of(
    st.builds(
        bar,
        st.one_of(st.sampled_from([0, 0x100, 0x101]), st.integers(0, 8191)),
        st.one_of(interesting, st.integers(0, 4095)),
        st.binary(min_size=1, max_size=8),
        st.booleans(),
    ),
    st.builds(doorbell, interesting, st.integers(0, 2), small, words),
    st.builds(
        send,
        st.integers(0, 3),
        st.sampled_from([SEND, LSO, MPSW]),
        patches(160),
        patches(120),
        st.integers(1, 300),
    ),
    st.builds(receive, st.integers(0, 1), st.integers(0, 8), st.integers(0, 3000), patches(128)),
    st.builds(record, small, st.integers(0, 1), words, st.booleans()),
    st.builds(command, small, patches(0x140), patches(640, 2), patches(64, 2), st.integers(0, 30)),
    st.builds(command, small, st.just([]), st.just([]), st.just([]), st.integers(0, 30)),
    st.builds(
        any_command,
        st.sampled_from(Op),
        st.one_of(st.just(0), st.integers(0, 0xFFFF)),
        patches(0x140, 12),
        st.sampled_from([16, 0x40, 0x110, 0x150, 0x400]),
        st.sampled_from([16, 0x40, 0x110, 0x1010]),
    ),
    st.builds(
        register,
        st.one_of(st.sampled_from(RegisterId), st.integers(0, 0xFFFF)),
        st.sampled_from([0, 1]),
        words,
        st.one_of(st.binary(max_size=0x110), st.just(bytes(0x100))),
        st.sampled_from([16, 0x50, 0x110]),
    ),
    st.builds(region, st.integers(0, len(REGIONS) - 1), st.booleans()),
    st.builds(
        wire,
        st.integers(0, 40),
        st.integers(0, 3),
        patches(120),
        st.one_of(st.just(0), st.integers(1, 200)),
        st.integers(0, 3),
    ),
    st.builds(raw, st.binary(max_size=200)),
    st.builds(plain, st.integers(0, 7), st.sampled_from([0.001, 0.6])),
)


def exchange(pair: Pair) -> None:
    """A datagram each way arrives, right."""
    for source, target, mac, other in ((pair.a, pair.b, B, A), (pair.b, pair.a, A, B)):
        source.rewind()
        target.rewind()
        for number in range(len(target.channels)):
            target.poll(target.got_cq(number))
            target.buffers(target.rq(number), 1)
        frame = ethernet(mac, other, 0x0800, udp(IP_A, IP_B, 7, 8, b"ping" * 20))
        body = eth_segment(cs=0xC0, inline=frame[:18]) + source.segment(frame[18:])
        source.send(SEND, body)
        cqes = [e for n in range(len(target.channels)) for e in target.poll(target.got_cq(n))]
        assert [(e[0x3F] >> 4, int.from_bytes(e[0x2C:0x30], "big")) for e in cqes] == [(2, 122)]
        buffers = target.memory.read(16 << 20, 8192)
        start = buffers.index(frame[:14])
        assert right(buffers[start + 14 : start + 122])


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(steps, min_size=12, max_size=60))
def test_a_live_device_survives_anything(todo: list[Step]) -> None:
    pair = Pair(1)
    for step in todo:
        before = time.process_time()
        step(pair)
        assert time.process_time() - before < CPU_SECONDS
    pair.b.nic.port.enable(True)
    pair.b.again(1)
    pair.loop.run()
    exchange(pair)
    pair.b.leave()


changed_commands = st.lists(
    st.tuples(st.integers(0, len(life()) - 1), patches(0x140, 6), st.integers(0, 3)), max_size=12
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(changed_commands)
def test_a_mutated_life_harms_nobody(changes: list[tuple[int, Patches, int]]) -> None:
    """The whole stream of commands with some of them changed, dropped, repeated, or too early."""
    pair = Pair(1)
    b = pair.b
    b.frontend.reset()
    b.frontend.bus_master(True)
    b.forget()
    b.start()
    stream = list(life())
    for at, bits, kind in changes:
        data, outlen = stream[at]
        if kind == 0:
            stream[at] = stream[(at + 1) % len(stream)]
        elif kind == 1:
            stream[at - 1] = stream[at]
        else:
            stream[at] = patched(data, bits), outlen
    for number, (data, outlen) in enumerate(stream):
        before = time.process_time()
        b.post(data, outlen, number % 31)
        b.device.doorbell(1 << number % 31)
        assert time.process_time() - before < CPU_SECONDS
    b.again(1)
    exchange(pair)
