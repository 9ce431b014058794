# SPDX-License-Identifier: GPL-2.0-or-later
"""Flow tables of NIC receive (``fs_cmd.c``)."""

from dataclasses import replace
from enum import IntFlag

from nicmodel.command.declaration import command
from nicmodel.command.firmware import Firmware
from nicmodel.command.verbs.hca import own_function
from nicmodel.errors import CommandError
from nicmodel.objects.flow import (
    Destinations,
    FlowAction,
    FlowEntry,
    TableConfig,
)
from nicmodel.offload.steer import MATCHABLE
from nicmodel.spec.commands import (
    CreateFlowGroupIn,
    CreateFlowGroupOut,
    CreateFlowTableIn,
    CreateFlowTableOut,
    DeleteFteIn,
    DestroyFlowGroupIn,
    DestroyFlowTableIn,
    Done,
    ModifyFlowTableIn,
    SetFlowTableRootIn,
    SetFteIn,
)
from nicmodel.spec.opcodes import CommandOpcode
from nicmodel.spec.status import CommandStatus
from nicmodel.spec.steering import DestinationType, FlowContext, FlowTableContext, FteMatchSetLyr24
from nicmodel.units import GroupId, TableId, Tirn

NIC_RX = 0
"""``table_type`` of NIC receive (FS_FT_NIC_RX), the only one that the capabilities offer."""

OUTER_HEADERS = 1
"""Bit of ``match_criteria_enable`` for ``outer_headers``."""

DISCONNECT = 1
"""``op_mod`` of SET_FLOW_TABLE_ROOT: no root any more."""

SELECT_MISS_TABLE = 1
"""Bit of MODIFY_FLOW_TABLE's ``modify_field_select``: miss action and id."""


class ModifyFte(IntFlag):
    """``modify_enable_mask`` of SET_FLOW_TABLE_ENTRY (MLX5_SET_FTE_MODIFY_ENABLE_MASK_*)."""

    ACTION = 0x1
    """``action``."""
    FLOW_TAG = 0x2
    """``flow_tag``."""
    DESTINATION_LIST = 0x4
    """Destinations."""
    FLOW_COUNTERS = 0x8
    """Counters: none are offered."""


_MATCHABLE = int.from_bytes(MATCHABLE.encode(), "big")


def _nic_rx(table_type: int, other_vport: bool, vport: int) -> None:
    own_function(other_vport, vport)
    if table_type != NIC_RX:
        raise CommandError(
            CommandStatus.BAD_PARAM, f"flow tables of type {table_type} are not offered"
        )


def _table_config(firmware: Firmware, context: FlowTableContext) -> TableConfig:
    limits = firmware.profile.flow_table.flow_table_properties_nic_receive
    if context.log_size > limits.log_max_ft_size or context.level > limits.max_ft_level:
        raise CommandError(
            CommandStatus.BAD_PARAM,
            f"a table of 2^{context.log_size} entries at level {context.level} is not possible",
        )
    if context.reformat_en or context.decap_en or context.sw_owner or context.termination_table:
        raise CommandError(CommandStatus.BAD_PARAM, "only plain flow tables are offered")
    return TableConfig(
        level=context.level,
        log_size=context.log_size,
        miss_action=context.table_miss_action,
        miss_id=context.table_miss_id,
    )


@command(CommandOpcode.CREATE_FLOW_TABLE, request=CreateFlowTableIn, reply=CreateFlowTableOut)
def create_flow_table(firmware: Firmware, request: CreateFlowTableIn) -> CreateFlowTableOut:
    """Create an empty flow table of NIC receive."""
    _nic_rx(request.table_type, request.other_vport, request.vport_number)
    config = _table_config(firmware, request.flow_table_context)
    return CreateFlowTableOut(table_id=firmware.objects.steering.create_table(config).table_id)


@command(CommandOpcode.MODIFY_FLOW_TABLE, request=ModifyFlowTableIn, reply=Done)
def modify_flow_table(firmware: Firmware, request: ModifyFlowTableIn) -> Done:
    """Change where the misses of a table go."""
    _nic_rx(request.table_type, request.other_vport, request.vport_number)
    steering = firmware.objects.steering
    table = steering.tables.get(request.table_id)
    if request.modify_field_select != SELECT_MISS_TABLE:
        raise CommandError(CommandStatus.BAD_PARAM, "only the miss table can be modified")
    context = request.flow_table_context
    steering.modify_table(
        table.table_id,
        replace(table.config, miss_action=context.table_miss_action, miss_id=context.table_miss_id),
    )
    return Done()


@command(CommandOpcode.DESTROY_FLOW_TABLE, request=DestroyFlowTableIn, reply=Done)
def destroy_flow_table(firmware: Firmware, request: DestroyFlowTableIn) -> Done:
    """Destroy a table without groups that no entry names; it may be the root."""
    _nic_rx(request.table_type, request.other_vport, request.vport_number)
    firmware.objects.steering.destroy_table(request.table_id)
    return Done()


