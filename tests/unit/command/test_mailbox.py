# SPDX-License-Identifier: GPL-2.0-or-later
"""Delivery: chains, tokens, lengths, and what a hostile guest may write there."""

import struct
from enum import Enum
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nicmodel.command.caps import BLOCK
from nicmodel.command.events import DoorbellWithoutCommand
from nicmodel.command.registry import REGISTRY
from nicmodel.spec import commands as c
from nicmodel.spec.layout import Layout, Span
from nicmodel.spec.opcodes import CommandOpcode as Op
from nicmodel.spec.status import CommandStatus, DeliveryStatus
from nicmodel.trace.events import CommandRefused, CommandUndelivered, UnknownCommand
from tests.unit.command.fake_driver import BLOCKS, CMDQ, FakeDriver, Refused, Undelivered
from tests.unit.command.lifecycle import Driver


@pytest.fixture
def driver() -> FakeDriver:
    driver = FakeDriver()
    driver.start()
    driver.run(Op.ENABLE_HCA, c.EnableHcaIn(), c.EnableHcaOut)
    driver.slot = 0
    return driver


def query_caps() -> bytes:
    return struct.pack(">HHHHQ", Op.QUERY_HCA_CAP, 0, 0, 1, 0)


def block(driver: FakeDriver, number: int, *, output: bool = False) -> int:
    return BLOCKS + driver.slot * 0x8000 + (0x4000 if output else 0) + number * 1024


