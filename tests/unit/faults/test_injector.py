# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults in a NIC, as its driver meets them."""

import struct

import pytest

from nicmodel.device import HEARTBEAT, RESTART
from nicmodel.errors import UserError
from nicmodel.faults.catalogue import (
    CATALOGUE,
    CommandFailure,
    CommandTimeout,
    CqeError,
    EventQueue,
    Exhaustion,
    Fault,
    FrozenCounter,
    Health,
    InterfaceDisabled,
    LateCompletion,
    LostCompletion,
    LostInterrupt,
    WedgedEq,
    WorkQueue,
)
from nicmodel.faults.events import FaultInjected
from nicmodel.pci.init_segment import HealthSyndrome
from nicmodel.spec import commands as c
from nicmodel.spec.contexts import QueueState, Sqc
from nicmodel.spec.cqe import CqeOpcode, CqeSyndrome
from nicmodel.spec.opcodes import CommandOpcode as Op
from nicmodel.spec.status import CommandStatus
from tests.unit.command.fake_driver import Refused
from tests.unit.device.machine import LSO, SEND, Machine, Pair
from tests.unit.device.packets import ethernet, tcp
from tests.unit.queues.rig import eth_segment

A, B = b"\2\0\0\0\0\1", b"\2\0\0\0\0\2"


@pytest.fixture
def pair() -> Pair:
    return Pair(1)


def send(machine: Machine, text: bytes = b"hello") -> int:
    frame = ethernet(B, A, 0x88B5, text)
    return machine.send(SEND, eth_segment(inline=frame[:18]) + machine.segment(frame[18:]))


def opcodes(cqes: list[bytes]) -> list[int]:
    return [cqe[0x3F] >> 4 for cqe in cqes]


def fired(machine: Machine) -> list[str]:
    return [event.what for event in machine.sink.of(FaultInjected)]


def iseg(machine: Machine, offset: int, length: int = 4) -> int:
    return int.from_bytes(machine.frontend.read(offset, length), "big")


def interface(machine: Machine) -> int:
    return iseg(machine, 0x14) >> 8 & 7


def beats(pair: Pair, number: int) -> None:
    for _ in range(number):
        pair.loop.advance(HEARTBEAT)


def hooked(machine: Machine) -> list[str]:
    """Verbs of parts that are not their own."""
    life = machine.nic._life
    assert life is not None
    verbs = {"post", "post_many", "interrupt", "execute", "beat", "create"}
    return [verb for part in life.reach.parts() for verb in verbs & vars(part).keys()]


def test_a_wqe_fails_and_the_queue_flushes_until_the_driver_resets_it(pair: Pair) -> None:
    a, b = pair.a, pair.b
    b.buffers(b.rq(), 8)
    a.nic.faults.add(CqeError(syndrome=CqeSyndrome.LOCAL_PROT_ERR, after=1))
    good, bad, flushed = send(a), send(a), send(a)
    cqes = a.poll(a.sent_cq())
    assert opcodes(cqes) == [CqeOpcode.REQ, CqeOpcode.REQ_ERR, CqeOpcode.REQ_ERR]
    assert [cqe[0x37] for cqe in cqes[1:]] == [
        CqeSyndrome.LOCAL_PROT_ERR,
        CqeSyndrome.WR_FLUSH_ERR,
    ]
    counters = [struct.unpack_from(">H", cqe, 0x3C)[0] for cqe in cqes]
    assert counters == [good, bad, flushed]
    assert len(b.poll(b.got_cq())) == 1
    sqn = a.channels[0].sqs[2]
    queried = a.run(Op.QUERY_SQ, c.QuerySqIn(sqn=sqn), c.QuerySqOut)
    assert queried.sq_context.state is QueueState.ERR
    assert fired(a) == [f"a WQE of SQ {sqn:#x} fails with LOCAL_PROT_ERR"]


def test_a_queue_that_was_reset_waits_for_a_doorbell(pair: Pair) -> None:
    """The doorbell record still says how far the queue had been posted before."""
    a, b = pair.a, pair.b
    b.buffers(b.rq(), 8)
    a.nic.faults.add(CqeError(after=1))
    send(a)
    send(a)
    assert len(a.poll(a.sent_cq())) == 2
    sqn = a.channels[0].sqs[2]
    for was, state in ((QueueState.ERR, QueueState.RST), (QueueState.RST, QueueState.RDY)):
        a.run(Op.MODIFY_SQ, c.ModifySqIn(sq_state=was, sqn=sqn, ctx=Sqc(state=state)), c.Done)
    assert a.poll(a.sent_cq()) == []
    a.sq().producer = 0
    assert send(a) == 0
    (cqe,) = a.poll(a.sent_cq())
    assert (cqe[0x3F] >> 4, cqe[0x3C:0x3E]) == (CqeOpcode.REQ, b"\0\0")
    assert len(b.poll(b.got_cq())) == 2


