# SPDX-License-Identifier: GPL-2.0-or-later
"""Registers of port, counters, module and management."""

import struct

import pytest

from nicmodel.frame import Frame
from nicmodel.objects.port import LINK_MODES, FecMode
from nicmodel.spec import commands as c
from nicmodel.spec.layout import Layout
from nicmodel.spec.opcodes import CommandOpcode as Op
from nicmodel.spec.port_counters import MpcntReg, PpcntReg
from nicmodel.spec.registers import (
    McamReg,
    MciaReg,
    McqiReg,
    McqiVersion,
    McqsReg,
    PcamReg,
    PfccReg,
    PplmReg,
    PtysReg,
    RegisterId,
)
from nicmodel.spec.vport import ModifyNicVportFieldSelect, NicVportContext
from tests.unit.command.fake_driver import MAC, Refused
from tests.unit.command.lifecycle import Driver

PEER = bytes.fromhex("020000000202")


@pytest.fixture
def driver() -> Driver:
    made = Driver()
    made.up()
    return made


def read(driver: Driver, number: int, request: Layout) -> bytes:
    return driver.access(number, request.encode(), write=False)


def write(driver: Driver, number: int, request: Layout) -> bytes:
    return driver.access(number, request.encode(), write=True)


def counter(driver: Driver, group: int, offset: int, priority: int = 0) -> int:
    reply = read(driver, 0x5008, PpcntReg(local_port=1, grp=group, prio_tc=priority))
    return int(struct.unpack_from(">Q", reply, 8 + offset)[0])


def frame(destination: bytes, size: int, tag: bytes = b"") -> Frame:
    return Frame((destination + PEER + tag + b"\x08\x00").ljust(size, b"\0"))


def test_counters_of_the_port_are_those_of_the_wire_with_fcs(driver: Driver) -> None:
    counters = driver.counters
    tagged = frame(MAC, 300, b"\x81\x00\xa0\x07")
    for one in (frame(b"\xff" * 6, 60), tagged):
        counters.rx.count(one.head, one)
        counters.rx.measure(one)
    sent = frame(b"\x01\0\0\0\0\1", 1000)
    counters.tx.count(sent.head, sent)
    counters.rx_oversize, counters.rx_control, counters.rx_pause = 7, 5, 3
    assert counter(driver, 0, 0x00) == 1  # a_frames_transmitted_ok
    assert counter(driver, 0, 0x08) == 2  # a_frames_received_ok
    assert counter(driver, 0, 0x20) == 1004
    assert counter(driver, 0, 0x28) == 368
    assert counter(driver, 0, 0x60) == 7  # a_frame_too_long_errors
    assert counter(driver, 0, 0x78) == 5  # a_mac_control_frames_received
    assert counter(driver, 0, 0x80) == 2  # a_unsupported_opcodes_received
    assert counter(driver, 0, 0x88) == 3  # a_pause_mac_ctrl_frames_received
    assert counter(driver, 1, 0x08) == 1  # if_in_ucast_pkts
    assert counter(driver, 2, 0x18) == 1  # ether_stats_broadcast_pkts
    assert [counter(driver, 2, 0x58 + 8 * n) for n in range(10)] == [1, 0, 0, 1] + [0] * 6
    assert [counter(driver, 0x10, 0x20, priority) for priority in range(8)] == [
        *(1, 0, 0, 0, 0, 1, 0, 0)
    ]
    assert counter(driver, 0x10, 0x00, 5) == 304
    assert counter(driver, 0x16, 0x10) == 0
    out = driver.run(Op.QUERY_VPORT_COUNTER, c.QueryVportCounterIn(), c.QueryVportCounterOut)
    assert (out.received_eth_broadcast.packets, out.received_eth_broadcast.octets) == (1, 60)
    assert out.transmitted_eth_multicast.octets == 1000


