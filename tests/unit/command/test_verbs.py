# SPDX-License-Identifier: GPL-2.0-or-later
"""What single commands do, one short conversation each."""

from dataclasses import replace
from typing import Any

import pytest

from nicmodel.command.caps import BLOCK, CONNECTX6DX, PROFILES, CapType
from nicmodel.command.describe import rows
from nicmodel.command.registry import REGISTRY
from nicmodel.command.verbs.mkey import MAX_MTTS
from nicmodel.errors import QueueFault
from nicmodel.objects.queue import Strides
from nicmodel.objects.store import MAX_TRANSLATIONS
from nicmodel.objects.transport import HashFields
from nicmodel.spec import commands as c
from nicmodel.spec.capabilities import (
    CmdHcaCap,
    FlowTableNicCap,
    PerProtocolNetworkingOffloadCaps,
    TlsCap,
)
from nicmodel.spec.contexts import (
    Cqc,
    Mkc,
    QueueState,
    Rqc,
    Rqtc,
    RxHashFieldSelect,
    RxHashFn,
    Sqc,
    Tirc,
    Wq,
    WqType,
)
from nicmodel.spec.layout import Layout
from nicmodel.spec.opcodes import CommandOpcode as Op
from nicmodel.spec.registers import PmtuReg
from nicmodel.spec.status import CommandStatus
from nicmodel.spec.steering import (
    DestFormatStruct,
    DestinationType,
    FlowContext,
    FlowTableContext,
    FteMatchParam,
    FteMatchSetLyr24,
    FteMatchSetMisc,
)
from nicmodel.spec.vport import ModifyNicVportFieldSelect, NicVportContext
from nicmodel.trace.events import UnknownRegister
from nicmodel.units import CounterSet, Rqn
from tests.unit.command.fake_driver import MAC, Refused
from tests.unit.command.lifecycle import Driver


@pytest.fixture
def driver() -> Driver:
    driver = Driver()
    driver.up()
    return driver


def refused(
    driver: Driver, opcode: Op, request: Layout, reply: type[Layout], status: CommandStatus
) -> None:
    with pytest.raises(Refused) as error:
        driver.run(opcode, request, reply)
    assert error.value.status == status


def test_the_profile_is_what_the_driver_needs_for_a_netdev() -> None:
    """``dev.c`` mlx5_eth_supported, ``en_main.c`` mlx5e_attach_netdev, ``lib/clock.c``."""
    general = CmdHcaCap.decode(CONNECTX6DX.block(CapType.GENERAL))
    ethernet = PerProtocolNetworkingOffloadCaps.decode(CONNECTX6DX.block(CapType.ETHERNET_OFFLOADS))
    flow = FlowTableNicCap.decode(CONNECTX6DX.block(CapType.FLOW_TABLE))
    receive = flow.flow_table_properties_nic_receive
    tls = TlsCap.decode(CONNECTX6DX.block(CapType.TLS))
    assert (general.port_type, general.num_ports) == (1, 1)
    assert general.eth_net_offloads
    assert general.nic_flow_table
    assert general.max_wqe_sz_sq >= 1024
    assert min(general.max_num_eqs, 1 << general.log_max_eq) > 4
    assert general.log_max_current_mc_list
    assert ethernet.csum_cap
    assert ethernet.max_lso_cap
    assert ethernet.vlan_cap
    assert ethernet.rss_ind_tbl_cap
    assert receive.ft_support
    assert receive.modify_root
    assert receive.identified_miss_table_mode
    assert receive.max_ft_level >= 66
    assert receive.log_max_ft_size >= 16
    assert receive.ft_field_support.outer_ip_version  # fs_tcp.c mlx5e_accel_fs_tcp_create
    # kTLS: all or nothing (ktls.c mlx5e_ktls_init).
    offered = {
        general.tls_tx,
        general.tls_rx,
        bool(general.log_max_dek),
        tls.tls_1_2_aes_gcm_128,
        tls.tls_1_2_aes_gcm_256,
        bool(general.general_obj_types >> 0xC & 1),
    }
    assert offered == {True}
    assert not tls.tls_1_3_aes_gcm_128
    assert not tls.tls_1_3_aes_gcm_256


