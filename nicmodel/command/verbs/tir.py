# SPDX-License-Identifier: GPL-2.0-or-later
"""Transport interface receive (``transobj.c``, ``en/tir.c``, ``en/rss.c``)."""

from dataclasses import replace
from enum import IntFlag

from nicmodel.command.declaration import command
from nicmodel.command.firmware import Firmware
from nicmodel.errors import CommandError
from nicmodel.objects.transport import HashFields, PacketMerge, Tir, TirDispType
from nicmodel.spec.commands import CreateTirIn, CreateTirOut, DestroyTirIn, Done, ModifyTirIn
from nicmodel.spec.contexts import RxHashFieldSelect, Tirc
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


class PacketMergeMask(IntFlag):
    """``packet_merge_mask`` (MLX5_TIRC_PACKET_MERGE_MASK_*)."""

    IPV4_LRO = 0x1
    """TCP over IPv4."""
    IPV6_LRO = 0x2
    """TCP over IPv6."""


LRO_PAYLOAD_UNIT = 256
"""Bytes of one unit of ``lro_max_ip_payload_size`` (``en/tir.c``)."""


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


def _packet_merge(firmware: Firmware, context: Tirc) -> PacketMerge | None:
    """What the context says of LRO; CommandError for what is not offered."""
    mask = context.packet_merge_mask
    if not mask:
        return None
    ethernet = firmware.profile.ethernet
    if not ethernet.lro_cap or mask & ~int(PacketMergeMask.IPV4_LRO | PacketMergeMask.IPV6_LRO):
        raise CommandError(CommandStatus.BAD_PARAM, f"packet_merge_mask {mask:#x} is not offered")
    if context.lro_timeout_period_usecs not in ethernet.lro_timer_supported_periods:
        raise CommandError(
            CommandStatus.BAD_PARAM,
            f"an LRO timeout of {context.lro_timeout_period_usecs} us is not offered",
        )
    return PacketMerge(
        ipv4=bool(mask & PacketMergeMask.IPV4_LRO),
        ipv6=bool(mask & PacketMergeMask.IPV6_LRO),
        max_ip_payload=context.lro_max_ip_payload_size * LRO_PAYLOAD_UNIT,
    )


@command(CommandOpcode.CREATE_TIR, request=CreateTirIn, reply=CreateTirOut)
def create_tir(firmware: Firmware, request: CreateTirIn) -> CreateTirOut:
    """Create a TIR that hands frames to one receive queue, or to one of an RQT by hash."""
    objects, context = firmware.objects, request.ctx
    objects.tds.get(context.transport_domain)
    merge = _packet_merge(firmware, context)
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
            merge=merge,
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
    """Change the hash, the loopback or the merging of packets (LRO) of a TIR."""
    context, bitmask = request.ctx, request.bitmask
    tir = firmware.objects.tirs.get(request.tirn)
    if bitmask.packet_merge:
        tir = replace(tir, merge=_packet_merge(firmware, context))
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
    if tir.tls_en:
        firmware.queues.tir_destroyed(tir.tirn)
    return Done()
