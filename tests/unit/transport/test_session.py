# SPDX-License-Identifier: GPL-2.0-or-later
"""Conversations with a session over a real socket."""

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from nicmodel.errors import DmaFault
from nicmodel.trace.events import FrontendAttached
from nicmodel.transport.session import State
from tests.unit.transport import frontend as fe
from tests.unit.transport.frontend import FakeFrontend, config, mem_table, message, region, u64


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def front() -> Iterator[FakeFrontend]:
    before = open_fds()
    front = FakeFrontend()
    yield front
    front.close()
    assert front.session.state is State.CLOSED
    assert open_fds() == before


@pytest.fixture
def attached(front: FakeFrontend) -> FakeFrontend:
    front.attach()
    return front


def test_identity_block(front: FakeFrontend) -> None:
    front.negotiate()
    reply = front.ask(fe.GET_CONFIG, config(0, bytes(64)))
    assert reply[:12] == struct.pack("<III", 0, 64, 0)
    # By the table in qemu-plugin/README.md.
    assert struct.unpack("<4sHHHHHHIIQII24x", reply[12:]) == (
        *(b"PVVU", 1, 64, 0x15B3, 0x101D, 1, 2),
        *(0x02000003, 4, fe.BAR_SIZE, 0x1000, 156250),
    )
    assert front.ask(fe.GET_CONFIG, config(8, bytes(4)))[12:] == b"\xb3\x15\x1d\x10"
    assert front.ask(fe.GET_MAX_MEM_SLOTS) == u64(64)


def test_attachment(attached: FakeFrontend) -> None:
    host = attached.device.host
    assert host is not None
    assert attached.sink.of(FrontendAttached) == [FrontendAttached(1)]
    host.bar[16:20] = b"read"
    assert attached.shadow[16:20] == b"read"
    host.memory.write(4096, b"written by DMA")
    assert attached.ram[4096:4110] == b"written by DMA"
    host.interrupt(0)
    assert os.eventfd_read(attached.call) == 1
    for vector in (1, 3, 4, 255, 256, 10**6, -1):
        host.interrupt(vector)


def test_interrupts_never_block(attached: FakeFrontend) -> None:
    host = attached.device.host
    assert host is not None
    os.eventfd_write(attached.call, 2**64 - 2)
    host.interrupt(0)
    assert os.eventfd_read(attached.call) == 2**64 - 2
    blocking = attached.keep(os.eventfd(0, os.EFD_CLOEXEC))
    attached.send(message(fe.SET_VRING_CALL, u64(1)), [blocking])
    os.eventfd_write(blocking, 2**64 - 2)
    host.interrupt(1)


