# SPDX-License-Identifier: GPL-2.0-or-later
"""Completion queues (``cq.c``)."""

from dataclasses import replace
from enum import IntFlag

from nicmodel.command.declaration import command
from nicmodel.command.firmware import Firmware
from nicmodel.command.verbs.buffer import doorbell_record, page_list
from nicmodel.errors import CommandError
from nicmodel.objects.queue import CqConfig
from nicmodel.spec.commands import (
    CreateCqIn,
    CreateCqOut,
    DestroyCqIn,
    Done,
    ModifyCqIn,
    QueryCqIn,
    QueryCqOut,
)
from nicmodel.spec.contexts import Cqc
from nicmodel.spec.cqe import CQE_SIZE
from nicmodel.spec.opcodes import CommandOpcode
from nicmodel.spec.status import CommandStatus


class ModifyCq(IntFlag):
    """``modify_field_select`` (``cq.h`` MLX5_CQ_MODIFY_*)."""

    PERIOD = 0x1
    """``cq_period``."""
    MAX_COUNT = 0x2
    """``cq_max_count``."""
    OVERRUN = 0x4
    """``oi``."""


@command(CommandOpcode.CREATE_CQ, request=CreateCqIn, reply=CreateCqOut)
def create_cq(firmware: Firmware, request: CreateCqIn) -> CreateCqOut:
    """Create a completion queue of 64-byte CQEs that reports to an event queue."""
    objects, context = firmware.objects, request.cq_context
    objects.uars.get(context.uar_page)
    objects.eqs.get(context.c_eqn_or_apu_element)
    if context.cqe_sz or context.cqe_comp_en or context.apu_cq:
        raise CommandError(
            CommandStatus.BAD_PARAM, "only uncompressed CQEs of 64 bytes are supported"
        )
    if context.dbr_umem_valid or request.cq_umem_valid:
        raise CommandError(CommandStatus.BAD_PARAM, "user memory objects are not supported")
    if context.log_cq_size > firmware.profile.general.log_max_cq_sz:
        raise CommandError(CommandStatus.BAD_PARAM, f"2^{context.log_cq_size} CQEs are too many")
    buffer = page_list(
        objects,
        request.pas,
        context.log_page_size,
        CQE_SIZE << context.log_cq_size,
        context.page_offset,
    )
    dbr_addr = doorbell_record(context.dbr_addr)
    cq = objects.cqs.create(
        lambda cqn: CqConfig(
            cqn=cqn,
            log_size=context.log_cq_size,
            uar=context.uar_page,
            eqn=context.c_eqn_or_apu_element,
            dbr_addr=dbr_addr,
            period=context.cq_period,
            max_count=context.cq_max_count,
            overrun_ignore=context.oi,
            buffer=buffer,
        )
    )
    objects.eqs.hold([cq.eqn])
    objects.uars.hold([cq.uar])
    objects.keep(cq.buffer)
    firmware.queues.create_cq(cq)
    return CreateCqOut(cqn=cq.cqn)


@command(CommandOpcode.MODIFY_CQ, request=ModifyCqIn, reply=Done)
def modify_cq(firmware: Firmware, request: ModifyCqIn) -> Done:
    """Change moderation: period in microseconds and count of CQEs. Resizing is refused."""
    cq = firmware.objects.cqs.get(request.cqn)
    select = ModifyCq(request.modify_field_select_resize_field_select & 0x7)
    if request.op_mod or select != request.modify_field_select_resize_field_select:
        raise CommandError(
            CommandStatus.BAD_PARAM, "only period, count and overrun of a CQ can be modified"
        )
    context = request.cq_context
    if ModifyCq.PERIOD in select:
        cq = replace(cq, period=context.cq_period)
    if ModifyCq.MAX_COUNT in select:
        cq = replace(cq, max_count=context.cq_max_count)
    if ModifyCq.OVERRUN in select:
        cq = replace(cq, overrun_ignore=context.oi)
    firmware.objects.cqs.replace(cq.cqn, cq)
    firmware.queues.modify_cq(cq)
    return Done()


@command(CommandOpcode.DESTROY_CQ, request=DestroyCqIn, reply=Done)
def destroy_cq(firmware: Firmware, request: DestroyCqIn) -> Done:
    """Destroy a completion queue that no work queue uses; its memory is not touched again."""
    cq = firmware.objects.cqs.remove(request.cqn)
    firmware.queues.destroy_cq(cq.cqn)
    firmware.objects.eqs.release([cq.eqn])
    firmware.objects.uars.release([cq.uar])
    firmware.objects.drop(cq.buffer)
    return Done()


@command(CommandOpcode.QUERY_CQ, request=QueryCqIn, reply=QueryCqOut)
def query_cq(firmware: Firmware, request: QueryCqIn) -> QueryCqOut:
    """Report the configuration of a completion queue."""
    cq = firmware.objects.cqs.get(request.cqn)
    return QueryCqOut(
        cq_context=Cqc(
            oi=cq.overrun_ignore,
            log_cq_size=cq.log_size,
            uar_page=cq.uar,
            cq_period=cq.period,
            cq_max_count=cq.max_count,
            c_eqn_or_apu_element=cq.eqn,
            dbr_addr=cq.dbr_addr,
        )
    )