def test_a_port_that_goes_down_is_counted(driver: Driver) -> None:
    def downs() -> int:
        reply = read(driver, 0x5008, PpcntReg(local_port=1, grp=0x12))
        return int(struct.unpack_from(">I", reply, 8 + 0xC0)[0])

    before = downs()
    driver.firmware.carrier(False)
    driver.firmware.carrier(False)
    driver.firmware.carrier(True)
    assert downs() == before + 1


def ptys(driver: Driver) -> PtysReg:
    return PtysReg.decode(read(driver, 0x5004, PtysReg(local_port=1, proto_mask=4)))


def test_the_port_speaks_its_fastest_mode_until_it_is_told(driver: Driver) -> None:
    now = ptys(driver)
    assert now.ext_eth_proto_oper == 1 << 9  # MLX5E_CAUI_4_100GBASE_CR4_KR4
    assert now.ext_eth_proto_admin == now.ext_eth_proto_capability
    assert now.eth_proto_admin == 0
    write(driver, 0x5004, PtysReg(local_port=1, proto_mask=4, ext_eth_proto_admin=1 << 6))
    now = ptys(driver)
    assert (now.ext_eth_proto_oper, now.data_rate_oper) == (1 << 6, 250)
    write(driver, 0x5004, PtysReg(local_port=1, proto_mask=4, eth_proto_admin=1 << 6))
    now = ptys(driver)
    assert (now.ext_eth_proto_admin, now.eth_proto_admin, now.eth_proto_oper) == (0, 64, 64)
    driver.port_admin(up=False)
    assert ptys(driver).eth_proto_oper == 0


@pytest.mark.parametrize(
    "request_",
    [
        PtysReg(proto_mask=4),
        PtysReg(proto_mask=4, ext_eth_proto_admin=1 << 12),
        PtysReg(proto_mask=4, ext_eth_proto_admin=1 << 9, eth_proto_admin=1 << 20),
        PtysReg(proto_mask=1, ext_eth_proto_admin=1 << 9),
    ],
    ids=["nothing", "200G", "two tables", "InfiniBand"],
)
def test_speeds_that_the_port_does_not_have_are_refused(driver: Driver, request_: PtysReg) -> None:
    with pytest.raises(Refused):
        write(driver, 0x5004, request_)
    assert ptys(driver).ext_eth_proto_oper == 1 << 9


def test_a_line_of_another_speed_leaves_the_port_down(driver: Driver) -> None:
    driver.firmware.carrier(True, 25_000)
    assert ptys(driver).data_rate_oper == 250
    assert ptys(driver).eth_proto_lp_advertise == 1 << 6
    write(driver, 0x5004, PtysReg(proto_mask=4, ext_eth_proto_admin=1 << 9))
    assert not driver.firmware.port.up
    driver.firmware.carrier(True, 99_000)
    assert driver.firmware.port.up


def test_pause_is_remembered_and_flow_control_by_priority_is_not_offered(driver: Driver) -> None:
    def pause() -> tuple[bool, bool]:
        register = PfccReg.decode(read(driver, 0x5007, PfccReg(local_port=1)))
        return register.pprx, register.pptx

    assert pause() == (True, True)
    write(driver, 0x5007, PfccReg(local_port=1, pptx=True))
    assert pause() == (False, True)
    with pytest.raises(Refused):
        write(driver, 0x5007, PfccReg(local_port=1, pfctx=1))


def test_fec_is_that_of_the_speed_unless_chosen(driver: Driver) -> None:
    def pplm() -> PplmReg:
        return PplmReg.decode(read(driver, 0x5023, PplmReg(local_port=1)))

    assert pplm().fec_mode_active == 1 << FecMode.RS_528_514
    assert pplm().fec_override_cap_100g == 0b101
    write(driver, 0x5023, PplmReg(local_port=1, fec_override_admin_100g=1))
    assert (pplm().fec_mode_active, pplm().fec_override_admin_100g) == (1, 1)
    for wrong in (0b10, 0b101):  # not for this speed, two at a time
        with pytest.raises(Refused):
            write(driver, 0x5023, PplmReg(local_port=1, fec_override_admin_100g=wrong))
    driver.port_admin(up=False)
    assert pplm().fec_mode_active == 0