def test_vectors_are_replaced_and_silenced(attached: FakeFrontend) -> None:
    host = attached.device.host
    assert host is not None
    other = attached.keep(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
    attached.send(message(fe.SET_VRING_CALL, u64(0)), [other])
    host.interrupt(0)
    assert os.eventfd_read(other) == 1
    attached.send(message(fe.SET_VRING_CALL, u64(1 << 8)))
    host.interrupt(0)
    for fd in (other, attached.call):
        with pytest.raises(BlockingIOError):
            os.eventfd_read(fd)


def test_writes_come_in_order(attached: FakeFrontend) -> None:
    writes = [(i * 8 % 4096, bytes(range(1 + i % 8))) for i in range(500)]
    stream = b"".join(message(fe.SET_CONFIG, config(fe.BAR + o, d)) for o, d in writes)
    attached.send(stream)
    assert attached.device.log.count(("flush",)) < 10
    assert attached.device.told() == [("write", o, d) for o, d in writes]


@pytest.mark.parametrize("piece", [1, 2, 3, 11, 12, 13, 24, 25, 31, 33])
def test_messages_arrive_in_pieces(attached: FakeFrontend, piece: int) -> None:
    stream = (
        message(fe.SET_CONFIG, config(fe.BAR, b"12345678"))
        + message(fe.SET_CONFIG, config(fe.BAR + 8, b"1234"))
        + message(fe.RESET_DEVICE, flags=9)
        + message(fe.SET_CONFIG, config(fe.BAR + 16, b"1"))
    )
    for start in range(0, len(stream), piece):
        attached.send(stream[start : start + piece])
    assert attached.answer(fe.RESET_DEVICE) == u64(0)
    assert attached.device.told() == [
        ("write", 0, b"12345678"),
        ("write", 8, b"1234"),
        ("reset",),
        ("write", 16, b"1"),
    ]


def test_acknowledged_write(attached: FakeFrontend) -> None:
    attached.do(fe.SET_CONFIG, config(fe.BAR + 4, b"abcd"))
    assert attached.device.told() == [("write", 4, b"abcd")]


def test_descriptors_belong_to_their_message(attached: FakeFrontend) -> None:
    """Posted writes before and behind a message with descriptors, all there at once."""
    fds = [fe.memfd(fe.PAGE), fe.memfd(fe.PAGE)]
    os.pwrite(fds[0], b"one", 0)
    os.pwrite(fds[1], b"two", 0)
    attached.post(message(fe.SET_CONFIG, config(fe.BAR, b"a")))
    for index, fd in enumerate(fds):
        single = u64(0) + region((1 << 32) + index * fe.PAGE, fe.PAGE)
        attached.post(message(fe.ADD_MEM_REG, single), [fd])
        attached.post(message(fe.SET_CONFIG, config(fe.BAR + index, b"b")))
        os.close(fd)
    attached.run()
    assert [entry[0] for entry in attached.device.told()] == ["write"] * 3
    host = attached.device.host
    assert host is not None
    assert host.memory.read(1 << 32, 3) == b"one"
    assert host.memory.read((1 << 32) + fe.PAGE, 3) == b"two"


def test_descriptors_with_the_first_bytes_of_a_message(attached: FakeFrontend) -> None:
    fd = fe.memfd(fe.PAGE)
    single = message(fe.ADD_MEM_REG, u64(0) + region(1 << 32, fe.PAGE))
    attached.send(single[:5], [fd])
    os.close(fd)
    attached.send(single[5:20])
    attached.send(single[20:] + message(fe.SET_CONFIG, config(fe.BAR, b"x")))
    assert attached.device.told() == [("write", 0, b"x")]
    host = attached.device.host
    assert host is not None
    assert host.memory.read(1 << 32, 1) == b"\0"


def test_memory_is_added_removed_and_replaced(attached: FakeFrontend) -> None:
    host = attached.device.host
    assert host is not None
    fd = fe.memfd(4 * fe.PAGE)
    os.pwrite(fd, b"third", 2 * fe.PAGE)
    attached.do(fe.ADD_MEM_REG, u64(0) + region(1 << 32, fe.PAGE, 2 * fe.PAGE), [fd])
    assert host.memory.read(1 << 32, 5) == b"third"
    attached.do(fe.REM_MEM_REG, u64(0) + region(1 << 32, fe.PAGE))
    with pytest.raises(DmaFault):
        host.memory.read(1 << 32, 1)
    attached.do(fe.SET_MEM_TABLE, mem_table(region(1 << 40, 4 * fe.PAGE)), [fd])
    os.close(fd)
    assert host.memory.read((1 << 40) + 2 * fe.PAGE, 5) == b"third"
    with pytest.raises(DmaFault):
        host.memory.read(0, 1)
    # The device has been attached once; its memory changes under it.
    assert attached.device.told() == []


def test_table_of_eight_regions(front: FakeFrontend) -> None:
    front.negotiate()
    front.shadow = front.share_shadow()
    fds = [fe.memfd(fe.PAGE) for _ in range(8)]
    front.do(fe.SET_MEM_TABLE, mem_table(*(region(i << 20, fe.PAGE) for i in range(8))), fds)
    for fd in fds:
        os.close(fd)
    assert front.sink.of(FrontendAttached) == [FrontendAttached(8)]


def test_bus_master_and_reset(attached: FakeFrontend) -> None:
    host = attached.device.host
    assert host is not None
    host.memory.read(0, 1)
    attached.bus_master(False)
    with pytest.raises(DmaFault):
        host.memory.read(0, 1)
    attached.bus_master(True)
    host.memory.read(0, 1)
    attached.do(fe.RESET_DEVICE)
    with pytest.raises(DmaFault):
        host.memory.read(0, 1)
    assert attached.device.told() == [("bus_master", False), ("bus_master", True), ("reset",)]


def test_nothing_is_done_for_a_front_end_that_is_gone(attached: FakeFrontend) -> None:
    attached.post(message(fe.SET_CONFIG, config(fe.BAR, b"late")))
    attached.sock.close()
    attached.run()
    assert attached.device.told() == [("detach",)]
    assert attached.refusal == "it closed the connection"


def test_the_host_is_unusable_after_detach(attached: FakeFrontend) -> None:
    host = attached.device.host
    assert host is not None
    attached.sock.shutdown(socket.SHUT_RDWR)
    attached.run()
    with pytest.raises(DmaFault):
        host.memory.read(0, 1)
    with pytest.raises(ValueError, match="released"):
        host.bar[0] = 1
    host.interrupt(0)
    with pytest.raises(BlockingIOError):
        os.eventfd_read(attached.call)


def test_replies_that_nobody_reads(attached: FakeFrontend) -> None:
    while attached.session.state is not State.CLOSED:
        attached.send(message(fe.GET_MAX_MEM_SLOTS))
    assert "a reply cannot be sent" in attached.refusal
    assert attached.device.told() == [("detach",)]


ONE = fe.PAGE
OFFER = message(fe.SET_FEATURES, u64(1 << 30))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (message(0), "request 0 is not in the profile"),
        (message(4), "request 4 is not in the profile"),
        (message(2**32 - 1), "is not in the profile"),
        (struct.pack("<III", fe.SET_OWNER, 1, 269), "a body of 269 bytes"),
        (struct.pack("<III", fe.SET_OWNER, 1, 2**32 - 1), "a body of"),
        (message(fe.SET_OWNER), "SET_OWNER at the wrong time"),
        (message(fe.SET_INFLIGHT_FD, bytes(20)), "SET_INFLIGHT_FD at the wrong time"),
        (message(fe.RESET_DEVICE, flags=0), "RESET_DEVICE with flags 0x0"),
        (message(fe.RESET_DEVICE, flags=2), "RESET_DEVICE with flags 0x2"),
        (message(fe.RESET_DEVICE, flags=5), "RESET_DEVICE with flags 0x5"),
        (message(fe.RESET_DEVICE, flags=17), "RESET_DEVICE with flags 0x11"),
        (message(fe.RESET_DEVICE, b"x"), "RESET_DEVICE with a body of 1 bytes"),
        (message(fe.SET_VRING_CALL, bytes(7)), "SET_VRING_CALL with a body of 7 bytes"),
        (message(fe.SET_VRING_CALL, u64(0)), "SET_VRING_CALL 0x0 with 0 descriptors"),
        (message(fe.SET_VRING_CALL, u64(1 << 9)), "SET_VRING_CALL 0x200"),
        (message(fe.SET_VRING_CALL, u64(4 | 1 << 8)), "vector 4, which does not exist"),
        (message(fe.ADD_MEM_REG, bytes(40)), "ADD_MEM_REG with 0 descriptors"),
        (message(fe.REM_MEM_REG, u64(0) + region(0, ONE)), "is not mapped"),
        (message(fe.REM_MEM_REG, u64(0) + region(ONE, ONE)), "is not mapped"),
        (message(fe.SET_MEM_TABLE, struct.pack("<II", 1, 0)), "SET_MEM_TABLE of 1 regions"),
        (message(fe.SET_MEM_TABLE, mem_table(region(0, ONE))), "SET_MEM_TABLE of 1 regions"),
        (message(fe.SET_MEM_TABLE, bytes(7)), "SET_MEM_TABLE with a body of 7"),
        (message(fe.GET_CONFIG, config(0, bytes(65))), "outside identity"),
        (message(fe.GET_CONFIG, config(60, bytes(5))), "outside identity"),
        (message(fe.GET_CONFIG, config(fe.BAR, bytes(4))), "outside identity"),
        (message(fe.GET_CONFIG, struct.pack("<III", 0, 4, 0)), "size or flags are wrong"),
        (message(fe.GET_CONFIG, struct.pack("<III", 0, 0, 1)), "size or flags are wrong"),
        (message(fe.SET_CONFIG, config(fe.BAR, b"")), "size or flags are wrong"),
        (message(fe.SET_CONFIG, struct.pack("<III", fe.BAR, 9, 0) + b"x"), "size or flags"),
        (message(fe.SET_CONFIG, struct.pack("<III", fe.BAR, 1, 1) + b"x"), "size or flags"),
        (message(fe.SET_CONFIG, config(fe.BAR, bytes(9))), "is not writable"),
        (message(fe.SET_CONFIG, config(fe.BAR + fe.BAR_SIZE, b"x")), "beyond the BAR"),
        (message(fe.SET_CONFIG, config(fe.BAR + fe.BAR_SIZE - 7, bytes(8))), "beyond the BAR"),
        (message(fe.SET_CONFIG, config(2**32 - 1, b"x")), "beyond the BAR"),
        (message(fe.SET_CONFIG, config(0, b"\1")), "0x0+1 is not writable"),
        (message(fe.SET_CONFIG, config(fe.COMMAND, b"\1")), "0x1000+1 is not writable"),
        (message(fe.SET_CONFIG, config(fe.COMMAND, b"123")), "0x1000+3 is not writable"),
        (message(fe.SET_CONFIG, config(fe.BAR - 1, b"12")), "is not writable"),
    ],
)
def test_malformed_messages_end_the_session(
    attached: FakeFrontend, data: bytes, sentence: str
) -> None:
    attached.send(data)
    assert sentence in attached.refusal
    assert attached.device.told() == [("detach",)]


