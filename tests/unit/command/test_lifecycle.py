# SPDX-License-Identifier: GPL-2.0-or-later
"""The driver's life as a conversation: probe, open, close, unload, reload."""

import pytest

from nicmodel.command.events import ObjectsLeft
from nicmodel.frame import Headers
from nicmodel.offload.steer import flow_key, lookup
from nicmodel.spec import commands as c
from nicmodel.spec.opcodes import CommandOpcode as Op
from nicmodel.spec.status import CommandStatus
from nicmodel.trace.events import CommandRefused, UnknownCommand, UnknownRegister
from tests.unit.command.fake_driver import MAC, PORT_EVENT, FakeDriver, Refused
from tests.unit.command.lifecycle import Driver


@pytest.fixture
def driver() -> Driver:
    return Driver()


def nothing_refused(driver: FakeDriver) -> bool:
    kinds = (CommandRefused, UnknownCommand, UnknownRegister)
    return not any(driver.sink.of(kind) for kind in kinds)


def test_probe_and_open_end_with_frames_steered_to_the_right_tir(driver: Driver) -> None:
    driver.up()
    assert nothing_refused(driver)
    assert driver.mac == MAC
    tcp = Headers(dst=MAC, src=bytes(6), ethertype=0x0800, ip_version=4, ip_proto=6)
    assert lookup(driver.objects.steering, flow_key(tcp)) == (driver.tirs[0],)
    arp = Headers(dst=b"\xff" * 6, src=bytes(6), ethertype=0x0806)
    assert lookup(driver.objects.steering, flow_key(arp)) == (driver.tirs[10],)
    stranger = Headers(dst=b"\x02" * 6, src=bytes(6), ethertype=0x0806)
    assert lookup(driver.objects.steering, flow_key(stranger)) is None


def test_unload_leaves_no_object_behind_and_numbers_are_reusable(driver: Driver) -> None:
    driver.up()
    first = dict(driver.objects.leaked())
    driver.close()
    driver.remove()
    driver.unload()
    assert driver.objects.leaked() == {}
    driver.disable()
    assert not driver.sink.of(ObjectsLeft)
    assert not driver.firmware.pages
    driver.up()
    assert driver.objects.leaked() == first
    assert driver.eqs[0] == 1
    assert nothing_refused(driver)


def test_a_driver_that_forgot_its_objects_finds_a_fresh_device(driver: Driver) -> None:
    driver.up()
    fresh = Driver()
    fresh.ram, fresh.device, fresh.firmware = driver.ram, driver.device, driver.firmware
    fresh.queues, fresh.objects = driver.queues, driver.objects
    fresh.up()
    assert nothing_refused(driver)


def test_teardown_under_traffic_names_what_was_left(driver: Driver) -> None:
    driver.up()
    driver.listening = False  # the CMD EQ goes with TEARDOWN_HCA
    driver.run(Op.TEARDOWN_HCA, c.TeardownHcaIn(), c.TeardownHcaOut)
    (left,) = driver.sink.of(ObjectsLeft)
    assert dict(left.kinds)["SQ"] == 8
    assert driver.objects.leaked() == {}
    assert driver.queues.resets == 2


def test_link_events_follow_admin_state_and_wire(driver: Driver) -> None:
    driver.up()

    def links() -> list[int]:
        return [sub for kind, sub, _ in driver.queues.events if kind == PORT_EVENT]

    assert links() == [1, 4]
    assert all(d[8] == 0x10 for kind, _, d in driver.queues.events if kind == PORT_EVENT)
    driver.firmware.carrier(False)
    state = driver.run(Op.QUERY_VPORT_STATE, c.QueryVportStateIn(), c.QueryVportStateOut)
    assert (state.admin_state, state.state) == (1, 0)
    driver.firmware.carrier(False)
    driver.port_admin(up=False)
    driver.firmware.carrier(True)
    assert links() == [1, 4, 1]
    driver.port_admin(up=True)
    assert links() == [1, 4, 1, 4]


@pytest.mark.parametrize(
    ("opcode", "request_", "reply"),
    [
        (Op.ALLOC_PD, c.AllocPdIn(), c.AllocPdOut),
        (Op.QUERY_VPORT_STATE, c.QueryVportStateIn(), c.QueryVportStateOut),
    ],
)
def test_a_command_before_init_is_a_wrong_state(
    driver: Driver, opcode: Op, request_: c.AllocPdIn, reply: type[c.AllocPdOut]
) -> None:
    driver.start()
    driver.run(Op.ENABLE_HCA, c.EnableHcaIn(), c.EnableHcaOut)
    with pytest.raises(Refused) as refused:
        driver.run(opcode, request_, reply)
    assert refused.value.status == CommandStatus.BAD_SYS_STATE


def test_objects_in_use_cannot_be_destroyed(driver: Driver) -> None:
    driver.up()
    channel = driver.channels[0]
    in_use = [
        (Op.DESTROY_CQ, c.DestroyCqIn(cqn=channel.cqs[0])),
        (Op.DESTROY_EQ, c.DestroyEqIn(eq_number=driver.eqs[3])),
        (Op.DESTROY_TIS, c.DestroyTisIn(tisn=driver.tises[0])),
        (Op.DESTROY_RQ, c.DestroyRqIn(rqn=channel.rq)),
        (Op.DESTROY_RQT, c.DestroyRqtIn(rqtn=driver.rqts[0])),
        (Op.DESTROY_TIR, c.DestroyTirIn(tirn=driver.tirs[0])),
        (Op.DESTROY_FLOW_TABLE, c.DestroyFlowTableIn(table_id=driver.ttc)),
        (Op.DEALLOC_PD, c.DeallocPdIn(pd=driver.pd)),
        (Op.DEALLOC_UAR, c.DeallocUarIn(uar=driver.uar)),
        (
            Op.DEALLOC_TRANSPORT_DOMAIN,
            c.DeallocTransportDomainIn(transport_domain=driver.td),
        ),
    ]
    alive = driver.objects.leaked()
    for opcode, request in in_use:
        with pytest.raises(Refused) as refused:
            driver.run(opcode, request, c.Done)
        assert refused.value.status == CommandStatus.BAD_RES_STATE, opcode.name
    assert driver.objects.leaked() == alive
