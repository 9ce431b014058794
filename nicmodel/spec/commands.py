# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests and replies of commands (``mlx5_ifc.h``).

Every request starts with opcode, uid and op_mod, every reply with status and syndrome: the
dispatcher reads and writes these, a layout names only what a handler uses.
"""

from nicmodel.spec.contexts import Cqc, Eqc, Mkc, Rqc, Rqtc, Sqc, Tirc, Tisc
from nicmodel.spec.layout import Layout, bits, ints, layout, nested, raw, tail, u8, u16, u32, u64
from nicmodel.spec.steering import FlowContext, FlowTableContext, FteMatchParam
from nicmodel.spec.vport import (
    MacAddressLayout,
    ModifyNicVportFieldSelect,
    NicVportContext,
    TrafficCounter,
    VnicDiagnosticStatistics,
)
from nicmodel.units import (
    CounterSet,
    Cqn,
    Eqn,
    GroupId,
    Pdn,
    Rqn,
    Rqtn,
    Sqn,
    TableId,
    Tdn,
    Tirn,
    Tisn,
    Uar,
)


@layout(0x10, ifc="enable_hca_in disable_hca_in")
class EnableHcaIn(Layout):
    """ENABLE_HCA and DISABLE_HCA: which function."""

    embedded_cpu_function: bool = bits(0x8, 31, 31)
    function_id: int = u16(0xA)


@layout(0xC, ifc="enable_hca_out")
class EnableHcaOut(Layout):
    """Reply of ENABLE_HCA and DISABLE_HCA: 12 bytes, unlike all others."""


DONE_NAMES = """
    init_hca_out set_issi_out set_hca_cap_out dealloc_uar_out
    dealloc_pd_out dealloc_transport_domain_out destroy_mkey_out destroy_eq_out
    destroy_cq_out modify_cq_out destroy_sq_out modify_sq_out
    destroy_rq_out modify_rq_out destroy_tis_out destroy_tir_out
    modify_tir_out destroy_rqt_out modify_rqt_out dealloc_q_counter_out
    set_flow_table_root_out destroy_flow_table_out modify_flow_table_out destroy_flow_group_out
    set_fte_out delete_fte_out modify_nic_vport_context_out set_l2_table_entry_out
    delete_l2_table_entry_out set_driver_version_out