@pytest.mark.parametrize(
    ("data", "count", "sentence"),
    [
        (message(fe.RESET_DEVICE), 1, "RESET_DEVICE with 1 descriptors"),
        (message(fe.SET_CONFIG, config(fe.BAR, b"x")), 1, "SET_CONFIG with 1 descriptors"),
        (message(fe.SET_VRING_CALL, u64(1 << 8)), 1, "with 1 descriptors"),
        (message(fe.SET_VRING_CALL, u64(0)), 2, "SET_VRING_CALL with 2 descriptors"),
        (message(fe.SET_VRING_CALL, u64(0)), 1, "without an eventfd"),
        (message(fe.ADD_MEM_REG, u64(0) + region(ONE << 8, ONE)), 2, "with 2 descriptors"),
        (message(fe.ADD_MEM_REG, u64(0) + region(0, ONE)), 1, "overlaps"),
        (message(fe.ADD_MEM_REG, u64(0) + region(ONE << 8, 9 * ONE)), 1, "larger than"),
        (message(fe.SET_MEM_TABLE, mem_table()), 1, "SET_MEM_TABLE of 0 regions, 1"),
        (message(fe.SET_MEM_TABLE, mem_table(region(0, ONE), region(0, ONE))), 2, "overlaps"),
        (message(fe.RESET_DEVICE) * 2, 9, "more than 8 descriptors"),
    ],
)
def test_wrong_descriptors_end_the_session(
    attached: FakeFrontend, data: bytes, count: int, sentence: str
) -> None:
    fds = [fe.memfd(ONE) for _ in range(count)]
    attached.send(data, fds)
    for fd in fds:
        os.close(fd)
    assert sentence in attached.refusal