def test_a_receive_wqe_fails(pair: Pair) -> None:
    a, b = pair.a, pair.b
    b.buffers(b.rq(), 8)
    b.nic.faults.add(CqeError(queue=WorkQueue.RQ, syndrome=CqeSyndrome.LOCAL_QP_OP_ERR))
    send(a)
    (cqe,) = b.poll(b.got_cq())
    assert (cqe[0x3F] >> 4, cqe[0x37]) == (CqeOpcode.RESP_ERR, CqeSyndrome.LOCAL_QP_OP_ERR)
    rqn = b.channels[0].rq
    queried = b.run(Op.QUERY_RQ, c.QueryRqIn(rqn=rqn), c.QueryRqOut)
    assert queried.rq_context.state is QueueState.ERR


@pytest.mark.parametrize("kind", [CqeError, LostCompletion])
def test_another_queue_goes_on(pair: Pair, kind: type[CqeError] | type[LostCompletion]) -> None:
    a = pair.a
    for number in a.channels[0].sqs:
        if number != a.sq().number:
            a.nic.faults.add(kind(number=number, count=0))
    for number in a.channels[0].sqs:
        a.nic.faults.add(kind(queue=WorkQueue.RQ, number=number, count=0))
    send(a)
    assert opcodes(a.poll(a.sent_cq())) == [CqeOpcode.REQ]
    assert not fired(a)


def test_late_completions_keep_their_order(pair: Pair) -> None:
    a = pair.a
    a.nic.faults.add(LateCompletion(delay_ms=200))
    sent = [send(a) for _ in range(3)]
    assert a.poll(a.sent_cq()) == []
    a.nic.faults.add(CqeError(after=100))  # every part is hooked anew meanwhile
    sent.append(send(a))
    pair.loop.advance(0.19)
    assert a.poll(a.sent_cq()) == []
    pair.loop.advance(0.02)
    cqes = a.poll(a.sent_cq())
    assert [struct.unpack_from(">H", cqe, 0x3C)[0] for cqe in cqes] == sent
    send(a)
    assert len(a.poll(a.sent_cq())) == 1
    assert len(fired(a)) == 1


def test_late_completions_raise_their_interrupt(pair: Pair) -> None:
    a = pair.a
    a.arm_cq(a.sent_cq())
    a.nic.faults.add(LateCompletion(delay_ms=200))
    send(a)
    before = a.frontend.host.interrupts[0]
    pair.loop.advance(0.3)
    assert a.frontend.host.interrupts[0] == before + 1


def test_what_is_late_comes_when_the_fault_is_removed(pair: Pair) -> None:
    a = pair.a
    number = a.nic.faults.add(LateCompletion(delay_ms=200))
    send(a)
    a.nic.faults.remove(number)
    assert len(a.poll(a.sent_cq())) == 1
    pair.loop.advance(0.3)
    assert a.poll(a.sent_cq()) == []


def test_late_completions_do_not_outlive_the_device(pair: Pair) -> None:
    a = pair.a
    a.nic.faults.add(LateCompletion(delay_ms=200))
    send(a)
    a.again(1)
    pair.loop.advance(0.3)
    assert a.poll(a.sent_cq()) == []
    send(a)
    assert len(a.poll(a.sent_cq())) == 1


def test_a_lost_completion(pair: Pair) -> None:
    a, b = pair.a, pair.b
    b.buffers(b.rq(), 8)
    a.nic.faults.add(LostCompletion(number=a.sq().number, after=1, count=2))
    sent = [send(a) for _ in range(4)]
    cqes = a.poll(a.sent_cq())
    counters = [struct.unpack_from(">H", cqe, 0x3C)[0] for cqe in cqes]
    assert counters == [sent[0], sent[3]]
    assert len(b.poll(b.got_cq())) == 4, "the WQEs were executed"


def test_each_completion_of_a_train_is_an_occasion(pair: Pair) -> None:
    a, b = pair.a, pair.b
    b.buffers(b.rq(), 40)
    b.nic.faults.add(LostCompletion(queue=WorkQueue.RQ, after=5))
    header = ethernet(B, A, 0x0800, tcp(bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2)), 1, 2, b""))
    a.send(LSO, eth_segment(cs=0xC0, mss=100, inline=header) + a.segment(bytes(2000)))
    counters = [struct.unpack_from(">H", cqe, 0x3C)[0] for cqe in b.poll(b.got_cq())]
    assert counters == [*range(5), *range(6, 20)]


