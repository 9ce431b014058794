# SPDX-License-Identifier: GPL-2.0-or-later
"""Transport interface send (``transobj.c``, ``en_main.c`` mlx5e_create_tis)."""

from dataclasses import replace

from nicmodel.command.declaration import command
from nicmodel.command.firmware import Firmware
from nicmodel.errors import CommandError
from nicmodel.objects.transport import Tis
from nicmodel.spec.commands import CreateTisIn, CreateTisOut, DestroyTisIn, Done, ModifyTisIn
from nicmodel.spec.opcodes import CommandOpcode
from nicmodel.spec.status import CommandStatus


@command(CommandOpcode.CREATE_TIS, request=CreateTisIn, reply=CreateTisOut)
def create_tis(firmware: Firmware, request: CreateTisIn) -> CreateTisOut:
    """Create a TIS with a priority in a transport domain; with TLS, also in a protection domain."""
    objects, context = firmware.objects, request.ctx
    objects.tds.get(context.transport_domain)
    if context.tls_en and not firmware.profile.general.tls_tx:
        raise CommandError(CommandStatus.BAD_PARAM, "TLS send offload is not offered")
    if context.tls_en:
        objects.pds.get(context.pd)
    if context.underlay_qpn:
        raise CommandError(CommandStatus.BAD_PARAM, "there is no underlay QP on Ethernet")
    tis = objects.tises.create(
        lambda tisn: Tis(tisn, context.prio, context.tls_en, context.transport_domain, context.pd)
    )
    objects.tds.hold([tis.transport_domain])
    if tis.tls_en:
        objects.pds.hold([tis.pd])
    return CreateTisOut(tisn=tis.tisn)


@command(CommandOpcode.MODIFY_TIS, request=ModifyTisIn, reply=Done)
def modify_tis(firmware: Firmware, request: ModifyTisIn) -> Done:
    """Change the priority of a TIS."""
    tis = firmware.objects.tises.get(request.tisn)
    if request.bitmask.lag_tx_port_affinity:
        raise CommandError(CommandStatus.BAD_PARAM, "there is but one port")
    if request.bitmask.prio:
        firmware.objects.tises.replace(tis.tisn, replace(tis, prio=request.ctx.prio))
    return Done()


@command(CommandOpcode.DESTROY_TIS, request=DestroyTisIn, reply=Done)
def destroy_tis(firmware: Firmware, request: DestroyTisIn) -> Done:
    """Destroy a TIS that no send queue belongs to."""
    objects = firmware.objects
    tis = objects.tises.remove(request.tisn)
    objects.tds.release([tis.transport_domain])
    if tis.tls_en:
        objects.pds.release([tis.pd])
        firmware.queues.tis_destroyed(tis.tisn)
    return Done()