def mcia(driver: Driver, at: int, size: int, page: int = 0, address: int = 0x50) -> MciaReg:
    request = MciaReg(i2c_device_address=address, page_number=page, device_address=at, size=size)
    return MciaReg.decode(read(driver, 0x9014, request))


def test_the_module_is_a_cable_with_right_sums(driver: Driver) -> None:
    lower, upper = mcia(driver, 0, 128).dwords, mcia(driver, 128, 128).dwords
    assert lower[0] == upper[0] == 0x11
    assert sum(upper[:63]) & 0xFF == upper[63]
    assert sum(upper[64:95]) & 0xFF == upper[95]
    assert upper[20:36] == b"nicmodel".ljust(16)
    assert mcia(driver, 128, 128, page=3).dwords == upper
    assert mcia(driver, 148, 8).dwords == b"nicmodel".ljust(128, b"\0")


@pytest.mark.parametrize(
    ("at", "size", "page", "address"),
    [(250, 16, 0, 0x50), (0, 1, 0, 0x51), (0xFFFF, 1, 0, 0x50)],
)
def test_what_the_module_does_not_have_is_not_there(
    driver: Driver, at: int, size: int, page: int, address: int
) -> None:
    reply = mcia(driver, at, size, page, address)
    assert (reply.status, reply.dwords) == (1, bytes(128))


def test_a_module_gives_no_more_than_the_register_holds(driver: Driver) -> None:
    with pytest.raises(Refused):
        mcia(driver, 0, 129)


def test_firmware_is_one_component_with_a_version(driver: Driver) -> None:
    state = McqsReg.decode(read(driver, 0x9060, McqsReg()))
    assert (state.last_index_flag, state.identifier) == (True, 1)
    size = McqiVersion.SIZE
    request = McqiReg(info_type=1, data_size=size, data=bytes(size))
    reply = McqiReg.decode(read(driver, 0x9061, request))
    assert McqiVersion.decode(reply.data).version == 22 << 24 | 32 << 16 | 2004
    for wrong in (McqiReg(info_type=5), McqiReg(info_type=1, component_index=1)):
        with pytest.raises(Refused):
            read(driver, 0x9061, wrong)


def test_only_what_is_there_is_said_to_be_there(driver: Driver) -> None:
    pcam = PcamReg.decode(read(driver, 0x507F, PcamReg()))
    assert pcam.port_access_reg_cap_mask.pplm
    assert not pcam.port_access_reg_cap_mask.pbmc
    later = McamReg.decode(read(driver, 0x907F, McamReg(access_reg_group=1)))
    assert not any(later.mng_access_reg_cap_mask.encode())
    assert read(driver, 0x9051, MpcntReg()) == bytes(MpcntReg.SIZE)


@pytest.mark.parametrize("number", sorted(set(RegisterId) - {0x7004}))
def test_no_register_minds_rubbish(driver: Driver, number: int) -> None:
    for byte in (0x00, 0x5A, 0xFF):
        for write_ in (False, True):
            try:
                driver.access(number, bytes([byte]) * 0x100, write=write_)
            except Refused:
                continue


def test_a_promiscuous_vport_opens_the_filter(driver: Driver) -> None:
    select = ModifyNicVportFieldSelect(promisc=True)
    table = driver.objects.l2
    for context, is_open in (
        (NicVportContext(promisc_mc=True), False),
        (NicVportContext(promisc_uc=True), True),
        (NicVportContext(), False),
        (NicVportContext(promisc_all=True), True),
    ):
        driver.modify_vport(select, context)
        assert table.promiscuous is is_open


def test_modes_are_told_apart_by_speed() -> None:
    assert len({mode.speed for mode in LINK_MODES}) == len(LINK_MODES)