"""


@layout(0x10, ifc=DONE_NAMES)
class Done(Layout):
    """Reply that says nothing beyond status and syndrome."""


@layout(0x20, ifc="init_hca_in")
class InitHcaIn(Layout):
    """INIT_HCA."""


@layout(0x10, ifc="teardown_hca_in")
class TeardownHcaIn(Layout):
    """TEARDOWN_HCA: how gracefully."""

    profile: int = u16(0xA)


@layout(0x10, ifc="teardown_hca_out")
class TeardownHcaOut(Layout):
    """Reply of TEARDOWN_HCA."""

    state: bool = bits(0xC, 0, 0)


@layout(0x10, ifc="query_issi_in")
class QueryIssiIn(Layout):
    """QUERY_ISSI."""


@layout(0x70, ifc="query_issi_out")
class QueryIssiOut(Layout):
    """Which interface steps the device speaks."""

    current_issi: int = u16(0xA)
    supported_issi_dw0: int = u32(0x6C)


@layout(0x10, ifc="set_issi_in")
class SetIssiIn(Layout):
    """SET_ISSI."""

    current_issi: int = u16(0xA)


@layout(0x10, ifc="query_pages_in")
class QueryPagesIn(Layout):
    """QUERY_PAGES: op_mod 1 boot, 2 init, 3 regular."""

    op_mod: int = u16(0x6)
    embedded_cpu_function: bool = bits(0x8, 31, 31)
    function_id: int = u16(0xA)


@layout(0x10, ifc="query_pages_out")
class QueryPagesOut(Layout):
    """How many pages the device wants."""

    embedded_cpu_function: bool = bits(0x8, 31, 31)
    function_id: int = u16(0xA)
    num_pages: int = u32(0xC)


@layout(0x10, ifc="manage_pages_in")
class ManagePagesIn(Layout):
    """MANAGE_PAGES: op_mod 0 cannot give, 1 give, 2 take."""

    op_mod: int = u16(0x6)
    embedded_cpu_function: bool = bits(0x8, 31, 31)
    function_id: int = u16(0xA)
    input_num_entries: int = u32(0xC)
    pas: tuple[int, ...] = tail(0x10, 64)


@layout(0x10, ifc="manage_pages_out")
class ManagePagesOut(Layout):
    """Pages that the device gives back."""

    output_num_entries: int = u32(0x8)
    pas: tuple[int, ...] = tail(0x10, 64)


@layout(0x10, ifc="query_hca_cap_in")
class QueryHcaCapIn(Layout):
    """QUERY_HCA_CAP: op_mod is type << 1 | current."""

    op_mod: int = u16(0x6)
    other_function: bool = bits(0x8, 31, 31)
    function_id: int = u16(0xA)


@layout(0x1010, ifc="query_hca_cap_out")
class QueryHcaCapOut(Layout):
    """One capability block."""

    capability: bytes = raw(0x10, 0x1000)


@layout(0x1010, ifc="set_hca_cap_in")
class SetHcaCapIn(Layout):
    """SET_HCA_CAP: op_mod is type << 1."""

    op_mod: int = u16(0x6)
    other_function: bool = bits(0x8, 31, 31)
    function_id: int = u16(0xA)
    capability: bytes = raw(0x10, 0x1000)


@layout(0x10, ifc="query_adapter_in")
class QueryAdapterIn(Layout):
    """QUERY_ADAPTER."""


@layout(0x100, ifc="query_adapter_param_block")
class QueryAdapterParamBlock(Layout):
    """Who made the adapter."""

    ieee_vendor_id: int = bits(0x18, 23, 0)
    vsd_vendor_id: int = u16(0x1E)
    vsd: tuple[int, ...] = ints(0x20, 8, 208)
    vsd_contd_psid: tuple[int, ...] = ints(0xF0, 8, 16)


@layout(0x110, ifc="query_adapter_out")
class QueryAdapterOut(Layout):
    """Reply of QUERY_ADAPTER."""

    query_adapter_struct: QueryAdapterParamBlock = nested(0x10)


@layout(0x50, ifc="set_driver_version_in")
class SetDriverVersionIn(Layout):
    """SET_DRIVER_VERSION: text for the firmware log."""

    driver_version: tuple[int, ...] = ints(0x10, 8, 64)


@layout(0x10, ifc="alloc_uar_in")
class AllocUarIn(Layout):
    """ALLOC_UAR."""


@layout(0x10, ifc="alloc_uar_out")
class AllocUarOut(Layout):
    """The UAR page."""

    uar: Uar = bits(0x8, 23, 0)


@layout(0x10, ifc="dealloc_uar_in")
class DeallocUarIn(Layout):
    """DEALLOC_UAR."""

    uar: Uar = bits(0x8, 23, 0)


@layout(0x10, ifc="alloc_pd_in")
class AllocPdIn(Layout):
    """ALLOC_PD."""


@layout(0x10, ifc="alloc_pd_out")
class AllocPdOut(Layout):
    """The protection domain."""

    pd: Pdn = bits(0x8, 23, 0)


@layout(0x10, ifc="dealloc_pd_in")
class DeallocPdIn(Layout):
    """DEALLOC_PD."""

    pd: Pdn = bits(0x8, 23, 0)


@layout(0x10, ifc="alloc_transport_domain_in")
class AllocTransportDomainIn(Layout):
    """ALLOC_TRANSPORT_DOMAIN."""


@layout(0x10, ifc="alloc_transport_domain_out")
class AllocTransportDomainOut(Layout):
    """The transport domain."""

    transport_domain: Tdn = bits(0x8, 23, 0)


@layout(0x10, ifc="dealloc_transport_domain_in")
class DeallocTransportDomainIn(Layout):
    """DEALLOC_TRANSPORT_DOMAIN."""

    transport_domain: Tdn = bits(0x8, 23, 0)


@layout(0x110, ifc="create_mkey_in")
class CreateMkeyIn(Layout):
    """CREATE_MKEY; translation entries follow."""

    memory_key_mkey_entry: Mkc = nested(0x10)
    translations_octword_actual_size: int = u32(0x60)
    klm_pas_mtt: bytes = tail(0x110)


@layout(0x10, ifc="create_mkey_out")
class CreateMkeyOut(Layout):
    """The memory key."""

    mkey_index: int = bits(0x8, 23, 0)


@layout(0x10, ifc="destroy_mkey_in")
class DestroyMkeyIn(Layout):
    """DESTROY_MKEY."""

    mkey_index: int = bits(0x8, 23, 0)


@layout(0x110, ifc="create_eq_in")
class CreateEqIn(Layout):
    """CREATE_EQ; the pages of the queue follow."""

    eq_context_entry: Eqc = nested(0x10)
    event_bitmask: tuple[int, ...] = ints(0x58, 64, 4)
    pas: tuple[int, ...] = tail(0x110, 64)


@layout(0x10, ifc="create_eq_out")
class CreateEqOut(Layout):
    """The event queue."""

    eq_number: Eqn = u8(0xB)


@layout(0x10, ifc="destroy_eq_in")
class DestroyEqIn(Layout):
    """DESTROY_EQ."""

    eq_number: Eqn = u8(0xB)


@layout(0x10, ifc="query_eq_in")
class QueryEqIn(Layout):
    """QUERY_EQ."""

    eq_number: Eqn = u8(0xB)


@layout(0x110, ifc="query_eq_out")
class QueryEqOut(Layout):
    """Context of an event queue."""

    eq_context_entry: Eqc = nested(0x10)
    event_bitmask: int = u64(0x58)
    pas: tuple[int, ...] = tail(0x110, 64)


@layout(0x110, ifc="create_cq_in")
class CreateCqIn(Layout):
    """CREATE_CQ; the pages of the queue follow."""

    cq_context: Cqc = nested(0x10)
    cq_umem_valid: bool = bits(0x5C, 31, 31)
    pas: tuple[int, ...] = tail(0x110, 64)


@layout(0x10, ifc="create_cq_out")
class CreateCqOut(Layout):
    """The completion queue."""

    cqn: Cqn = bits(0x8, 23, 0)


@layout(0x10, ifc="destroy_cq_in")
class DestroyCqIn(Layout):
    """DESTROY_CQ."""

    cqn: Cqn = bits(0x8, 23, 0)


@layout(0x10, ifc="query_cq_in")
class QueryCqIn(Layout):
    """QUERY_CQ."""

    cqn: Cqn = bits(0x8, 23, 0)


@layout(0x110, ifc="query_cq_out")
class QueryCqOut(Layout):
    """Context of a completion queue."""

    cq_context: Cqc = nested(0x10)
    pas: tuple[int, ...] = tail(0x110, 64)


@layout(0x110, ifc="modify_cq_in")
class ModifyCqIn(Layout):
    """MODIFY_CQ: op_mod 0 fields, 1 resize."""

    op_mod: int = u16(0x6)
    cqn: Cqn = bits(0x8, 23, 0)
    modify_field_select_resize_field_select: int = u32(0xC)
    cq_context: Cqc = nested(0x10)
    pas: tuple[int, ...] = tail(0x110, 64)


@layout(0x110, ifc="create_sq_in")
class CreateSqIn(Layout):
    """CREATE_SQ."""

    ctx: Sqc = nested(0x20)


@layout(0x10, ifc="create_sq_out")
class CreateSqOut(Layout):
    """The send queue."""

    sqn: Sqn = bits(0x8, 23, 0)


@layout(0x110, ifc="modify_sq_in")
class ModifySqIn(Layout):
    """MODIFY_SQ: ``sq_state`` is the present state, ``ctx.state`` the new one."""

    sq_state: int = bits(0x8, 31, 28)
    sqn: Sqn = bits(0x8, 23, 0)
    modify_bitmask: int = u64(0x10)
    ctx: Sqc = nested(0x20)


@layout(0x10, ifc="destroy_sq_in")
class DestroySqIn(Layout):
    """DESTROY_SQ."""

    sqn: Sqn = bits(0x8, 23, 0)


@layout(0x10, ifc="query_sq_in")
class QuerySqIn(Layout):
    """QUERY_SQ."""

    sqn: Sqn = bits(0x8, 23, 0)


@layout(0x110, ifc="query_sq_out")
class QuerySqOut(Layout):
    """Context of a send queue."""

    sq_context: Sqc = nested(0x20)


@layout(0x110, ifc="create_rq_in")
class CreateRqIn(Layout):
    """CREATE_RQ."""

    ctx: Rqc = nested(0x20)


@layout(0x10, ifc="create_rq_out")
class CreateRqOut(Layout):
    """The receive queue."""

    rqn: Rqn = bits(0x8, 23, 0)


@layout(0x110, ifc="modify_rq_in")
class ModifyRqIn(Layout):
    """MODIFY_RQ: ``rq_state`` is the present state, ``ctx.state`` the new one."""

    rq_state: int = bits(0x8, 31, 28)
    rqn: Rqn = bits(0x8, 23, 0)
    modify_bitmask: int = u64(0x10)
    ctx: Rqc = nested(0x20)


@layout(0x10, ifc="destroy_rq_in")
class DestroyRqIn(Layout):
    """DESTROY_RQ."""

    rqn: Rqn = bits(0x8, 23, 0)


@layout(0x10, ifc="query_rq_in")
class QueryRqIn(Layout):
    """QUERY_RQ."""

    rqn: Rqn = bits(0x8, 23, 0)


@layout(0x110, ifc="query_rq_out")
class QueryRqOut(Layout):
    """Context of a receive queue."""

    rq_context: Rqc = nested(0x20)


@layout(0xC0, ifc="create_tis_in")
class CreateTisIn(Layout):
    """CREATE_TIS."""

    ctx: Tisc = nested(0x20)


@layout(0x10, ifc="create_tis_out")
class CreateTisOut(Layout):
    """The transport interface."""

    tisn: Tisn = bits(0x8, 23, 0)


@layout(0x10, ifc="destroy_tis_in")
class DestroyTisIn(Layout):
    """DESTROY_TIS."""

    tisn: Tisn = bits(0x8, 23, 0)


@layout(0x8, ifc="modify_tis_bitmask")
class ModifyTisBitmask(Layout):
    """Which fields MODIFY_TIS changes."""

    lag_tx_port_affinity: bool = bits(0x4, 2, 2)
    strict_lag_tx_port_affinity: bool = bits(0x4, 1, 1)
    prio: bool = bits(0x4, 0, 0)


@layout(0xC0, ifc="modify_tis_in")
class ModifyTisIn(Layout):
    """MODIFY_TIS."""

    tisn: Tisn = bits(0x8, 23, 0)
    bitmask: ModifyTisBitmask = nested(0x10)
    ctx: Tisc = nested(0x20)


@layout(0x110, ifc="create_tir_in")
class CreateTirIn(Layout):
    """CREATE_TIR."""

    ctx: Tirc = nested(0x20)


@layout(0x10, ifc="create_tir_out")
class CreateTirOut(Layout):
    """The transport interface."""

    icm_address_63_40: int = bits(0x0, 23, 0)
    icm_address_39_32: int = u8(0x8)
    tirn: Tirn = bits(0x8, 23, 0)
    icm_address_31_0: int = u32(0xC)


@layout(0x8, ifc="modify_tir_bitmask")
class ModifyTirBitmask(Layout):
    """Which fields MODIFY_TIR changes."""

    self_lb_en: bool = bits(0x4, 4, 4)
    hash: bool = bits(0x4, 2, 2)
    packet_merge: bool = bits(0x4, 0, 0)


@layout(0x110, ifc="modify_tir_in")
class ModifyTirIn(Layout):
    """MODIFY_TIR."""

    tirn: Tirn = bits(0x8, 23, 0)
    bitmask: ModifyTirBitmask = nested(0x10)
    ctx: Tirc = nested(0x20)


@layout(0x10, ifc="destroy_tir_in")
class DestroyTirIn(Layout):
    """DESTROY_TIR."""

    tirn: Tirn = bits(0x8, 23, 0)


@layout(0x110, ifc="create_rqt_in")
class CreateRqtIn(Layout):
    """CREATE_RQT."""

    rqt_context: Rqtc = nested(0x20)


@layout(0x10, ifc="create_rqt_out")
class CreateRqtOut(Layout):
    """The receive queue table."""

    rqtn: Rqtn = bits(0x8, 23, 0)


@layout(0x8, ifc="rqt_bitmask")
class RqtBitmask(Layout):
    """Which fields MODIFY_RQT changes."""

    rqn_list: bool = bits(0x4, 0, 0)


@layout(0x110, ifc="modify_rqt_in")
class ModifyRqtIn(Layout):
    """MODIFY_RQT."""

    rqtn: Rqtn = bits(0x8, 23, 0)
    bitmask: RqtBitmask = nested(0x10)
    ctx: Rqtc = nested(0x20)


@layout(0x10, ifc="destroy_rqt_in")
class DestroyRqtIn(Layout):
    """DESTROY_RQT."""

    rqtn: Rqtn = bits(0x8, 23, 0)


@layout(0x10, ifc="alloc_q_counter_in")
class AllocQCounterIn(Layout):
    """ALLOC_Q_COUNTER."""


@layout(0x10, ifc="alloc_q_counter_out")
class AllocQCounterOut(Layout):
    """The counter set."""

    counter_set_id: CounterSet = u8(0xB)


@layout(0x10, ifc="dealloc_q_counter_in")
class DeallocQCounterIn(Layout):
    """DEALLOC_Q_COUNTER."""

    counter_set_id: CounterSet = u8(0xB)


@layout(0x20, ifc="query_q_counter_in")
class QueryQCounterIn(Layout):
    """QUERY_Q_COUNTER."""

    clear: bool = bits(0x18, 31, 31)
    counter_set_id: CounterSet = u8(0x1F)


@layout(0x100, ifc="query_q_counter_out")
class QueryQCounterOut(Layout):
    """Counters of receive queues."""

    out_of_buffer: int = u32(0x30)


@layout(0x40, ifc="create_flow_table_in")
class CreateFlowTableIn(Layout):
    """CREATE_FLOW_TABLE."""

    other_vport: bool = bits(0x8, 31, 31)
    vport_number: int = u16(0xA)
    table_type: int = u8(0x10)
    flow_table_context: FlowTableContext = nested(0x18)


@layout(0x10, ifc="create_flow_table_out")
class CreateFlowTableOut(Layout):
    """The table."""

    table_id: TableId = bits(0x8, 23, 0)


@layout(0x40, ifc="destroy_flow_table_in")
class DestroyFlowTableIn(Layout):
    """DESTROY_FLOW_TABLE."""

    other_vport: bool = bits(0x8, 31, 31)
    vport_number: int = u16(0xA)
    table_type: int = u8(0x10)
    table_id: TableId = bits(0x14, 23, 0)


@layout(0x40, ifc="modify_flow_table_in")
class ModifyFlowTableIn(Layout):
    """MODIFY_FLOW_TABLE."""

    other_vport: bool = bits(0x8, 31, 31)
    vport_number: int = u16(0xA)
    modify_field_select: int = u16(0xE)
    table_type: int = u8(0x10)
    table_id: TableId = bits(0x14, 23, 0)
    flow_table_context: FlowTableContext = nested(0x18)


@layout(0x40, ifc="set_flow_table_root_in")
class SetFlowTableRootIn(Layout):
    """SET_FLOW_TABLE_ROOT: op_mod 0 connects, 1 disconnects."""

    op_mod: int = u16(0x6)
    other_vport: bool = bits(0x8, 31, 31)
    vport_number: int = u16(0xA)
    table_type: int = u8(0x10)
    table_id: TableId = bits(0x14, 23, 0)
    underlay_qpn: int = bits(0x18, 23, 0)


@layout(0x400, ifc="create_flow_group_in")
class CreateFlowGroupIn(Layout):
    """CREATE_FLOW_GROUP: entries start..end share ``match_criteria``."""

    other_vport: bool = bits(0x8, 31, 31)
    vport_number: int = u16(0xA)
    table_type: int = u8(0x10)
    group_type: int = bits(0x10, 19, 16)
    table_id: TableId = bits(0x14, 23, 0)
    source_eswitch_owner_vhca_id_valid: bool = bits(0x18, 31, 31)
    start_flow_index: int = u32(0x1C)
    end_flow_index: int = u32(0x24)
    match_definer_id: int = u16(0x2A)
    match_criteria_enable: int = u8(0x3F)
    match_criteria: FteMatchParam = nested(0x40)


@layout(0x10, ifc="create_flow_group_out")
class CreateFlowGroupOut(Layout):
    """The group."""

    group_id: GroupId = bits(0x8, 23, 0)


@layout(0x40, ifc="destroy_flow_group_in")
class DestroyFlowGroupIn(Layout):
    """DESTROY_FLOW_GROUP."""

    other_vport: bool = bits(0x8, 31, 31)
    vport_number: int = u16(0xA)
    table_type: int = u8(0x10)
    table_id: TableId = bits(0x14, 23, 0)
    group_id: GroupId = u32(0x18)


@layout(0x340, ifc="set_fte_in")
class SetFteIn(Layout):
    """SET_FLOW_TABLE_ENTRY: op_mod 0 new, 1 change."""

    op_mod: int = u16(0x6)
    other_vport: bool = bits(0x8, 31, 31)
    vport_number: int = u16(0xA)
    table_type: int = u8(0x10)
    table_id: TableId = bits(0x14, 23, 0)
    ignore_flow_level: bool = bits(0x18, 31, 31)
    modify_enable_mask: int = u8(0x1B)
    flow_index: int = u32(0x20)
    flow_context: FlowContext = nested(0x40)


@layout(0x40, ifc="delete_fte_in")
class DeleteFteIn(Layout):
    """DELETE_FLOW_TABLE_ENTRY."""

    other_vport: bool = bits(0x8, 31, 31)
    vport_number: int = u16(0xA)
    table_type: int = u8(0x10)
    table_id: TableId = bits(0x14, 23, 0)
    flow_index: int = u32(0x20)


@layout(0x10, ifc="query_nic_vport_context_in")
class QueryNicVportContextIn(Layout):
    """QUERY_NIC_VPORT_CONTEXT."""

    other_vport: bool = bits(0x8, 31, 31)
    vport_number: int = u16(0xA)
    allowed_list_type: int = bits(0xC, 26, 24)


@layout(0x110, ifc="query_nic_vport_context_out")
class QueryNicVportContextOut(Layout):
    """Context of the vport."""

    nic_vport_context: NicVportContext = nested(0x10)


@layout(0x200, ifc="modify_nic_vport_context_in")
class ModifyNicVportContextIn(Layout):
    """MODIFY_NIC_VPORT_CONTEXT."""

    other_vport: bool = bits(0x8, 31, 31)
    vport_number: int = u16(0xA)
    field_select: ModifyNicVportFieldSelect = nested(0xC)
    nic_vport_context: NicVportContext = nested(0x100)


@layout(0x10, ifc="query_vport_state_in")
class QueryVportStateIn(Layout):
    """QUERY_VPORT_STATE."""

    op_mod: int = u16(0x6)
    other_vport: bool = bits(0x8, 31, 31)
    vport_number: int = u16(0xA)


@layout(0x10, ifc="query_vport_state_out")
class QueryVportStateOut(Layout):
    """State of the vport."""

    admin_state: int = bits(0xC, 7, 4)
    state: int = bits(0xC, 3, 0)


@layout(0x20, ifc="query_vport_counter_in")
class QueryVportCounterIn(Layout):
    """QUERY_VPORT_COUNTER."""

    other_vport: bool = bits(0x8, 31, 31)
    port_num: int = bits(0x8, 19, 16)
    vport_number: int = u16(0xA)
    clear: bool = bits(0x18, 31, 31)


@layout(0x210, ifc="query_vport_counter_out")
class QueryVportCounterOut(Layout):
    """Traffic of the vport by class."""

    received_errors: TrafficCounter = nested(0x10)
    transmit_errors: TrafficCounter = nested(0x20)
    received_ib_unicast: TrafficCounter = nested(0x30)
    transmitted_ib_unicast: TrafficCounter = nested(0x40)
    received_ib_multicast: TrafficCounter = nested(0x50)
    transmitted_ib_multicast: TrafficCounter = nested(0x60)
    received_eth_broadcast: TrafficCounter = nested(0x70)
    transmitted_eth_broadcast: TrafficCounter = nested(0x80)
    received_eth_unicast: TrafficCounter = nested(0x90)
    transmitted_eth_unicast: TrafficCounter = nested(0xA0)
    received_eth_multicast: TrafficCounter = nested(0xB0)
    transmitted_eth_multicast: TrafficCounter = nested(0xC0)


@layout(0x10, ifc="query_vnic_env_in")
class QueryVnicEnvIn(Layout):
    """QUERY_VNIC_ENV."""

    other_vport: bool = bits(0x8, 31, 31)
    vport_number: int = u16(0xA)


@layout(0x210, ifc="query_vnic_env_out")
class QueryVnicEnvOut(Layout):
    """Diagnostics of the vport."""

    vport_env: VnicDiagnosticStatistics = nested(0x10)


@layout(0x40, ifc="set_l2_table_entry_in")
class SetL2TableEntryIn(Layout):
    """SET_L2_TABLE_ENTRY: a MAC that the physical function filters (MPFS)."""

    table_index: int = bits(0x14, 23, 0)
    vlan_valid: bool = bits(0x1C, 12, 12)
    vlan: int = bits(0x1C, 11, 0)
    mac_address: MacAddressLayout = nested(0x20)


@layout(0x40, ifc="delete_l2_table_entry_in")
class DeleteL2TableEntryIn(Layout):
    """DELETE_L2_TABLE_ENTRY."""

    table_index: int = bits(0x14, 23, 0)


@layout(0x10, ifc="access_register_in")
class AccessRegisterIn(Layout):
    """ACCESS_REG: op_mod 0 writes, 1 reads."""

    op_mod: int = u16(0x6)
    register_id: int = u16(0xA)
    argument: int = u32(0xC)
    register_data: bytes = tail(0x10)


@layout(0x10, ifc="access_register_out")
class AccessRegisterOut(Layout):
    """Data of the register."""

    register_data: bytes = tail(0x10)