def test_descriptors_in_the_middle_of_a_message(attached: FakeFrontend) -> None:
    fd = fe.memfd(ONE)
    single = message(fe.ADD_MEM_REG, u64(0) + region(1 << 32, ONE))
    attached.send(single[:5])
    attached.send(single[5:], [fd])
    os.close(fd)
    assert attached.refusal == "descriptors in the middle of a message"


def test_descriptors_twice_in_one_message(attached: FakeFrontend) -> None:
    fd = fe.memfd(ONE)
    single = message(fe.ADD_MEM_REG, u64(0) + region(1 << 32, ONE))
    attached.send(single[:5], [fd])
    attached.send(single[5:9], [fd])
    os.close(fd)
    assert attached.refusal == "descriptors in the middle of a message"


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (message(fe.SET_FEATURES, u64(1)), "takes what was not offered"),
        (message(fe.SET_FEATURES, u64(1 << 30 | 1 << 63)), "takes what was not offered"),
        (message(fe.SET_PROTOCOL_FEATURES, u64(1 << 3)), "without the feature"),
        (OFFER + message(fe.SET_PROTOCOL_FEATURES, u64(1)), "takes what was not offered"),
        (OFFER + message(fe.SET_PROTOCOL_FEATURES, u64(1 << 63)), "takes what was not offered"),
        (message(fe.GET_CONFIG, config(0, bytes(4))), "without having negotiated CONFIG"),
        (message(fe.SET_CONFIG, config(fe.BAR, b"x")), "without having negotiated CONFIG"),
        (message(fe.GET_MAX_MEM_SLOTS), "negotiated CONFIGURE_MEM_SLOTS"),
        (message(fe.RESET_DEVICE), "negotiated RESET_DEVICE"),
        (message(fe.SET_INFLIGHT_FD, bytes(20)), "negotiated INFLIGHT_SHMFD"),
        (message(fe.GET_FEATURES, flags=9), "negotiated REPLY_ACK"),
        (message(fe.SET_MEM_TABLE, mem_table()), "SET_MEM_TABLE before SET_INFLIGHT_FD"),
    ],
)
def test_requests_before_negotiation(front: FakeFrontend, data: bytes, sentence: str) -> None:
    front.send(data)
    assert sentence in front.refusal
    assert front.device.told() == []