def test_nothing_is_advertised_that_is_not_done() -> None:
    for profile in PROFILES.values():
        general, ethernet = profile.general, profile.ethernet
        # en_main.c mlx5e_check_fragmented_striding_rq_cap: all three or none
        assert general.striding_rq == general.umr_ptr_rlky == ethernet.reg_umr_sq
        # en_main.c mlx5e_choose_lro_timeout: the periods ascend
        periods = ethernet.lro_timer_supported_periods
        assert bool(periods[0]) == ethernet.lro_cap
        assert list(periods) == sorted(periods)
        assert not ethernet.scatter_fcs
        assert not ethernet.swp
        assert ethernet.wqe_inline_mode == 2
        for kind in CapType:
            assert len(profile.block(kind)) == BLOCK


def test_set_hca_cap_changes_what_is_current_only() -> None:
    driver = Driver()
    driver.start()
    driver.run(Op.ENABLE_HCA, c.EnableHcaIn(), c.EnableHcaOut)
    most = driver.caps(0, current=False)
    changed = b"\1\2\3" + most[3:]
    driver.run(Op.SET_HCA_CAP, c.SetHcaCapIn(capability=changed), c.Done)
    assert driver.caps(0) == changed
    assert driver.caps(0, current=False) == most
    driver.run(Op.INIT_HCA, c.InitHcaIn(), c.Done)
    refused(driver, Op.SET_HCA_CAP, c.SetHcaCapIn(), c.Done, CommandStatus.BAD_SYS_STATE)


def test_pages_come_back_each_exactly_once() -> None:
    driver = Driver()
    driver.enable()
    given = set(driver.given)
    assert len(given) == CONNECTX6DX.boot_pages + CONNECTX6DX.init_pages
    out = driver.run(
        Op.MANAGE_PAGES,
        c.ManagePagesIn(op_mod=2, input_num_entries=1000),
        c.ManagePagesOut,
        room=8000,
    )
    assert set(out.pas[: out.output_num_entries]) == given
    assert out.output_num_entries == len(given)
    out = driver.run(
        Op.MANAGE_PAGES, c.ManagePagesIn(op_mod=2, input_num_entries=5), c.ManagePagesOut, room=40
    )
    assert out.output_num_entries == 0


@pytest.mark.parametrize(
    ("pages", "count", "status"),
    [
        ((0x1000, 0x1000), 2, CommandStatus.BAD_PARAM),
        ((0x1001,), 1, CommandStatus.BAD_PARAM),
        ((0x400000,), 1, CommandStatus.BAD_PARAM),
        ((0x1000,), 2, CommandStatus.BAD_INP_LEN),
    ],
)
def test_pages_that_make_no_sense_are_refused(
    pages: tuple[int, ...], count: int, status: CommandStatus
) -> None:
    driver = Driver()
    driver.enable()
    before = dict(driver.firmware.pages)
    request = c.ManagePagesIn(op_mod=1, input_num_entries=count, pas=pages)
    refused(driver, Op.MANAGE_PAGES, request, c.ManagePagesOut, status)
    assert driver.firmware.pages == before


def test_moderation_of_a_cq_is_handed_on(driver: Driver) -> None:
    cqn = driver.channels[0].cqs[0]
    assert (driver.queues.cqs[cqn].period, driver.queues.cqs[cqn].max_count) == (16, 64)
    request = c.ModifyCqIn(
        cqn=cqn,
        modify_field_select_resize_field_select=1,
        cq_context=Cqc(cq_period=3, cq_max_count=9),
    )
    driver.run(Op.MODIFY_CQ, request, c.Done)
    assert (driver.queues.cqs[cqn].period, driver.queues.cqs[cqn].max_count) == (3, 64)
    out = driver.run(Op.QUERY_CQ, c.QueryCqIn(cqn=cqn), c.QueryCqOut).cq_context
    assert (out.cq_period, out.log_cq_size) == (3, 10)
    resize = c.ModifyCqIn(op_mod=1, cqn=cqn)
    refused(driver, Op.MODIFY_CQ, resize, c.Done, CommandStatus.BAD_PARAM)


