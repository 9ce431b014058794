# SPDX-License-Identifier: GPL-2.0-or-later
"""Event queues (``eq.c``)."""

from nicmodel.command.declaration import command
from nicmodel.command.firmware import Firmware
from nicmodel.command.verbs.buffer import page_list
from nicmodel.errors import CommandError
from nicmodel.objects.queue import EqConfig
from nicmodel.spec.commands import (
    CreateEqIn,
    CreateEqOut,
    DestroyEqIn,
    Done,
    QueryEqIn,
    QueryEqOut,
)
from nicmodel.spec.contexts import Eqc
from nicmodel.spec.eqe import EQE_SIZE
from nicmodel.spec.opcodes import CommandOpcode
from nicmodel.spec.status import CommandStatus


@command(CommandOpcode.CREATE_EQ, request=CreateEqIn, reply=CreateEqOut)
def create_eq(firmware: Firmware, request: CreateEqIn) -> CreateEqOut:
    """Create an event queue that raises MSI-X vector ``intr`` and takes the events of its mask."""
    objects, context = firmware.objects, request.eq_context_entry
    objects.uars.get(context.uar_page)
    if context.log_eq_size > firmware.profile.general.log_max_eq_sz:
        raise CommandError(CommandStatus.BAD_PARAM, f"2^{context.log_eq_size} EQEs are too many")
    if context.intr >= firmware.vectors:
        raise CommandError(CommandStatus.BAD_PARAM, f"there is no vector {context.intr}")
    buffer = page_list(
        objects,
        request.pas,
        context.log_page_size,
        EQE_SIZE << context.log_eq_size,
        context.page_offset,
    )
    mask = sum(word << 64 * index for index, word in enumerate(request.event_bitmask))
    eq = objects.eqs.create(
        lambda eqn: EqConfig(eqn, context.log_eq_size, context.uar_page, context.intr, mask, buffer)
    )
    objects.uars.hold([eq.uar])
    objects.keep(eq.buffer)
    firmware.queues.create_eq(eq)
    return CreateEqOut(eq_number=eq.eqn)


@command(CommandOpcode.DESTROY_EQ, request=DestroyEqIn, reply=Done)
def destroy_eq(firmware: Firmware, request: DestroyEqIn) -> Done:
    """Destroy an event queue that no completion queue uses."""
    eq = firmware.objects.eqs.remove(request.eq_number)
    firmware.queues.destroy_eq(eq.eqn)
    firmware.objects.uars.release([eq.uar])
    firmware.objects.drop(eq.buffer)
    return Done()


@command(CommandOpcode.QUERY_EQ, request=QueryEqIn, reply=QueryEqOut)
def query_eq(firmware: Firmware, request: QueryEqIn) -> QueryEqOut:
    """Report the configuration of an event queue."""
    eq = firmware.objects.eqs.get(request.eq_number)
    return QueryEqOut(
        eq_context_entry=Eqc(log_eq_size=eq.log_size, uar_page=eq.uar, intr=eq.vector),
        event_bitmask=eq.event_mask & (1 << 64) - 1,
    )