def test_output_is_exactly_outlen_bytes(driver: FakeDriver) -> None:
    out = driver.command(query_caps(), 16 + BLOCK)
    assert len(out) == 16 + BLOCK
    driver.slot = 0
    last = driver.ram.read(block(driver, (BLOCK - 1) // 512, output=True), 576)
    assert last[512:560] == bytes(48)


def test_output_shorter_than_a_block_leaves_the_rest_of_it_alone(driver: FakeDriver) -> None:
    driver.command(struct.pack(">HHHHQ", Op.QUERY_ISSI, 0, 0, 0, 0), 0x70)
    driver.slot = 0
    data = driver.ram.read(block(driver, 0, output=True), 512)
    assert data[0x5C:0x60] == b"\0\0\0\3"
    assert data[0x60:] == b"\xee" * (512 - 0x60)


def test_enable_hca_has_twelve_bytes_of_output(driver: FakeDriver) -> None:
    request = struct.pack(">HHHHQ", Op.ENABLE_HCA, 0, 0, 0, 0)
    assert driver.command(request, 12) == bytes(12)
    driver.slot = 0
    assert driver.ram.read(CMDQ + 0x2C, 4) == bytes(4)


def test_a_chain_longer_than_the_message_is_normal(driver: FakeDriver) -> None:
    """The driver reuses chains: what lies behind the last block that is needed means nothing."""
    data = struct.pack(">HHHHQ", Op.SET_HCA_CAP, 0, 0, 0, 0) + bytes(BLOCK)
    driver.post(data, 16, 0)
    beyond = (len(data) - 16) // 512
    driver.ram.write(block(driver, beyond), b"\xff" * 1024)
    driver.device.doorbell(1)
    driver.collect(0, 16)
    assert driver.firmware.current_caps


@pytest.mark.parametrize("output", [False, True])
@pytest.mark.parametrize(
    ("offset", "value", "delivery"),
    [
        (0x23D, b"\x77", DeliveryStatus.TOK_ERR),
        (0x238, b"\0\0\0\x07", DeliveryStatus.BAD_BLK_NUM),
        (0x230, struct.pack(">Q", BLOCKS + 512), None),
        (0x230, struct.pack(">Q", 1 << 40), DeliveryStatus.FW_ERR),
        (0x230, struct.pack(">Q", 0xFFFFFFFFFFFFFC00), DeliveryStatus.FW_ERR),
    ],
)
def test_a_broken_chain_is_not_delivered_and_not_executed(
    driver: FakeDriver,
    output: bool,
    offset: int,
    value: bytes,
    delivery: DeliveryStatus | None,
) -> None:
    data = struct.pack(">HHHHQ", Op.SET_HCA_CAP, 0, 0, 0, 0) + bytes(BLOCK)
    driver.post(data, 0x1000, 0)
    driver.ram.write(block(driver, 1, output=output) + offset, value)
    driver.device.doorbell(1)
    unaligned = DeliveryStatus.OUT_PTR_ALIGN_ERR if output else DeliveryStatus.IN_PTR_ALIGN_ERR
    with pytest.raises(Undelivered) as error:
        driver.collect(0, 0x1000)
    assert error.value.delivery == (delivery or unaligned)
    assert not driver.firmware.current_caps
    assert len(driver.sink.of(CommandUndelivered)) == 1


@pytest.mark.parametrize("output", [False, True])
def test_a_chain_that_links_to_itself_ends(driver: FakeDriver, output: bool) -> None:
    driver.post(query_caps() + bytes(BLOCK), 16 + BLOCK, 0)
    first = block(driver, 0, output=output)
    driver.ram.write(first + 0x230, struct.pack(">Q", first))
    driver.device.doorbell(1)
    with pytest.raises(Undelivered) as error:
        driver.collect(0, 16)
    assert error.value.delivery == DeliveryStatus.BAD_BLK_NUM


@pytest.mark.parametrize(
    ("offset", "value", "delivery"),
    [
        (0x00, b"\x06", DeliveryStatus.CMD_DESCR_ERR),
        (0x04, b"\0\0\0\0", DeliveryStatus.IN_LENGTH_ERR),
        (0x04, b"\x7f\xff\xff\xff", DeliveryStatus.IN_LENGTH_ERR),
        (0x38, b"\0\0\0\0", DeliveryStatus.OUT_LENGTH_ERR),
        (0x38, b"\xff\xff\xff\xff", DeliveryStatus.OUT_LENGTH_ERR),
    ],
)
def test_an_impossible_entry_is_not_delivered(
    driver: FakeDriver, offset: int, value: bytes, delivery: DeliveryStatus
) -> None:
    driver.post(query_caps(), 16, 0)
    driver.ram.write(CMDQ + offset, value)
    driver.device.doorbell(1)
    with pytest.raises(Undelivered) as error:
        driver.collect(0, 16)
    assert error.value.delivery == delivery


def test_an_entry_that_the_driver_owns_is_left_alone(driver: FakeDriver) -> None:
    driver.post(query_caps(), 16, 0)
    driver.ram.write(CMDQ + 0x3F, b"\0")
    before = bytes(driver.ram.data)
    driver.device.doorbell(1)
    assert bytes(driver.ram.data) == before
    assert len(driver.sink.of(DoorbellWithoutCommand)) == 1


def test_a_doorbell_before_the_queue_is_set_or_outside_memory_does_nothing() -> None:
    driver = FakeDriver()
    driver.device.doorbell(0xFFFFFFFF)
    assert len(driver.sink.of(DoorbellWithoutCommand)) == 32
    for addr in (1 << 40, 0xFFFFFFFFFFFFF000, len(driver.ram.data) - 64):
        driver.device.set_queue_address(addr)  # type: ignore[arg-type]
        driver.device.doorbell(0b10)
    assert len(driver.sink.of(CommandUndelivered)) == 3


def test_several_slots_in_one_doorbell_complete_with_an_event_each() -> None:
    driver = Driver()
    driver.up()
    before = len(driver.command_events())
    request = struct.pack(">HHHHQ", Op.QUERY_ISSI, 0, 0, 0, 0)
    for slot in (0, 7, 31):
        driver.post(request, 0x70, slot)
    driver.device.doorbell(1 << 0 | 1 << 7 | 1 << 31)
    for slot in (0, 7, 31):
        driver.collect(slot, 0x70)
    assert driver.command_events()[before:] == [1, 1 << 7, 1 << 31]


def test_output_longer_than_outlen_is_cut(driver: FakeDriver) -> None:
    request = struct.pack(">HHHHHHI", Op.ACCESS_REG, 0, 0, 1, 0, 0x5008, 0) + bytes(0x100)
    assert driver.command(request, 0x20) == bytes(0x11) + b"\1" + bytes(14)
    driver.slot = 0
    assert driver.ram.read(block(driver, 0, output=True) + 0x10, 496) == b"\xee" * 496


def test_a_value_that_is_no_member_of_its_enumeration_is_refused() -> None:
    driver = Driver()
    driver.enable()
    driver.load()
    driver.probe()
    request = bytearray(c.ModifyRqIn(rqn=driver.drop_rq, rq_state=1).encode())
    request[0:2] = Op.MODIFY_RQ.to_bytes(2, "big")
    request[0x21] = 0x20  # rqc.state 2
    with pytest.raises(Refused) as error:
        driver.command(bytes(request))
    assert error.value.status == CommandStatus.BAD_PARAM


def test_an_unknown_opcode_is_refused_and_counted(driver: FakeDriver) -> None:
    with pytest.raises(Refused) as error:
        driver.command(struct.pack(">HHHHQ", 0xEEE, 0, 0, 3, 0))
    assert error.value.status == CommandStatus.BAD_OP
    assert driver.sink.of(UnknownCommand) == [UnknownCommand(0xEEE, 3)]
    assert driver.tracer.counts["UnknownCommand"] == 1


@pytest.mark.parametrize("opcode", sorted(REGISTRY))
def test_lengths_shorter_than_the_layouts_are_refused(opcode: int) -> None:
    driver = Driver()
    driver.enable()
    command = REGISTRY[opcode]
    header = struct.pack(">HHHH", opcode, 0, 0, 0)
    with pytest.raises(Refused) as error:
        driver.command(header.ljust(command.request.SIZE - 1, b"\0"), command.reply.SIZE)
    assert error.value.status == CommandStatus.BAD_INP_LEN
    with pytest.raises(Refused) as error:
        driver.command(header.ljust(command.request.SIZE, b"\0"), command.reply.SIZE - 1)
    assert error.value.status == CommandStatus.BAD_OUTP_LEN


def plausible(layout: type[Layout]) -> st.SearchStrategy[Layout]:
    """Requests that get past the first checks: small numbers, all bits, and anything."""
    fields: dict[str, Any] = {
        name: field(span, layout.__annotations__[name]) for name, span in layout.SPANS.items()
    }
    return st.fixed_dictionaries({}, optional=fields).map(lambda chosen: layout(**chosen))


def field(span: Span, kind: Any) -> st.SearchStrategy[Any]:
    if span.kind == "nested":
        return plausible(kind)
    if span.kind == "tail" and not span.item and kind is not bytes:
        return st.lists(plausible(get_args(kind)[0]), max_size=3).map(tuple)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from(kind)
    if kind is bytes:
        length = span.width // 8 or 64
        return st.sampled_from([bytes(length), b"\xff" * length, b"\1".ljust(length, b"\0")])
    if span.kind == "tail":
        numbers = st.sampled_from([0, 1, 0x1000, 0x200000, (1 << span.item) - 1])
        return st.lists(numbers, max_size=300).map(tuple)
    if span.kind == "ints":
        count = span.width // span.item
        return st.integers(0, (1 << span.item) - 1).map(lambda number: (number,) * count)
    top = (1 << span.width) - 1
    return st.one_of(
        st.integers(0, min(top, 3)),
        st.integers(0, min(top, 12)),
        st.sampled_from([0x100 & top, top]),
        st.integers(0, top),
    )


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, int]:
    """A known command, well-formed or any bytes, or an unknown one; and room for its output."""
    opcode = draw(st.sampled_from(sorted(REGISTRY)) | st.integers(0, 0xFFFF))
    command = REGISTRY.get(opcode)
    outlen = draw(st.sampled_from([1, 8, 12, 16, 0x40, 0x110, 0x1010]))
    if command is not None and draw(st.integers(0, 4)):
        body = draw(plausible(command.request)).encode()[2:]
        outlen = max(outlen, command.reply.SIZE)
    else:
        body = draw(st.binary(max_size=80)) * draw(st.integers(1, 20))
    return int(opcode).to_bytes(2, "big") + body, outlen


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(requests(), min_size=1, max_size=20))
def test_any_commands_get_a_status(script: list[tuple[bytes, int]]) -> None:
    """On a device in full swing; afterwards it still works and forgets everything."""
    driver = Driver()
    driver.up(channels=1)
    driver.sink.records.clear()
    refused = 0
    for data, outlen in script:
        try:
            driver.post(data, outlen, 3)
            driver.device.doorbell(1 << 3)
            driver.collect(3, outlen)
        except Refused as error:
            CommandStatus(error.status)
            refused += 1
    counted = driver.sink.of(CommandRefused) + driver.sink.of(UnknownCommand)
    assert len(counted) == refused
    enable = struct.pack(">HHHHQ", Op.ENABLE_HCA, 0, 0, 0, 0)
    driver.post(enable, 12, 0)
    driver.device.doorbell(1)
    driver.collect(0, 12)
    assert driver.objects.leaked() == {}
    queues = driver.queues
    assert [queues.eqs, queues.cqs, queues.sqs, queues.rqs] == [{}, {}, {}, {}]