def test_recovery_of_a_send_queue(driver: Driver) -> None:
    """``en/reporter_tx.c``: QUERY_SQ must say ERR, then ERR -> RST -> RDY."""
    sqn = driver.channels[0].sqs[2]
    driver.queues.states["SQ", sqn] = QueueState.ERR
    out = driver.run(Op.QUERY_SQ, c.QuerySqIn(sqn=sqn), c.QuerySqOut).sq_context
    assert (out.state, out.tis_num_0) == (QueueState.ERR, driver.tises[0])
    ready = c.ModifySqIn(sq_state=3, sqn=sqn, ctx=Sqc(state=QueueState.RDY))
    refused(driver, Op.MODIFY_SQ, ready, c.Done, CommandStatus.BAD_RES_STATE)
    reset = c.ModifySqIn(sq_state=3, sqn=sqn, ctx=Sqc(state=QueueState.RST))
    driver.run(Op.MODIFY_SQ, reset, c.Done)
    refused(driver, Op.MODIFY_SQ, ready, c.Done, CommandStatus.BAD_RES_STATE)
    ready = c.ModifySqIn(sq_state=0, sqn=sqn, ctx=Sqc(state=QueueState.RDY))
    driver.run(Op.MODIFY_SQ, ready, c.Done)
    assert driver.queues.states["SQ", sqn] is QueueState.RDY


def test_vlan_stripping_can_change_while_a_receive_queue_runs(driver: Driver) -> None:
    rqn = driver.channels[0].rq
    request = c.ModifyRqIn(
        rq_state=1, rqn=rqn, modify_bitmask=2, ctx=Rqc(state=QueueState.RDY, vsd=True)
    )
    driver.run(Op.MODIFY_RQ, request, c.Done)
    assert driver.queues.rqs[rqn].vlan_strip_disable
    out = driver.run(Op.QUERY_RQ, c.QueryRqIn(rqn=rqn), c.QueryRqOut).rq_context
    assert (out.vsd, out.state) == (True, QueueState.RDY)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"cqn": 999}, CommandStatus.BAD_RES),
        ({"counter_set_id": 99}, CommandStatus.BAD_RES),
        ({"state": QueueState.RDY}, CommandStatus.BAD_PARAM),
        ({"mem_rq_type": 1}, CommandStatus.BAD_PARAM),
        ({"scatter_fcs": True}, CommandStatus.BAD_PARAM),
    ],
)
def test_receive_queues_that_make_no_sense_are_refused(
    driver: Driver, change: dict[str, Any], status: CommandStatus
) -> None:
    fields: dict[str, Any] = {"cqn": driver.drop_cq, "wq": driver.wq(4, 4), **change}
    before = driver.objects.leaked()
    refused(driver, Op.CREATE_RQ, c.CreateRqIn(ctx=Rqc(**fields)), c.CreateRqOut, status)
    assert driver.objects.leaked() == before


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"pd": 999}, CommandStatus.BAD_RES),
        ({"wq_type": 2}, CommandStatus.BAD_PARAM),
        ({"dbr_addr": 4}, CommandStatus.BAD_PARAM),
        ({"log_wq_sz": 16}, CommandStatus.BAD_PARAM),
        ({"log_wq_stride": 3}, CommandStatus.BAD_PARAM),
        ({"pas": ()}, CommandStatus.BAD_INP_LEN),
        ({"pas": (0x1004,)}, CommandStatus.BAD_PARAM),
        ({"page_offset": 1}, CommandStatus.BAD_PARAM),
    ],
)
def test_work_queues_that_make_no_sense_are_refused(
    driver: Driver, change: dict[str, Any], status: CommandStatus
) -> None:
    sane = driver.wq(4, 4)
    fields: dict[str, Any] = {name: getattr(sane, name) for name in sane.SPANS}
    context = Rqc(cqn=driver.drop_cq, wq=Wq(**{**fields, **change}))
    refused(driver, Op.CREATE_RQ, c.CreateRqIn(ctx=context), c.CreateRqOut, status)


