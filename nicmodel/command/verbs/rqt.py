# SPDX-License-Identifier: GPL-2.0-or-later
"""Receive queue tables: RSS indirection (``en/rqt.c``)."""

from dataclasses import replace

from nicmodel.command.declaration import command
from nicmodel.command.firmware import Firmware
from nicmodel.errors import CommandError
from nicmodel.objects.transport import Rqt
from nicmodel.spec.commands import CreateRqtIn, CreateRqtOut, DestroyRqtIn, Done, ModifyRqtIn
from nicmodel.spec.contexts import Rqtc
from nicmodel.spec.opcodes import CommandOpcode
from nicmodel.spec.status import CommandStatus
from nicmodel.units import Rqn


def _queues(firmware: Firmware, context: Rqtc, max_size: int) -> tuple[Rqn, ...]:
    """The queues of ``context``, cut to the actual size, which the hash makes a power of two."""
    size = context.rqt_actual_size
    if not 0 < size <= max_size or size & size - 1:
        raise CommandError(
            CommandStatus.BAD_PARAM, f"an RQT of {size} of {max_size} entries is not possible"
        )
    if context.list_q_type:
        raise CommandError(CommandStatus.BAD_PARAM, "an RQT lists receive queues only")
    if len(context.rq_num) < size:
        raise CommandError(
            CommandStatus.BAD_INP_LEN,
            f"{size} entries are announced, {len(context.rq_num)} follow",
        )
    rqns = tuple(Rqn(number & 0xFFFFFF) for number in context.rq_num[:size])
    for rqn in set(rqns):
        firmware.objects.rqs.get(rqn)
    return rqns


@command(CommandOpcode.CREATE_RQT, request=CreateRqtIn, reply=CreateRqtOut)
def create_rqt(firmware: Firmware, request: CreateRqtIn) -> CreateRqtOut:
    """Create an indirection table of receive queues."""
    objects, context = firmware.objects, request.rqt_context
    if context.rqt_max_size > 1 << firmware.profile.general.log_max_rqt_size:
        raise CommandError(
            CommandStatus.BAD_PARAM, f"an RQT of {context.rqt_max_size} entries is too large"
        )
    rqns = _queues(firmware, context, context.rqt_max_size)
    rqt = objects.rqts.create(lambda rqtn: Rqt(rqtn, context.rqt_max_size, rqns))
    objects.rqs.hold(rqns)
    return CreateRqtOut(rqtn=rqt.rqtn)


@command(CommandOpcode.MODIFY_RQT, request=ModifyRqtIn, reply=Done)
def modify_rqt(firmware: Firmware, request: ModifyRqtIn) -> Done:
    """Replace the receive queues of a table, and how many they are."""
    objects = firmware.objects
    rqt = objects.rqts.get(request.rqtn)
    if request.bitmask.rqn_list:
        rqns = _queues(firmware, request.ctx, rqt.max_size)
        objects.rqs.hold(rqns)
        objects.rqs.release(rqt.rqns)
        objects.rqts.replace(rqt.rqtn, replace(rqt, rqns=rqns))
    return Done()


@command(CommandOpcode.DESTROY_RQT, request=DestroyRqtIn, reply=Done)
def destroy_rqt(firmware: Firmware, request: DestroyRqtIn) -> Done:
    """Destroy a table that no TIR uses."""
    rqt = firmware.objects.rqts.remove(request.rqtn)
    firmware.objects.rqs.release(rqt.rqns)
    return Done()