@command(CommandOpcode.SET_FLOW_TABLE_ROOT, request=SetFlowTableRootIn, reply=Done)
def set_flow_table_root(firmware: Firmware, request: SetFlowTableRootIn) -> Done:
    """Say which table sees every frame first; without one, frames are dropped."""
    _nic_rx(request.table_type, request.other_vport, request.vport_number)
    if request.op_mod == DISCONNECT:
        firmware.objects.steering.set_root(None)
    else:
        firmware.objects.steering.set_root(request.table_id)
    return Done()


@command(CommandOpcode.CREATE_FLOW_GROUP, request=CreateFlowGroupIn, reply=CreateFlowGroupOut)
def create_flow_group(firmware: Firmware, request: CreateFlowGroupIn) -> CreateFlowGroupOut:
    """Give a range of entries one mask over the outer headers."""
    _nic_rx(request.table_type, request.other_vport, request.vport_number)
    enable = request.match_criteria_enable
    mask = _bits(request.match_criteria.outer_headers) if enable & OUTER_HEADERS else 0
    if enable & ~OUTER_HEADERS or mask & ~_MATCHABLE or request.group_type:
        raise CommandError(
            CommandStatus.BAD_PARAM, "the group matches on fields that are not offered"
        )
    group = firmware.objects.steering.create_group(
        request.table_id, request.start_flow_index, request.end_flow_index, mask
    )
    return CreateFlowGroupOut(group_id=group.group_id)


@command(CommandOpcode.DESTROY_FLOW_GROUP, request=DestroyFlowGroupIn, reply=Done)
def destroy_flow_group(firmware: Firmware, request: DestroyFlowGroupIn) -> Done:
    """Destroy a group without entries."""
    _nic_rx(request.table_type, request.other_vport, request.vport_number)
    firmware.objects.steering.destroy_group(request.table_id, GroupId(request.group_id))
    return Done()


@command(CommandOpcode.SET_FLOW_TABLE_ENTRY, request=SetFteIn, reply=Done)
def set_fte(firmware: Firmware, request: SetFteIn) -> Done:
    """Write an entry that forwards to TIRs and tables, or drops; op_mod 1 changes one."""
    _nic_rx(request.table_type, request.other_vport, request.vport_number)
    steering, context = firmware.objects.steering, request.flow_context
    entry = FlowEntry(
        index=request.flow_index,
        group_id=GroupId(context.group_id),
        value=_bits(context.match_value.outer_headers),
        action=_action(context),
        flow_tag=context.flow_tag,
        destinations=_destinations(firmware, context),
    )
    modify = request.op_mod == 1
    if modify:
        old = steering.entry(request.table_id, request.flow_index)
        mask = request.modify_enable_mask
        entry = replace(
            old,
            action=entry.action if mask & ModifyFte.ACTION else old.action,
            flow_tag=entry.flow_tag if mask & ModifyFte.FLOW_TAG else old.flow_tag,
            destinations=(
                entry.destinations if mask & ModifyFte.DESTINATION_LIST else old.destinations
            ),
        )
    steering.set_entry(request.table_id, entry, modify=modify)
    return Done()


@command(CommandOpcode.DELETE_FLOW_TABLE_ENTRY, request=DeleteFteIn, reply=Done)
def delete_fte(firmware: Firmware, request: DeleteFteIn) -> Done:
    """Delete an entry."""
    _nic_rx(request.table_type, request.other_vport, request.vport_number)
    firmware.objects.steering.delete_entry(request.table_id, request.flow_index)
    return Done()


def _bits(match: FteMatchSetLyr24) -> int:
    return int.from_bytes(match.encode(), "big")


def _action(context: FlowContext) -> FlowAction:
    action = FlowAction(context.action & 0x7)
    forwards = bool(action & FlowAction.FWD_DEST)
    if action != context.action or context.flow_counter_list_size or context.extended_destination:
        raise CommandError(
            CommandStatus.BAD_PARAM, f"flow action {context.action:#x} is not offered"
        )
    if not action or forwards != bool(context.destination_list_size):
        raise CommandError(
            CommandStatus.BAD_PARAM, "an entry forwards to destinations, or has none and drops"
        )
    return action


def _destinations(firmware: Firmware, context: FlowContext) -> Destinations:
    count = context.destination_list_size
    limits = firmware.profile.flow_table.flow_table_properties_nic_receive
    if count > 1 << limits.log_max_destination:
        raise CommandError(CommandStatus.BAD_PARAM, f"{count} destinations are too many")
    if count > len(context.destination):
        raise CommandError(
            CommandStatus.BAD_INP_LEN,
            f"{count} destinations are announced, {len(context.destination)} follow",
        )
    listed = context.destination[:count]
    if any(one.destination_type is DestinationType.VPORT for one in listed):
        raise CommandError(CommandStatus.BAD_PARAM, "a destination is no TIR and no flow table")

    def of(kind: DestinationType) -> list[int]:
        return [one.destination_id for one in listed if one.destination_type is kind]

    return Destinations(
        tirs=tuple(Tirn(number) for number in of(DestinationType.TIR)),
        tables=tuple(TableId(number) for number in of(DestinationType.FLOW_TABLE)),
    )