@pytest.mark.parametrize("sizes", [(0, 4), (3, 4), (8, 4), (4, 4096)])
def test_rqts_of_impossible_size_are_refused(driver: Driver, sizes: tuple[int, int]) -> None:
    actual, most = sizes
    context = Rqtc(
        rqt_actual_size=actual, rqt_max_size=most, rq_num=(driver.drop_rq,) * max(1, actual)
    )
    request = c.CreateRqtIn(rqt_context=context)
    refused(driver, Op.CREATE_RQT, request, c.CreateRqtOut, CommandStatus.BAD_PARAM)


def test_an_rqt_is_cut_to_its_actual_size_and_follows_modify(driver: Driver) -> None:
    rqt = driver.objects.rqts.find(driver.rqts[0])
    assert rqt is not None
    assert len(rqt.rqns) == 256
    version = driver.objects.receive_version
    driver.modify_rqt(driver.rqts[0], [driver.drop_rq])
    rqt = driver.objects.rqts.find(driver.rqts[0])
    assert rqt is not None
    assert rqt.rqns == (driver.drop_rq,)
    assert driver.objects.receive_version > version
    missing = Rqtc(rqt_actual_size=1, rq_num=(Rqn(999),))
    request = c.ModifyRqtIn(rqtn=driver.rqts[0], bitmask=c.RqtBitmask(rqn_list=True), ctx=missing)
    refused(driver, Op.MODIFY_RQT, request, c.Done, CommandStatus.BAD_RES)


def test_modify_tir_changes_what_the_bitmask_says(driver: Driver) -> None:
    tirn = driver.tirs[0]
    before = driver.objects.tirs.get(tirn)
    fields = RxHashFieldSelect(l3_prot_type=True, l4_prot_type=True, selected_fields=0b01111)
    context = Tirc(
        rx_hash_fn=RxHashFn.TOEPLITZ,
        rx_hash_toeplitz_key=b"\x5a" * 40,
        rx_hash_field_selector_outer=fields,
        self_lb_block=3,
    )
    request = c.ModifyTirIn(tirn=tirn, bitmask=c.ModifyTirBitmask(hash=True), ctx=context)
    driver.run(Op.MODIFY_TIR, request, c.Done)
    after = driver.objects.tirs.get(tirn)
    assert after.toeplitz_key == b"\x5a" * 40
    assert after.outer_fields == HashFields(True, True, True, True, True, True, False)
    assert (after.self_lb_block, after.rqtn) == (before.self_lb_block, before.rqtn)


def mtt_key(driver: Driver, count: int, given: bytes = b"", **fields: Any) -> c.CreateMkeyIn:
    """CREATE_MKEY as ``en_main.c`` mlx5e_create_umr_mkey sends it."""
    settings: dict[str, Any] = {
        "free": True,
        "umr_en": True,
        "access_mode_1_0": 1,
        "pd": driver.pd,
        "len": count << 12,
        "translations_octword_size": count // 2,
        "log_page_size": 12,
    }
    return c.CreateMkeyIn(
        memory_key_mkey_entry=Mkc(**settings | fields),
        translations_octword_actual_size=len(given) // 16,
        klm_pas_mtt=given,
    )