def test_a_command_fails_and_then_works(pair: Pair) -> None:
    a = pair.a
    a.nic.faults.add(
        CommandFailure(
            command=Op.QUERY_VPORT_STATE, status=CommandStatus.RES_BUSY, syndrome=0x12345678
        )
    )
    a.access(0x5006, bytes(16), write=False)
    with pytest.raises(Refused, match="status 0x6 syndrome 0x12345678"):
        a.query()
    assert a.query()


def test_a_command_hangs_and_the_others_do_not(pair: Pair) -> None:
    a = pair.a
    a.nic.faults.add(CommandTimeout(command=Op.QUERY_VPORT_STATE))
    before = a.command_events()
    with pytest.raises(AssertionError):
        a.query()
    hung = a.slot - 1
    assert a.command_events() == before
    with pytest.raises(AssertionError, match="the device still owns the entry"):
        a.collect(hung, 16)
    assert a.query()


def test_a_command_is_late(pair: Pair) -> None:
    a = pair.a
    a.nic.faults.add(CommandTimeout(command=Op.QUERY_VPORT_STATE, delay_ms=500))
    with pytest.raises(AssertionError):
        a.query()
    late = a.slot - 1
    heard = len(a.command_events())
    assert a.access(0x5006, bytes(16), write=False)
    pair.loop.advance(0.5)
    assert a.collect(late, 16)[0] == 0
    assert a.command_events()[heard + 1 :] == [1 << late]
    assert list(a.nic.faults) == []
    assert hooked(a) == []


def test_a_late_command_does_not_outlive_the_device(pair: Pair) -> None:
    a = pair.a
    a.nic.faults.add(CommandTimeout(command=Op.QUERY_VPORT_STATE, delay_ms=500))
    with pytest.raises(AssertionError):
        a.query()
    a.again(1)
    events = len(a.sink.records)
    pair.loop.advance(0.4)
    pair.loop.advance(0.1)
    assert len(a.sink.records) == events


@pytest.mark.parametrize("fatal", [True, False])
def test_health(pair: Pair, fatal: bool) -> None:
    a = pair.a
    a.nic.faults.add(Health(syndrome=HealthSyndrome.HIGH_TEMP, fatal=fatal, after=2))
    beats(pair, 2)
    assert iseg(a, 0x23D, 1) == 0
    beats(pair, 1)
    assert iseg(a, 0x23D, 1) == HealthSyndrome.HIGH_TEMP
    assert iseg(a, 0x238, 1) >> 7 == fatal
    assert a.query(), "commands still work"


def test_the_driver_restarts_the_firmware(pair: Pair) -> None:
    a = pair.a
    a.nic.faults.add(Health())
    beats(pair, 1)
    assert iseg(a, 0x1FC) >> 30 == 0b01, "a restart is supported, none is under way"
    a.write(0x14, struct.pack(">I", iseg(a, 0x14) & 0xFFFFF000 | 7 << 8))
    assert interface(a) == 1
    assert iseg(a, 0x1FC) >> 31 == 1
    a.write(0x18, struct.pack(">I", 1))  # nobody is there
    pair.loop.advance(RESTART)
    assert iseg(a, 0x1FC) >> 31 == 0
    assert iseg(a, 0x23D, 1) == 0
    assert iseg(a, 0x238, 1) == 0
    assert interface(a) == 1
    a.forget()
    a.up(1)
    assert interface(a) == 0
    send(a)
    assert len(a.poll(a.sent_cq())) == 1


def test_a_restart_does_not_outlive_the_device(pair: Pair) -> None:
    a = pair.a
    a.write(0x14, struct.pack(">I", 7 << 8))
    a.frontend.reset()
    bar = a.frontend.host.bar
    bar[0x23D] = 0x55
    pair.loop.advance(RESTART)
    assert bar[0x23D] == 0x55


def test_a_device_says_whether_a_driver_is_served(pair: Pair) -> None:
    a = pair.a
    assert interface(a) == 0
    a.nic.faults.add(InterfaceDisabled(after=1))
    beats(pair, 1)
    assert interface(a) == 0
    beats(pair, 1)
    assert interface(a) == 1
    a.frontend.reset()
    assert interface(a) == 1
    assert iseg(a, 0x14) & 0xFF == 0x56