@pytest.mark.parametrize(
    ("body", "seals", "sentence"),
    [
        (struct.pack("<QQHH", fe.BAR_SIZE - 1, 0, 0, 0), 2, "does not describe"),
        (struct.pack("<QQHH", fe.BAR_SIZE, 0, 1, 0), 2, "does not describe"),
        (struct.pack("<QQHH", fe.BAR_SIZE, ONE, 0, 0), 2, "cannot be mapped"),
        (struct.pack("<QQHH", fe.BAR_SIZE, 1, 0, 0), 2, "cannot be mapped"),
        (struct.pack("<QQHH", fe.BAR_SIZE, 2**64 - 1, 0, 0), 2, "cannot be mapped"),
        (struct.pack("<QQHH", fe.BAR_SIZE, 0, 0, 0), 4, "not a sealed memfd"),
    ],
)
def test_bad_shadows(front: FakeFrontend, body: bytes, seals: int, sentence: str) -> None:
    front.negotiate()
    fd = fe.memfd(fe.BAR_SIZE, seals)
    front.send(message(fe.SET_INFLIGHT_FD, body), [fd])
    os.close(fd)
    assert sentence in front.refusal


def test_a_second_shadow(front: FakeFrontend) -> None:
    front.negotiate()
    front.shadow = front.share_shadow()
    fd = fe.memfd(fe.BAR_SIZE)
    body = struct.pack("<QQHH", fe.BAR_SIZE, 0, 0, 0)
    front.send(message(fe.SET_INFLIGHT_FD, body), [fd])
    os.close(fd)
    assert front.refusal == "SET_INFLIGHT_FD twice"


def test_vectors_must_be_eventfds(front: FakeFrontend, tmp_path: Path) -> None:
    front.negotiate()
    with (tmp_path / "file").open("wb") as file:
        front.send(message(fe.SET_VRING_CALL, u64(0)), [file.fileno()])
    assert "without an eventfd" in front.refusal
    assert (tmp_path / "file").read_bytes() == b""