def test_a_memory_key_with_translations(driver: Driver) -> None:
    given = b"".join((0x1000 * page).to_bytes(8, "big") for page in (7, 5, 3, 9))
    made = driver.run(Op.CREATE_MKEY, mtt_key(driver, 8, given), c.CreateMkeyOut).mkey_index
    key = driver.objects.translated_key(made << 8)
    assert key is not None
    assert list(key.table) == [0x7000, 0x5000, 0x3000, 0x9000, 0, 0, 0, 0]
    assert (key.free, key.umr, key.length, key.page_shift) == (True, True, 8 << 12, 12)
    key.free = False
    assert list(key.pieces(0xFF0, 0x1020)) == [(0x7FF0, 0x10), (0x5000, 0x1000), (0x3000, 0x10)]
    assert driver.objects.translate(made << 8, 0x2010, 0xFF0) == 0x3010
    for addr, length in ((0x7FFF, 2), (0x8000, 1), (0xFFF, 2)):
        with pytest.raises(QueueFault):
            driver.objects.translate(made << 8, addr, length)
    driver.run(Op.DESTROY_MKEY, c.DestroyMkeyIn(mkey_index=made), c.Done)
    assert driver.objects.translated_key(made << 8) is None


def test_memory_keys_that_are_not_possible(driver: Driver) -> None:
    for request in (
        mtt_key(driver, 2, access_mode_1_0=2),  # KLM
        mtt_key(driver, 2, access_mode_1_0=3),  # KSM
        mtt_key(driver, 2, access_mode_4_2=1),
        mtt_key(driver, 2, access_mode_1_0=0),  # a free key in physical-address mode
        mtt_key(driver, 0),
        mtt_key(driver, MAX_MTTS + 2),
        mtt_key(driver, 2, log_page_size=11),
    ):
        refused(driver, Op.CREATE_MKEY, request, c.CreateMkeyOut, CommandStatus.BAD_PARAM)
    for count, given in ((2, bytes(32)), (4, bytes(16))):
        request = mtt_key(driver, count, given)
        request = replace(request, translations_octword_actual_size=2)
        refused(driver, Op.CREATE_MKEY, request, c.CreateMkeyOut, CommandStatus.BAD_INP_LEN)
    assert driver.objects.leaked()["mkey"] == 1