def test_no_fault_before_there_is_a_driver(pair: Pair) -> None:
    a = pair.a
    a.frontend.reset()
    a.nic.faults.add(InterfaceDisabled())
    a.nic.faults.add(FrozenCounter())
    beats(pair, 3)
    assert not fired(a)


def test_the_counter_stands_still_and_goes_on(pair: Pair) -> None:
    a = pair.a
    a.nic.faults.add(FrozenCounter(count=3))
    first = iseg(a, 0x1010)
    beats(pair, 3)
    assert iseg(a, 0x1010) == first
    beats(pair, 1)
    assert iseg(a, 0x1010) == first + 1


def test_a_lost_interrupt(pair: Pair) -> None:
    a = pair.a
    a.nic.faults.add(LostInterrupt())
    vectors = a.frontend.host.interrupts
    before = list(vectors)
    a.arm_cq(a.sent_cq())
    send(a)
    assert vectors == before
    assert a.poll_eq(a.eqs[3]), "the EQE is there"
    a.arm_cq(a.sent_cq())
    assert vectors[0] == before[0] + 1


@pytest.mark.parametrize("by_number", [True, False])
def test_a_wedged_queue_of_events(pair: Pair, by_number: bool) -> None:
    a = pair.a
    number = a.eqs[3] if by_number else None
    a.nic.faults.add(WedgedEq(number=number, count=0))
    a.arm_cq(a.sent_cq())
    send(a)
    assert a.poll_eq(a.eqs[3]) == []
    assert a.query(), "the queue of commands is another one"


def test_a_lost_event_of_a_command(pair: Pair) -> None:
    a = pair.a
    a.nic.faults.add(WedgedEq(reports=EventQueue.COMMAND))
    with pytest.raises(AssertionError):
        a.query()
    assert a.collect(a.slot - 1, 16), "it was executed"
    assert a.query()


def test_objects_run_out(pair: Pair) -> None:
    a = pair.a
    a.nic.faults.add(Exhaustion(objects="PD", limit=3, status=CommandStatus.LIM, count=0))
    a.run(Op.ALLOC_PD, c.AllocPdIn(), c.AllocPdOut)
    a.run(Op.ALLOC_PD, c.AllocPdIn(), c.AllocPdOut)
    with pytest.raises(Refused, match="status 0x8"):
        a.run(Op.ALLOC_PD, c.AllocPdIn(), c.AllocPdOut)
    a.run(Op.ALLOC_TRANSPORT_DOMAIN, c.AllocTransportDomainIn(), c.AllocTransportDomainOut)


def test_nothing_is_in_the_way_without_faults(pair: Pair) -> None:
    a = pair.a
    assert hooked(a) == []
    numbers = [
        a.nic.faults.add(fault)
        for fault in (LostCompletion(), LostInterrupt(), FrozenCounter(), Exhaustion(objects="SQ"))
    ]
    assert {"post", "interrupt", "beat", "create"} <= set(hooked(a))
    for number in numbers:
        a.nic.faults.remove(number)
    assert hooked(a) == []
    a.nic.faults.add(LostCompletion())
    send(a)
    pair.loop.run()
    assert hooked(a) == [], "a fault that is over leaves by itself"
    assert list(a.nic.faults) == []


def test_faults_are_kept_over_lives_and_for_new_queues(pair: Pair) -> None:
    a = pair.a
    a.nic.faults.add(LostCompletion(count=2))
    send(a)
    a.again(1)
    send(a)
    send(a)
    assert len(a.poll(a.sent_cq())) == 1
    assert len(fired(a)) == 2


def test_a_run_replays() -> None:
    def losses(seed: int) -> list[int]:
        pair = Pair(1)
        faults = pair.a.nic.faults
        faults._seed = seed
        faults.add(LostCompletion(probability=0.3, count=0))
        sent = [send(pair.a) for _ in range(40)]
        cqes = pair.a.poll(pair.a.sent_cq())
        came = {struct.unpack_from(">H", cqe, 0x3C)[0] for cqe in cqes}
        return [index for index in sent if index not in came]

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)
    assert 3 < len(losses(1)) < 25


def test_a_number_that_is_no_fault(pair: Pair) -> None:
    with pytest.raises(UserError, match="NIC a has no fault 7; it may be over"):
        pair.a.nic.faults.remove(7)


def test_every_kind_has_a_sentence_and_an_example() -> None:
    for name, kind in CATALOGUE.items():
        assert name == kind.KIND
        assert (kind.__doc__ or "").splitlines()[0].endswith(".")
        assert issubclass(kind, Fault)
