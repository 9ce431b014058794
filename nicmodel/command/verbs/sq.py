# SPDX-License-Identifier: GPL-2.0-or-later
"""Send queues (``transobj.c``, ``en_main.c`` mlx5e_create_sq)."""

from nicmodel.command.declaration import command
from nicmodel.command.firmware import Firmware
from nicmodel.command.verbs.buffer import work_queue, work_queue_context
from nicmodel.errors import CommandError
from nicmodel.objects.queue import QueueState, SqConfig
from nicmodel.spec.commands import (
    CreateSqIn,
    CreateSqOut,
    DestroySqIn,
    Done,
    ModifySqIn,
    QuerySqIn,
    QuerySqOut,
)
from nicmodel.spec.contexts import Sqc
from nicmodel.spec.opcodes import CommandOpcode
from nicmodel.spec.status import CommandStatus
from nicmodel.units import Tisn

LOG_WQEBB = range(6, 7)
"""A send queue's stride is one WQEBB of 64 bytes."""

TRANSITIONS = {
    QueueState.RST: {QueueState.RST, QueueState.RDY},
    QueueState.RDY: {QueueState.RDY, QueueState.ERR, QueueState.RST},
    QueueState.ERR: {QueueState.ERR, QueueState.RST},
}
"""Legal changes of state of send and receive queues (``en/reporter_*.c``)."""


def check_transition(
    kind: str, number: int, claimed: int, present: QueueState, new: QueueState
) -> None:
    """May MODIFY change the state so? The driver must know the present one (``claimed``)."""
    if claimed != present:
        raise CommandError(
            CommandStatus.BAD_RES_STATE,
            f"{kind} {number:#x} is {present.name}, not in state {claimed}",
        )
    if new not in TRANSITIONS[present]:
        raise CommandError(
            CommandStatus.BAD_RES_STATE,
            f"{kind} {number:#x} cannot go from {present.name} to {new.name}",
        )


@command(CommandOpcode.CREATE_SQ, request=CreateSqIn, reply=CreateSqOut)
def create_sq(firmware: Firmware, request: CreateSqIn) -> CreateSqOut:
    """Create a send queue in state RST; with a TIS it may send, without one it is internal."""
    objects, context = firmware.objects, request.ctx
    if context.state is not QueueState.RST:
        raise CommandError(CommandStatus.BAD_PARAM, "a send queue starts in state RST")
    if context.tis_lst_sz > 1 or context.hairpin:
        raise CommandError(
            CommandStatus.BAD_PARAM, "hairpin and more than one TIS are not supported"
        )
    if context.reg_umr and not firmware.profile.ethernet.reg_umr_sq:
        raise CommandError(CommandStatus.BAD_PARAM, "updates of memory keys are not offered")
    objects.cqs.get(context.cqn)
    objects.uars.get(context.wq.uar_page)
    tis = (context.tis_num_0,) if context.tis_lst_sz else ()
    for tisn in tis:
        objects.tises.get(tisn)
    wq = work_queue(firmware, context.wq, log_strides=LOG_WQEBB)
    sq = objects.sqs.create(
        lambda sqn: SqConfig(
            sqn, context.cqn, tis, context.min_wqe_inline_mode, wq, context.reg_umr
        )
    )
    objects.cqs.hold([sq.cqn])
    objects.tises.hold(tis)
    objects.pds.hold([wq.pd])
    objects.keep(wq.buffer)
    firmware.queues.create_sq(sq)
    return CreateSqOut(sqn=sq.sqn)


@command(CommandOpcode.MODIFY_SQ, request=ModifySqIn, reply=Done)
def modify_sq(firmware: Firmware, request: ModifySqIn) -> Done:
    """Change the state of a send queue; RST forgets its indices. Rate limits are refused."""
    sq = firmware.objects.sqs.get(request.sqn)
    if request.modify_bitmask:
        raise CommandError(CommandStatus.BAD_PARAM, "only the state of an SQ can be modified")
    present = firmware.queues.sq_state(sq.sqn)
    state = request.ctx.state
    check_transition("SQ", sq.sqn, request.sq_state, present, state)
    if state is not present:
        firmware.queues.modify_sq(sq.sqn, state)
    return Done()


@command(CommandOpcode.DESTROY_SQ, request=DestroySqIn, reply=Done)
def destroy_sq(firmware: Firmware, request: DestroySqIn) -> Done:
    """Destroy a send queue in any state; its memory is not touched again."""
    objects = firmware.objects
    sq = objects.sqs.remove(request.sqn)
    firmware.queues.destroy_sq(sq.sqn)
    objects.cqs.release([sq.cqn])
    objects.tises.release(sq.tis)
    objects.pds.release([sq.wq.pd])
    objects.drop(sq.wq.buffer)
    return Done()


@command(CommandOpcode.QUERY_SQ, request=QuerySqIn, reply=QuerySqOut)
def query_sq(firmware: Firmware, request: QuerySqIn) -> QuerySqOut:
    """Report state and configuration of a send queue."""
    sq = firmware.objects.sqs.get(request.sqn)
    return QuerySqOut(
        sq_context=Sqc(
            min_wqe_inline_mode=sq.min_wqe_inline_mode,
            state=firmware.queues.sq_state(sq.sqn),
            reg_umr=sq.reg_umr,
            cqn=sq.cqn,
            tis_lst_sz=len(sq.tis),
            tis_num_0=next(iter(sq.tis), Tisn(0)),
            wq=work_queue_context(sq.wq),
        )
    )