def test_translations_are_bounded_over_all_memory_keys(driver: Driver) -> None:
    made = []
    for _ in range(MAX_TRANSLATIONS // MAX_MTTS):
        request = mtt_key(driver, MAX_MTTS)
        made.append(driver.run(Op.CREATE_MKEY, request, c.CreateMkeyOut).mkey_index)
    refused(driver, Op.CREATE_MKEY, mtt_key(driver, 2), c.CreateMkeyOut, CommandStatus.LIM)
    driver.run(Op.DESTROY_MKEY, c.DestroyMkeyIn(mkey_index=made[0]), c.Done)
    driver.run(Op.CREATE_MKEY, mtt_key(driver, MAX_MTTS), c.CreateMkeyOut)


def striding_rq(driver: Driver, number: int, size: int, **fields: Any) -> c.CreateRqIn:
    """CREATE_RQ as ``en/params.c`` mlx5e_build_rq_param asks for it."""
    wq = replace(
        driver.wq(3, 5),
        wq_type=WqType.LINKED_LIST_STRIDING_RQ,
        log_wqe_num_of_strides=number - 9 & 0xF,
        log_wqe_stride_size=size - 6,
        **fields,
    )
    return c.CreateRqIn(ctx=Rqc(cqn=driver.channels[0].cqs[0], wq=wq))


@pytest.mark.parametrize(("number", "size"), [(7, 11), (10, 8), (3, 6), (16, 13), (9, 6)])
def test_striding_receive_queues(driver: Driver, number: int, size: int) -> None:
    request = striding_rq(driver, number, size, two_byte_shift_en=True)
    rqn = driver.run(Op.CREATE_RQ, request, c.CreateRqOut).rqn
    assert driver.objects.rqs.get(rqn).wq.strides == Strides(number, size, True)
    said = driver.run(Op.QUERY_RQ, c.QueryRqIn(rqn=rqn), c.QueryRqOut).rq_context.wq
    wanted = request.ctx.wq
    assert said.wq_type is wanted.wq_type
    assert said.log_wqe_num_of_strides == wanted.log_wqe_num_of_strides
    assert said.log_wqe_stride_size == wanted.log_wqe_stride_size
    assert said.two_byte_shift_en


def test_striding_receive_queues_that_are_not_possible(driver: Driver) -> None:
    for request in (
        striding_rq(driver, 2, 8),
        striding_rq(driver, 1, 8),
        striding_rq(driver, 7, 8, shampo_enable=True),
        striding_rq(driver, 7, 8, log_wq_stride=4),
        striding_rq(driver, 7, 8, log_wq_stride=6),
    ):
        refused(driver, Op.CREATE_RQ, request, c.CreateRqOut, CommandStatus.BAD_PARAM)


def flow_group(**fields: Any) -> c.CreateFlowGroupIn:
    return c.CreateFlowGroupIn(start_flow_index=100, end_flow_index=100, **fields)


def test_groups_that_match_on_what_is_not_parsed_are_refused(driver: Driver) -> None:
    misc = FteMatchParam(misc_parameters=FteMatchSetMisc(source_sqn=1))
    dscp = FteMatchParam(outer_headers=FteMatchSetLyr24(ip_dscp=1))
    for enable, criteria in ((2, misc), (1, dscp), (4, FteMatchParam())):
        request = flow_group(
            table_id=driver.ttc, match_criteria_enable=enable, match_criteria=criteria
        )
        refused(
            driver, Op.CREATE_FLOW_GROUP, request, c.CreateFlowGroupOut, CommandStatus.BAD_PARAM
        )


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"action": 0x8}, CommandStatus.BAD_PARAM),
        ({"action": 0}, CommandStatus.BAD_PARAM),
        ({"action": 0x2}, CommandStatus.BAD_PARAM),
        ({"destination_list_size": 2}, CommandStatus.BAD_INP_LEN),
        ({"destination_list_size": 0}, CommandStatus.BAD_PARAM),
        (
            {
                "destination_list_size": 3,
                "destination": (DestFormatStruct(destination_type=DestinationType.TIR),) * 3,
            },
            CommandStatus.BAD_PARAM,
        ),
        (
            {"destination": (DestFormatStruct(destination_type=DestinationType.VPORT),)},
            CommandStatus.BAD_PARAM,
        ),
        (
            {
                "destination": (
                    DestFormatStruct(destination_type=DestinationType.TIR, destination_id=999),
                )
            },
            CommandStatus.BAD_RES,
        ),
        ({"group_id": 999}, CommandStatus.BAD_RES),
    ],
)
def test_entries_that_make_no_sense_are_refused(
    driver: Driver, change: dict[str, Any], status: CommandStatus
) -> None:
    fields: dict[str, Any] = {
        "group_id": driver.l2_exact,
        "action": 4,
        "destination_list_size": 1,
        "destination": (
            DestFormatStruct(destination_type=DestinationType.TIR, destination_id=driver.tirs[0]),
        ),
    }
    request = c.SetFteIn(
        table_id=driver.l2, flow_index=9, flow_context=FlowContext(**{**fields, **change})
    )
    refused(driver, Op.SET_FLOW_TABLE_ENTRY, request, c.Done, status)


def test_modifying_an_entry_keeps_what_the_mask_leaves_out(driver: Driver) -> None:
    entry = driver.objects.steering.entry(driver.ttc, 0)
    other = FteMatchSetLyr24(ip_version=6)
    driver.set_entry(
        driver.ttc, entry.group_id, 0, other, DestinationType.TIR, driver.tirs[5], modify=True
    )
    changed = driver.objects.steering.entry(driver.ttc, 0)
    assert changed.destinations.tirs == (driver.tirs[5],)
    assert (changed.value, changed.action) == (entry.value, entry.action)


def test_tables_other_than_nic_receive_are_refused(driver: Driver) -> None:
    for request in (
        c.CreateFlowTableIn(table_type=1),
        c.CreateFlowTableIn(flow_table_context=FlowTableContext(log_size=23)),
        c.CreateFlowTableIn(flow_table_context=FlowTableContext(level=81)),
        c.CreateFlowTableIn(flow_table_context=FlowTableContext(termination_table=True)),
    ):
        refused(
            driver, Op.CREATE_FLOW_TABLE, request, c.CreateFlowTableOut, CommandStatus.BAD_PARAM
        )


