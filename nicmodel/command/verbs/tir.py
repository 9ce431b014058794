# SPDX-License-Identifier: GPL-2.0-or-later
"""Transport interface receive (``transobj.c``, ``en/tir.c``, ``en/rss.c``)."""

from dataclasses import replace
from enum import IntFlag

from nicmodel.command.declaration import command
from nicmodel.command.firmware import Firmware
from nicmodel.errors import CommandError
from nicmodel.objects.transport import HashFields, Tir, TirDispType
from nicmodel.spec.commands import CreateTirIn, CreateTirOut, DestroyTirIn, Done, ModifyTirIn
from nicmodel.spec.contexts import RxHashFieldSelect
from nicmodel.spec.opcodes import CommandOpcode
from nicmodel.spec.status import CommandStatus
from nicmodel.units import Rqn, Rqtn


class SelectedField(IntFlag):
    """``selected_fields`` (MLX5_HASH_FIELD_SEL_*)."""

    SRC_IP = 0x1
    """Source address."""
    DST_IP = 0x2
    """Destination address."""
    L4_SPORT = 0x4
    """Source port."""
    L4_DPORT = 0x8
    """Destination port."""
    IPSEC_SPI = 0x10
    """SPI of ESP or AH."""


def _hash_fields(select: RxHashFieldSelect) -> HashFields:
    fields = select.selected_fields
    return HashFields(
        ipv6=bool(select.l3_prot_type),
        udp=bool(select.l4_prot_type),
        src_ip=bool(fields & SelectedField.SRC_IP),
        dst_ip=bool(fields & SelectedField.DST_IP),
        l4_sport=bool(fields & SelectedField.L4_SPORT),
        l4_dport=bool(fields & SelectedField.L4_DPORT),
        spi=bool(fields & SelectedField.IPSEC_SPI),
    )


@command(CommandOpcode.CREATE_TIR, request=CreateTirIn, reply=CreateTirOut)
def create_tir(firmware: Firmware, request: CreateTirIn) -> CreateTirOut:
    """Create a TIR that hands frames to one receive queue, or to one of an RQT by hash."""
    objects, context = firmware.objects, request.ctx
    objects.tds.get(context.transport_domain)
    if context.packet_merge_mask:
        raise CommandError(CommandStatus.BAD_PARAM, "packets are never merged (no LRO)")
    if context.tls_en and not firmware.profile.general.tls_rx:
        raise CommandError(CommandStatus.BAD_PARAM, "TLS receive offload is not offered")
    rqn, rqtn = Rqn(0), Rqtn(0)
    if context.disp_type is TirDispType.DIRECT:
        rqn = objects.rqs.get(context.inline_rqn).rqn
    else:
        rqtn = objects.rqts.get(context.indirect_table).rqtn
    tir = objects.tirs.create(
        lambda tirn: Tir(
            tirn=tirn,
            disp_type=context.disp_type,
            inline_rqn=rqn,
            rqtn=rqtn,
            rx_hash_fn=context.rx_hash_fn,
            symmetric=context.rx_hash_symmetric,
            toeplitz_key=context.rx_hash_toeplitz_key,
            outer_fields=_hash_fields(context.rx_hash_field_selector_outer),
            self_lb_block=context.self_lb_block,
            tls_en=context.tls_en,
            transport_domain=context.transport_domain,
        )
    )
    _hold(firmware, tir)
    objects.tds.hold([tir.transport_domain])
    return CreateTirOut(tirn=tir.tirn)


def _hold(firmware: Firmware, tir: Tir) -> None:
    if tir.disp_type is TirDispType.DIRECT:
        firmware.objects.rqs.hold([tir.inline_rqn])
    else:
        firmware.objects.rqts.hold([tir.rqtn])


@command(CommandOpcode.MODIFY_TIR, request=ModifyTirIn, reply=Done)
def modify_tir(firmware: Firmware, request: ModifyTirIn) -> Done:
    """Change the hash or the loopback of a TIR."""
    context, bitmask = request.ctx, request.bitmask
    tir = firmware.objects.tirs.get(request.tirn)
    if bitmask.packet_merge and context.packet_merge_mask:
        raise CommandError(CommandStatus.BAD_PARAM, "packets are never merged (no LRO)")
    if bitmask.self_lb_en:
        tir = replace(tir, self_lb_block=context.self_lb_block)
    if bitmask.hash:
        tir = replace(
            tir,
            rx_hash_fn=context.rx_hash_fn,
            symmetric=context.rx_hash_symmetric,
            toeplitz_key=context.rx_hash_toeplitz_key,
            outer_fields=_hash_fields(context.rx_hash_field_selector_outer),
        )
    firmware.objects.tirs.replace(tir.tirn, tir)
    return Done()


@command(CommandOpcode.DESTROY_TIR, request=DestroyTirIn, reply=Done)
def destroy_tir(firmware: Firmware, request: DestroyTirIn) -> Done:
    """Destroy a TIR that no flow table entry names."""
    objects = firmware.objects
    tir = objects.tirs.remove(request.tirn)
    if tir.disp_type is TirDispType.DIRECT:
        objects.rqs.release([tir.inline_rqn])
    else:
        objects.rqts.release([tir.rqtn])
    objects.tds.release([tir.transport_domain])
    return Done()
