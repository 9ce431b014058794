# SPDX-License-Identifier: GPL-2.0-or-later
"""Where each kind of fault bites.

A fault stands between a part and those who call it: it takes the place of one public verb of one
object. Parts that no fault is for are left alone, so they cost nothing.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from nicmodel.clock import Scheduler
from nicmodel.command.interface import CommandInterface, refusal
from nicmodel.errors import CommandError, QueueFault
from nicmodel.faults.armed import Armed, Held
from nicmodel.faults.catalogue import (
    CommandFailure,
    CommandTimeout,
    CqeError,
    EventFault,
    EventQueue,
    Exhaustion,
    FrozenCounter,
    Health,
    InterfaceDisabled,
    LateCompletion,
    LostCompletion,
    LostInterrupt,
    WorkFault,
    WorkQueue,
)
from nicmodel.objects.table import ObjectTable
from nicmodel.pci.init_segment import InitSegment, NicInterface
from nicmodel.queues.cq import Cq
from nicmodel.queues.datapath import Datapath, Queue
from nicmodel.queues.eq import Eq
from nicmodel.queues.rq import Rq
from nicmodel.queues.sq import Sq
from nicmodel.spec.cqe import CQE_SIZE, OP_OWN, CqeOpcode
from nicmodel.spec.eqe import EventType
from nicmodel.spec.mailbox import RequestHeader

Part = Queue | CommandInterface | InitSegment | ObjectTable[int, object]
"""What a fault can be for."""

Cqe = bytes | bytearray
Post = Callable[[Cqe], None]
Execute = Callable[[bytes, int], bytes | None]

_VERBS = ("post", "post_many", "interrupt", "execute", "beat", "create")
"""Verbs whose place is taken."""

_SENDS = (CqeOpcode.REQ, CqeOpcode.REQ_ERR)
_RECEIVES = (CqeOpcode.RESP_SEND, CqeOpcode.RESP_ERR)

_EMERGENCY, _WARNING = 0, 4
"""Log levels that the health buffer asks for (``kern_levels.h``)."""


def free(part: Part) -> None:
    """Undo every hook of ``part``."""
    for verb in _VERBS:
        vars(part).pop(verb, None)
    if isinstance(part, Sq | Rq):
        part.intercept(())


def hook(part: Part, faults: list[Armed], datapath: Datapath, scheduler: Scheduler) -> None:
    """Put those of ``faults`` that are for ``part`` in its way."""
    if isinstance(part, Sq | Rq):
        part.intercept([check for armed in faults for check in _checks(armed, part)])
        cq = datapath.cq(part.config.cqn)
        for armed in faults:
            _completions(armed, part, cq, datapath, scheduler)
    elif isinstance(part, Eq):
        for armed in faults:
            _events(armed, part)
    elif isinstance(part, CommandInterface):
        for armed in faults:
            _commands(armed, part, scheduler)
    elif isinstance(part, InitSegment):
        for armed in faults:
            _heartbeats(armed, part)
    elif isinstance(part, ObjectTable):
        for armed in faults:
            _creations(armed, part)


def _replace(part: Part, verb: str, by: Callable[..., Any]) -> None:
    """Call ``by`` in the place of ``verb``; its first argument is what it replaces."""
    setattr(part, verb, partial(by, getattr(part, verb)))


def _name(part: Sq | Rq) -> str:
    return f"SQ {part.config.sqn:#x}" if isinstance(part, Sq) else f"RQ {part.config.rqn:#x}"


def _meant(fault: WorkFault, part: Sq | Rq) -> bool:
    if isinstance(part, Sq):
        if fault.queue is not WorkQueue.SQ:
            return False
        return bool(part.config.tis) if fault.number is None else fault.number == part.config.sqn
    return fault.queue is WorkQueue.RQ and fault.number in (None, part.config.rqn)


def _checks(armed: Armed, part: Sq | Rq) -> Iterator[Callable[[], None]]:
    fault = armed.fault
    if not isinstance(fault, CqeError) or not _meant(fault, part):
        return
    syndrome = fault.syndrome
    what = f"a WQE of {_name(part)} fails with {syndrome.name}"

    def check() -> None:
        if armed.fires(what):
            raise QueueFault("the injected fault", syndrome)

    yield check


def _completions(
    armed: Armed, part: Sq | Rq, cq: Cq, datapath: Datapath, scheduler: Scheduler
) -> None:
    fault = armed.fault
    if not isinstance(fault, LateCompletion | LostCompletion) or not _meant(fault, part):
        return
    ours = _SENDS if isinstance(part, Sq) else _RECEIVES
    _replace(cq, "post_many", partial(_post_each, cq))
    name = _name(part)
    if isinstance(fault, LostCompletion):

        def lose(post: Post, cqe: Cqe) -> None:
            if cqe[OP_OWN] >> 4 not in ours or not armed.fires(f"a CQE of {name} is lost"):
                post(cqe)

        _replace(cq, "post", lose)
        return
    seconds = fault.delay_ms / 1000
    what = f"a CQE of {name} is {fault.delay_ms} ms late"

    def delay(post: Post, cqe: Cqe) -> None:
        if cqe[OP_OWN] >> 4 not in ours:
            post(cqe)
        elif held := armed.late.get(cq):
            held.cqes.append(bytes(cqe))
        elif armed.fires(what):
            armed.late[cq] = Held(post, [bytes(cqe)])
            scheduler.call_later(seconds, release)
        else:
            post(cqe)

    def release() -> None:
        armed.release(cq)
        datapath.report()

    _replace(cq, "post", delay)


def _post_each(cq: Cq, _many: Callable[[bytearray], None], cqes: bytearray) -> None:
    """``Cq.post_many`` one by one, so that each CQE is an occasion."""
    for at in range(0, len(cqes), CQE_SIZE):
        cq.post(cqes[at : at + CQE_SIZE])


def _role(part: Eq) -> EventQueue:
    mask = part.config.event_mask
    if mask >> EventType.CMD & 1:
        return EventQueue.COMMAND
    return EventQueue.ASYNC if mask else EventQueue.COMPLETION


def _events(armed: Armed, part: Eq) -> None:
    fault = armed.fault
    if not isinstance(fault, EventFault):
        return
    if fault.number is None:
        meant = fault.reports is _role(part)
    else:
        meant = fault.number == part.config.eqn
    if not meant:
        return
    name = f"EQ {part.config.eqn:#x}"

    def keep_silent(interrupt: Callable[[], None]) -> None:
        if not armed.fires(f"vector {part.config.vector} of {name} is not raised"):
            interrupt()

    def refuse(post: Callable[[int, int, bytes], None], kind: int, sub: int, data: bytes) -> None:
        if not armed.fires(f"{name} takes no event"):
            post(kind, sub, data)

    if isinstance(fault, LostInterrupt):
        _replace(part, "interrupt", keep_silent)
    else:
        _replace(part, "post", refuse)


def _commands(armed: Armed, part: CommandInterface, scheduler: Scheduler) -> None:
    fault = armed.fault
    if not isinstance(fault, CommandFailure | CommandTimeout):
        return
    name = fault.command.name

    def execute(plain: Execute, data: bytes, outlen: int) -> bytes | None:
        header = RequestHeader.decode(data.ljust(RequestHeader.SIZE, b"\0"))
        if header.opcode != fault.command:
            return plain(data, outlen)
        if isinstance(fault, CommandTimeout):
            return hang(fault, plain, data, outlen)
        if armed.fires(f"{name} ends with {fault.status.name}, syndrome {fault.syndrome:#x}"):
            return refusal(fault.status, fault.syndrome, outlen)
        return plain(data, outlen)

    def hang(fault: CommandTimeout, plain: Execute, data: bytes, outlen: int) -> bytes | None:
        late = fault.delay_ms
        slot = part.serving
        if armed.take(slot):
            return plain(data, outlen)
        if not armed.fires(f"{name} is looked at {late} ms later" if late else f"{name} hangs"):
            return plain(data, outlen)
        if late:
            armed.slots.add(slot)
            scheduler.call_later(late / 1000, partial(serve, slot))
        return None

    def serve(slot: int) -> None:
        if slot in armed.slots:
            part.doorbell(1 << slot)

    _replace(part, "execute", execute)


def _heartbeats(armed: Armed, part: InitSegment) -> None:
    """Only heartbeats while a driver is served count: before, nobody would see the fault."""
    fault = armed.fault

    def beat(plain: Callable[[], None]) -> None:
        served = part.state is NicInterface.FULL
        if isinstance(fault, FrozenCounter):
            if served and armed.fires("the health counter stands still"):
                return
        elif isinstance(fault, InterfaceDisabled):
            if served and armed.fires("the device says that it serves no driver"):
                part.set_state(NicInterface.DISABLED)
        elif isinstance(fault, Health):
            wish = "and asks for a restart" if fault.fatal else "and goes on"
            if served and armed.fires(f"the firmware reports {fault.syndrome.name} {wish}"):
                severity = _EMERGENCY if fault.fatal else _WARNING
                part.set_health(fault.syndrome, severity, restart=fault.fatal)
        plain()

    if isinstance(fault, FrozenCounter | InterfaceDisabled | Health):
        _replace(part, "beat", beat)


def _creations(armed: Armed, part: ObjectTable[int, object]) -> None:
    fault = armed.fault
    if not isinstance(fault, Exhaustion) or fault.objects != part.kind.replace(" ", "-"):
        return

    def create(plain: Callable[[Any], Any], make: Any) -> Any:
        full = len(part) >= fault.limit
        if full and armed.fires(f"there is no {part.kind} left behind the first {fault.limit}"):
            raise CommandError(fault.status, "the injected fault")
        return plain(make)

    _replace(part, "create", create)