@settings(max_examples=300)
@given(
    entry=st.binary(min_size=64, max_size=64),
    sane=st.booleans(),
    blocks=st.lists(st.binary(min_size=64, max_size=64), min_size=4, max_size=4),
    lengths=st.tuples(st.integers(0, 5000), st.integers(0, 5000)),
)
def test_any_bytes_in_entry_and_mailboxes_get_a_status_or_silence(
    entry: bytes, sane: bool, blocks: list[bytes], lengths: tuple[int, int]
) -> None:
    driver = FakeDriver()
    driver.start()
    if sane:  # let more of them through
        entry = bytearray(entry)  # type: ignore[assignment]
        struct.pack_into(">B3xIQ", entry, 0, 7, lengths[0], BLOCKS)
        struct.pack_into(">QIBBBB", entry, 0x30, BLOCKS + 2048, lengths[1], 9, 0, 0, 1)
        for number in range(4):
            link = struct.pack(">QIBBBB", BLOCKS + 1024 * (number % 4), number % 2, 0, 9, 0, 0)
            driver.ram.write(BLOCKS + 1024 * number + 0x230, link)
    for number, data in enumerate(blocks):
        driver.ram.write(BLOCKS + 1024 * number, data)
    driver.ram.write(CMDQ, bytes(entry))
    driver.device.doorbell(1)
    owner = driver.ram.read(CMDQ + 0x3F, 1)[0]
    assert not owner & 1
    if entry[0x3F] & 1:
        DeliveryStatus(owner >> 1)
