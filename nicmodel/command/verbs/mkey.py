# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory keys (``mr.c``)."""

from nicmodel.command.declaration import command
from nicmodel.command.firmware import Firmware
from nicmodel.errors import CommandError
from nicmodel.objects.transport import MemoryKey
from nicmodel.spec.commands import CreateMkeyIn, CreateMkeyOut, DestroyMkeyIn, Done
from nicmodel.spec.opcodes import CommandOpcode
from nicmodel.spec.status import CommandStatus
from nicmodel.units import GuestAddr, Mkey


@command(CommandOpcode.CREATE_MKEY, request=CreateMkeyIn, reply=CreateMkeyOut)
def create_mkey(firmware: Firmware, request: CreateMkeyIn) -> CreateMkeyOut:
    """Create a key in physical-address mode, over all memory or a range of it."""
    objects, context = firmware.objects, request.memory_key_mkey_entry
    if context.access_mode_1_0 or context.access_mode_4_2 or context.free:
        raise CommandError(
            CommandStatus.BAD_PARAM, "only memory keys in physical-address mode are supported"
        )
    objects.pds.get(context.pd)
    index = objects.create_mkey(
        MemoryKey(
            lkey=Mkey(context.mkey_7_0),
            pd=context.pd,
            everything=context.length64,
            start=GuestAddr(context.start_addr),
            length=context.len,
        )
    )
    objects.pds.hold([context.pd])
    return CreateMkeyOut(mkey_index=index)


@command(CommandOpcode.DESTROY_MKEY, request=DestroyMkeyIn, reply=Done)
def destroy_mkey(firmware: Firmware, request: DestroyMkeyIn) -> Done:
    """Destroy a key; WQEs that still name it fail."""
    key = firmware.objects.destroy_mkey(Mkey(request.mkey_index))
    firmware.objects.pds.release([key.pd])
    return Done()
