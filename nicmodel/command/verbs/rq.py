# SPDX-License-Identifier: GPL-2.0-or-later
"""Receive queues (``transobj.c``, ``en_main.c`` mlx5e_create_rq)."""

from dataclasses import replace
from enum import IntFlag

from nicmodel.command.declaration import command
from nicmodel.command.firmware import Firmware
from nicmodel.command.verbs.buffer import work_queue, work_queue_context
from nicmodel.command.verbs.sq import check_transition
from nicmodel.errors import CommandError
from nicmodel.objects.queue import QueueState, RqConfig, Strides, WqConfig, WqType
from nicmodel.spec.commands import (
    CreateRqIn,
    CreateRqOut,
    DestroyRqIn,
    Done,
    ModifyRqIn,
    QueryRqIn,
    QueryRqOut,
)
from nicmodel.spec.contexts import Rqc, Wq
from nicmodel.spec.opcodes import CommandOpcode
from nicmodel.spec.status import CommandStatus

LOG_RQ_STRIDES = range(4, 11)
"""A receive WQE has 1 to 64 data segments of 16 bytes."""

LOG_LINKED_STRIDES = range(5, 6)
"""A WQE of a striding queue has a next segment and one data segment (``en.h`` mlx5e_rx_wqe_ll)."""

LOG_NUM_STRIDES_BASE = 9
"""``log_wqe_num_of_strides`` counts from here, signed (``device.h``
MLX5_MPWQE_LOG_NUM_STRIDES_BASE)."""

LOG_NUM_STRIDES = range(3, 17)
"""log2 of the strides of a WQE, with ``ext_stride_num_range``."""

LOG_STRIDE_SIZE_BASE = 6
"""``log_wqe_stride_size`` counts from here (``device.h`` MLX5_MPWQE_LOG_STRIDE_SZ_BASE)."""


class ModifyRq(IntFlag):
    """``modify_bitmask`` (MLX5_MODIFY_RQ_IN_MODIFY_BITMASK_*)."""

    VSD = 0x2
    """``vsd``: no VLAN stripping."""
    SCATTER_FCS = 0x4
    """``scatter_fcs``."""
    COUNTER_SET_ID = 0x8
    """``counter_set_id``."""


def _check(context: Rqc) -> None:
    if context.mem_rq_type or context.hairpin or context.shampo_match_criteria_type:
        raise CommandError(
            CommandStatus.BAD_PARAM, "only receive queues with WQEs of their own are supported"
        )
    if context.scatter_fcs:
        raise CommandError(CommandStatus.BAD_PARAM, "the frame check sequence is not modelled")


def _work_queue(firmware: Firmware, wq: Wq) -> WqConfig:
    if wq.wq_type is not WqType.LINKED_LIST_STRIDING_RQ:
        return work_queue(firmware, wq, log_strides=LOG_RQ_STRIDES)
    if not firmware.profile.general.striding_rq or wq.shampo_enable:
        raise CommandError(
            CommandStatus.BAD_PARAM, "this kind of striding receive queue is not offered"
        )
    number = LOG_NUM_STRIDES_BASE + (wq.log_wqe_num_of_strides ^ 8) - 8
    if number not in LOG_NUM_STRIDES:
        raise CommandError(CommandStatus.BAD_PARAM, f"2^{number} strides are not possible")
    config = work_queue(firmware, wq, log_strides=LOG_LINKED_STRIDES, kind=wq.wq_type)
    size = LOG_STRIDE_SIZE_BASE + wq.log_wqe_stride_size
    return replace(config, strides=Strides(number, size, wq.two_byte_shift_en))


def _work_queue_context(config: WqConfig) -> Wq:
    context, strides = work_queue_context(config), config.strides
    if strides is None:
        return context
    return replace(
        context,
        log_wqe_num_of_strides=strides.log_number - LOG_NUM_STRIDES_BASE & 0xF,
        log_wqe_stride_size=strides.log_size - LOG_STRIDE_SIZE_BASE,
        two_byte_shift_en=strides.two_byte_shift,
    )


@command(CommandOpcode.CREATE_RQ, request=CreateRqIn, reply=CreateRqOut)
def create_rq(firmware: Firmware, request: CreateRqIn) -> CreateRqOut:
    """Create a cyclic or striding receive queue in state RST."""
    objects, context = firmware.objects, request.ctx
    if context.state is not QueueState.RST:
        raise CommandError(CommandStatus.BAD_PARAM, "a receive queue starts in state RST")
    _check(context)
    objects.cqs.get(context.cqn)
    if context.counter_set_id:
        objects.counter_sets.get(context.counter_set_id)
    wq = _work_queue(firmware, context.wq)
    rq = objects.rqs.create(
        lambda rqn: RqConfig(
            rqn=rqn,
            cqn=context.cqn,
            counter_set=context.counter_set_id,
            vlan_strip_disable=context.vsd,
            scatter_fcs=context.scatter_fcs,
            wq=wq,
        )
    )
    objects.cqs.hold([rq.cqn])
    objects.pds.hold([wq.pd])
    objects.keep(wq.buffer)
    firmware.queues.create_rq(rq)
    return CreateRqOut(rqn=rq.rqn)


@command(CommandOpcode.MODIFY_RQ, request=ModifyRqIn, reply=Done)
def modify_rq(firmware: Firmware, request: ModifyRqIn) -> Done:
    """Change state, VLAN stripping or counter set of a receive queue."""
    objects, context = firmware.objects, request.ctx
    rq = objects.rqs.get(request.rqn)
    select = ModifyRq(request.modify_bitmask & 0xE)
    if select != request.modify_bitmask:
        raise CommandError(
            CommandStatus.BAD_PARAM, f"modify_bitmask {request.modify_bitmask:#x} is not supported"
        )
    present = firmware.queues.rq_state(rq.rqn)
    state = context.state
    check_transition("RQ", rq.rqn, request.rq_state, present, state)
    changed = rq
    if ModifyRq.VSD in select:
        changed = replace(changed, vlan_strip_disable=context.vsd)
    if ModifyRq.SCATTER_FCS in select:
        _check(context)
    if ModifyRq.COUNTER_SET_ID in select:
        if context.counter_set_id:
            objects.counter_sets.get(context.counter_set_id)
        changed = replace(changed, counter_set=context.counter_set_id)
    if changed != rq:
        objects.rqs.replace(rq.rqn, changed)
        firmware.queues.configure_rq(changed)
    if state is not present:
        firmware.queues.modify_rq(rq.rqn, state)
    return Done()


@command(CommandOpcode.DESTROY_RQ, request=DestroyRqIn, reply=Done)
def destroy_rq(firmware: Firmware, request: DestroyRqIn) -> Done:
    """Destroy a receive queue that no RQT or TIR names; its memory is not touched again."""
    objects = firmware.objects
    rq = objects.rqs.remove(request.rqn)
    firmware.queues.destroy_rq(rq.rqn)
    objects.cqs.release([rq.cqn])
    objects.pds.release([rq.wq.pd])
    objects.drop(rq.wq.buffer)
    return Done()


@command(CommandOpcode.QUERY_RQ, request=QueryRqIn, reply=QueryRqOut)
def query_rq(firmware: Firmware, request: QueryRqIn) -> QueryRqOut:
    """Report state and configuration of a receive queue."""
    rq = firmware.objects.rqs.get(request.rqn)
    return QueryRqOut(
        rq_context=Rqc(
            vsd=rq.vlan_strip_disable,
            state=firmware.queues.rq_state(rq.rqn),
            cqn=rq.cqn,
            counter_set_id=rq.counter_set,
            wq=_work_queue_context(rq.wq),
        )
    )