def test_lists_of_the_vport_are_kept_apart(driver: Driver) -> None:
    addresses_list = ModifyNicVportFieldSelect(addresses_list=True)
    for kind, entries in ((0, (0x020000000001,)), (1, (0x01005E000001, 0x333300000001)), (2, ())):
        context = NicVportContext(
            allowed_list_type=kind,
            allowed_list_size=len(entries),
            current_uc_mac_address=entries,
        )
        driver.modify_vport(addresses_list, context)
    context = NicVportContext(
        allowed_list_type=2, allowed_list_size=2, current_uc_mac_address=(0, 0x64 << 32)
    )
    driver.modify_vport(addresses_list, context)
    vport = driver.firmware.vport
    assert vport.uc == (bytes.fromhex("020000000001"),)
    assert [mac.hex() for mac in vport.mc] == ["01005e000001", "333300000001"]
    assert vport.vlans == (0, 100)
    out = driver.run(
        Op.QUERY_NIC_VPORT_CONTEXT,
        c.QueryNicVportContextIn(allowed_list_type=1),
        c.QueryNicVportContextOut,
        room=16,
    ).nic_vport_context
    assert out.allowed_list_size == 2
    assert out.current_uc_mac_address == (0x01005E000001, 0x333300000001)
    assert out.permanent_address.encode() == bytes(2) + MAC


def test_promiscuous_modes_and_mtu_of_the_vport(driver: Driver) -> None:
    select = ModifyNicVportFieldSelect(promisc=True, mtu=True)
    driver.modify_vport(select, NicVportContext(promisc_all=True, mtu=9022))
    vport = driver.firmware.vport
    assert (vport.promisc_all, vport.promisc_uc, vport.mtu) == (True, False, 9022)


def register(driver: Driver, number: int, data: bytes, *, write: bool = False) -> bytes:
    return driver.access(number, data, write=write)


def test_queue_counters_start_at_zero_and_can_be_cleared(driver: Driver) -> None:
    number = driver.counter_sets[0]

    def dropped(*, clear: bool = False) -> int:
        request = c.QueryQCounterIn(counter_set_id=number, clear=clear)
        return driver.run(Op.QUERY_Q_COUNTER, request, c.QueryQCounterOut).out_of_buffer

    driver.queues.drops = 7
    assert dropped() == 7
    assert dropped(clear=True) == 7
    driver.queues.drops = 9
    assert dropped() == 2
    request = c.QueryQCounterIn(counter_set_id=CounterSet(200))
    refused(driver, Op.QUERY_Q_COUNTER, request, c.QueryQCounterOut, CommandStatus.BAD_RES)


def test_mtu_of_the_port_is_bounded(driver: Driver) -> None:
    def mtu(size: int) -> int:
        request = PmtuReg(local_port=1, admin_mtu=size).encode()
        return PmtuReg.decode(register(driver, 0x5003, request, write=True)).oper_mtu

    assert mtu(9022) == 9022
    with pytest.raises(Refused):
        mtu(9979)
    with pytest.raises(Refused):
        mtu(0)


def test_an_unknown_register_is_refused_and_counted(driver: Driver) -> None:
    with pytest.raises(Refused) as error:
        register(driver, 0x9015, bytes(16))
    assert error.value.status == CommandStatus.BAD_PARAM
    assert driver.sink.of(UnknownRegister) == [UnknownRegister(0x9015, False)]


def test_every_command_says_what_it_does() -> None:
    table = rows()
    assert [row.opcode for row in table] == sorted(REGISTRY)
    assert set(REGISTRY) == set(Op)
    assert all(row.sentence.endswith(".") for row in table)
    assert "cqn" in next(row for row in table if row.name == "CREATE_CQ").reply
