# SPDX-License-Identifier: GPL-2.0-or-later
"""What mlx5_core does from probe to traffic and back, command by command (6.1, ``main.c`` on)."""

from dataclasses import dataclass

from nicmodel.command.caps import CONNECTX6DX, Profile
from nicmodel.command.verbs.vport import mac_layout
from nicmodel.spec import commands as c
from nicmodel.spec.contexts import (
    Cqc,
    Eqc,
    Mkc,
    QueueState,
    Rqc,
    Rqtc,
    RxHashFieldSelect,
    RxHashFn,
    Sqc,
    Tirc,
    TirDispType,
    Tisc,
    Wq,
    WqType,
)
from nicmodel.spec.opcodes import CommandOpcode as Op
from nicmodel.spec.registers import PaosReg, PmtuReg
from nicmodel.spec.steering import (
    DestFormatStruct,
    DestinationType,
    FlowContext,
    FlowTableContext,
    FteMatchParam,
    FteMatchSetLyr24,
    MissAction,
)
from nicmodel.spec.vport import ModifyNicVportFieldSelect, NicVportContext
from nicmodel.units import (
    CounterSet,
    Cqn,
    Eqn,
    GroupId,
    GuestAddr,
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
from tests.unit.command.fake_driver import (
    CMD_EVENT,
    DBRS,
    PAGE_EVENT,
    PAGES,
    PORT_EVENT,
    CommandDriver,
    FakeDriver,
)

PORTS, SPI, ADDRESSES = 0xF, 0x13, 0x3
HASHED = (PORTS, PORTS, SPI, SPI) * 2 + (ADDRESSES,) * 2
"""Hash fields by traffic type (``en/rss.c`` rss_default_config): IPv4 and IPv6, TCP, UDP, ESP, AH,
then those without ports."""

TO_TABLE, TO_TIR = DestinationType.FLOW_TABLE, DestinationType.TIR


@dataclass
class Channel:
    cqs: list[Cqn]
    sqs: list[Sqn]
    rq: Rqn


class Lifecycle(CommandDriver):
    """Keeps the numbers that the device gave."""

    def forget(self) -> None:
        """As when the driver is bound anew."""
        self.given: list[int] = []
        self.eqs: list[Eqn] = []
        self.tises: list[Tisn] = []
        self.tirs: list[Tirn] = []
        self.rqts: list[Rqtn] = []
        self.tables: list[TableId] = []
        self.groups: list[tuple[TableId, GroupId]] = []
        self.entries: list[tuple[TableId, int]] = []
        self.channels: list[Channel] = []
        self.counter_sets: list[CounterSet] = []
        self._dbr = 0

    def dbr(self) -> GuestAddr:
        self._dbr += 8
        return GuestAddr(DBRS + self._dbr % 0x10000)

    def pas(self, length: int) -> tuple[int, ...]:
        return tuple(PAGES + 4096 * n for n in range(-(-length // 4096)))

    # Phase A: mlx5_function_setup, mlx5_init_once

    def enable(self) -> None:
        self.start()
        self.run(Op.ENABLE_HCA, c.EnableHcaIn(), c.EnableHcaOut)
        issi = self.run(Op.QUERY_ISSI, c.QueryIssiIn(), c.QueryIssiOut)
        assert issi.supported_issi_dw0 & 0b10
        self.run(Op.SET_ISSI, c.SetIssiIn(current_issi=1), c.Done)
        self.give_pages(1)
        self.access(0x7004, b"\x01".ljust(16, b"\0"), write=True)
        current = self.caps(0)
        assert current == self.caps(0, current=False)
        self.run(Op.SET_HCA_CAP, c.SetHcaCapIn(op_mod=0, capability=current), c.Done)
        self.give_pages(2)
        self.run(Op.INIT_HCA, c.InitHcaIn(), c.Done)
        for kind in (0, 1, 7):
            self.caps(kind)
            self.caps(kind, current=False)
        adapter = self.run(Op.QUERY_ADAPTER, c.QueryAdapterIn(), c.QueryAdapterOut)
        assert len(bytes(adapter.query_adapter_struct.vsd_contd_psid).strip(b"\0")) == 16

    def give_pages(self, kind: int) -> None:
        asked = self.run(Op.QUERY_PAGES, c.QueryPagesIn(op_mod=kind), c.QueryPagesOut)
        first = 0x400000 + 4096 * len(self.given)
        pages = tuple(first + 4096 * n for n in range(asked.num_pages))
        self.given += pages
        self.run(
            Op.MANAGE_PAGES,
            c.ManagePagesIn(op_mod=1, input_num_entries=len(pages), pas=pages),
            c.ManagePagesOut,
        )

    def take_pages(self) -> None:
        while self.given:
            out = self.run(
                Op.MANAGE_PAGES,
                c.ManagePagesIn(op_mod=2, input_num_entries=24),
                c.ManagePagesOut,
                room=24 * 8,
            )
            assert 0 < out.output_num_entries <= 24
            for page in out.pas[: out.output_num_entries]:
                self.given.remove(page)

    def caps(self, kind: int, *, current: bool = True) -> bytes:
        request = c.QueryHcaCapIn(op_mod=kind << 1 | current)
        return self.run(Op.QUERY_HCA_CAP, request, c.QueryHcaCapOut).capability

    def access(self, register: int, data: bytes, *, write: bool) -> bytes:
        request = c.AccessRegisterIn(
            op_mod=0 if write else 1, register_id=register, register_data=data
        )
        return self.run(Op.ACCESS_REG, request, c.AccessRegisterOut, room=len(data)).register_data

    # Phase B: mlx5_load

    def load(self, completion_eqs: int = 2) -> None:
        self.uar: Uar = self.run(Op.ALLOC_UAR, c.AllocUarIn(), c.AllocUarOut).uar
        assert self.uar >= 5
        self.create_eq(8, 1 << CMD_EVENT)
        self.listening = True
        self.create_eq(13, 1 << PORT_EVENT | 1 << 4)
        self.create_eq(8, 1 << PAGE_EVENT)
        for vector in range(completion_eqs):
            self.create_eq(11, 0, vector)
        self.anchor = self.create_table(61, 0)
        self.set_root(self.anchor)

    def create_eq(self, log_size: int, mask: int, vector: int = 2) -> Eqn:
        request = c.CreateEqIn(
            eq_context_entry=Eqc(log_eq_size=log_size, uar_page=self.uar, intr=vector),
            event_bitmask=(mask, 0, 0, 0),
            pas=self.pas(64 << log_size),
        )
        eqn = self.run(Op.CREATE_EQ, request, c.CreateEqOut).eq_number
        self.eqs.append(eqn)
        return eqn

    # Phase C: mlx5e_probe

    def probe(self) -> None:
        context = self.run(
            Op.QUERY_NIC_VPORT_CONTEXT, c.QueryNicVportContextIn(), c.QueryNicVportContextOut
        ).nic_vport_context
        self.mac = context.permanent_address.encode()[2:]
        assert context.system_image_guid
        self.pd: Pdn = self.run(Op.ALLOC_PD, c.AllocPdIn(), c.AllocPdOut).pd
        self.td: Tdn = self.run(
            Op.ALLOC_TRANSPORT_DOMAIN, c.AllocTransportDomainIn(), c.AllocTransportDomainOut
        ).transport_domain
        key = Mkc(lw=True, lr=True, length64=True, pd=self.pd, qpn=0xFFFFFF)
        self.mkey: int = self.run(
            Op.CREATE_MKEY, c.CreateMkeyIn(memory_key_mkey_entry=key), c.CreateMkeyOut
        ).mkey_index
        for prio in range(8):
            tis = Tisc(prio=prio << 1, transport_domain=self.td)
            self.tises.append(self.run(Op.CREATE_TIS, c.CreateTisIn(ctx=tis), c.CreateTisOut).tisn)
        for _ in range(2):
            number = self.run(Op.ALLOC_Q_COUNTER, c.AllocQCounterIn(), c.AllocQCounterOut)
            self.counter_sets.append(number.counter_set_id)
        self.drop_cq = self.create_cq(0)
        self.drop_rq = self.create_rq(self.drop_cq, 0)
        self.create_rqt([self.drop_rq], 256)
        for fields in HASHED:
            self.create_tir(self.rqts[0], 2, fields)
        for _ in range(2):
            self.create_tir(self.create_rqt([self.drop_rq], 1), 1, 0)
        self.steer()
        self.port_admin(up=False)
        mtu = PmtuReg.decode(self.access(0x5003, PmtuReg(local_port=1).encode(), write=False))
        assert mtu.max_mtu >= 1522
        self.access(0x5003, PmtuReg(local_port=1, admin_mtu=1522).encode(), write=True)
        self.modify_vport(ModifyNicVportFieldSelect(mtu=True), NicVportContext(mtu=1522))

    def create_cq(self, log_size: int, eq: int = 3) -> Cqn:
        request = c.CreateCqIn(
            cq_context=Cqc(
                log_cq_size=log_size,
                uar_page=self.uar,
                c_eqn_or_apu_element=self.eqs[eq],
                cq_period=8,
                cq_max_count=128,
                dbr_addr=self.dbr(),
            ),
            pas=self.pas(64 << log_size),
        )
        return self.run(Op.CREATE_CQ, request, c.CreateCqOut).cqn

    def wq(self, log_size: int, log_stride: int) -> Wq:
        return Wq(
            wq_type=WqType.CYCLIC,
            pd=self.pd,
            uar_page=self.uar,
            dbr_addr=self.dbr(),
            log_wq_stride=log_stride,
            log_wq_sz=log_size,
            pas=self.pas(1 << log_size + log_stride),
        )

    def create_rq(self, cqn: Cqn, log_size: int) -> Rqn:
        context = Rqc(cqn=cqn, counter_set_id=self.counter_sets[0], wq=self.wq(log_size, 4))
        rqn = self.run(Op.CREATE_RQ, c.CreateRqIn(ctx=context), c.CreateRqOut).rqn
        self.run(
            Op.MODIFY_RQ, c.ModifyRqIn(rq_state=0, rqn=rqn, ctx=Rqc(state=QueueState.RDY)), c.Done
        )
        return rqn

    def create_sq(self, cqn: Cqn, tis: tuple[Tisn, ...]) -> Sqn:
        context = Sqc(
            cqn=cqn,
            tis_lst_sz=len(tis),
            tis_num_0=tis[0] if tis else Tisn(0),
            wq=self.wq(10, 6),
        )
        sqn = self.run(Op.CREATE_SQ, c.CreateSqIn(ctx=context), c.CreateSqOut).sqn
        self.run(
            Op.MODIFY_SQ, c.ModifySqIn(sq_state=0, sqn=sqn, ctx=Sqc(state=QueueState.RDY)), c.Done
        )
        return sqn

    def create_rqt(self, rqns: list[Rqn], max_size: int) -> Rqtn:
        context = Rqtc(rqt_max_size=max_size, rqt_actual_size=len(rqns), rq_num=tuple(rqns))
        request = c.CreateRqtIn(rqt_context=context)
        self.rqts.append(self.run(Op.CREATE_RQT, request, c.CreateRqtOut).rqtn)
        return self.rqts[-1]

    def modify_rqt(self, rqtn: Rqtn, rqns: list[Rqn]) -> None:
        context = Rqtc(rqt_actual_size=len(rqns), rq_num=tuple(rqns))
        request = c.ModifyRqtIn(rqtn=rqtn, bitmask=c.RqtBitmask(rqn_list=True), ctx=context)
        self.run(Op.MODIFY_RQT, request, c.Done)

    def create_tir(self, rqtn: Rqtn, hash_fn: int, fields: int) -> Tirn:
        context = Tirc(
            disp_type=TirDispType.INDIRECT,
            indirect_table=rqtn,
            rx_hash_fn=RxHashFn(hash_fn),
            rx_hash_symmetric=True,
            rx_hash_toeplitz_key=bytes(range(40)),
            rx_hash_field_selector_outer=RxHashFieldSelect(selected_fields=fields),
            transport_domain=self.td,
        )
        self.tirs.append(self.run(Op.CREATE_TIR, c.CreateTirIn(ctx=context), c.CreateTirOut).tirn)
        return self.tirs[-1]

    # Flow tables: en_fs.c, lib/fs_ttc.c

    def create_table(self, level: int, log_size: int, miss: TableId | None = None) -> TableId:
        context = FlowTableContext(
            table_miss_action=MissAction.FORWARD if miss else MissAction.DEFAULT,
            level=level,
            log_size=log_size,
            table_miss_id=miss or TableId(0),
        )
        table = self.run(
            Op.CREATE_FLOW_TABLE,
            c.CreateFlowTableIn(flow_table_context=context),
            c.CreateFlowTableOut,
        ).table_id
        self.tables.append(table)
        return table

    def set_root(self, table: TableId) -> None:
        self.run(Op.SET_FLOW_TABLE_ROOT, c.SetFlowTableRootIn(table_id=table), c.Done)

    def modify_miss(self, table: TableId, miss: TableId) -> None:
        context = FlowTableContext(table_miss_action=MissAction.FORWARD, table_miss_id=miss)
        request = c.ModifyFlowTableIn(
            modify_field_select=1, table_id=table, flow_table_context=context
        )
        self.run(Op.MODIFY_FLOW_TABLE, request, c.Done)

    def create_group(self, table: TableId, start: int, end: int, mask: FteMatchSetLyr24) -> GroupId:
        request = c.CreateFlowGroupIn(
            table_id=table,
            start_flow_index=start,
            end_flow_index=end,
            match_criteria_enable=1 if any(mask.encode()) else 0,
            match_criteria=FteMatchParam(outer_headers=mask),
        )
        group = self.run(Op.CREATE_FLOW_GROUP, request, c.CreateFlowGroupOut).group_id
        self.groups.append((table, GroupId(group)))
        return GroupId(group)

    def set_entry(
        self,
        table: TableId,
        group: GroupId,
        index: int,
        value: FteMatchSetLyr24,
        kind: DestinationType,
        number: int,
        modify: bool = False,
    ) -> None:
        context = FlowContext(
            group_id=group,
            action=4,
            destination_list_size=1,
            match_value=FteMatchParam(outer_headers=value),
            destination=(DestFormatStruct(destination_type=kind, destination_id=number),),
        )
        request = c.SetFteIn(
            op_mod=int(modify),
            modify_enable_mask=4 if modify else 0,
            table_id=table,
            flow_index=index,
            flow_context=context,
        )
        self.run(Op.SET_FLOW_TABLE_ENTRY, request, c.Done)
        if not modify:
            self.entries.append((table, index))

    def steer(self) -> None:
        """TTC, L2 and VLAN tables, and the empty one in front of them."""
        match = FteMatchSetLyr24
        self.ttc = self.create_table(56, 7)
        both = self.create_group(self.ttc, 0, 15, match(ip_protocol=0xFF, ip_version=0xF))
        version = self.create_group(self.ttc, 16, 17, match(ip_version=0xF))
        every = self.create_group(self.ttc, 18, 18, match())
        index = 0
        for ip in (4, 6):
            for proto in (6, 17, 50, 51):
                value = match(ip_version=ip, ip_protocol=proto)
                self.set_entry(self.ttc, both, index, value, TO_TIR, self.tirs[index])
                index += 1
        self.set_entry(self.ttc, version, 16, match(ip_version=4), TO_TIR, self.tirs[8])
        self.set_entry(self.ttc, version, 17, match(ip_version=6), TO_TIR, self.tirs[9])
        self.set_entry(self.ttc, every, 18, match(), TO_TIR, self.tirs[10])
        self.l2 = self.create_table(55, 16, self.anchor)
        full = match(dmac_47_16=0xFFFFFFFF, dmac_15_0=0xFFFF)
        self.l2_exact = self.create_group(self.l2, 0, 32767, full)
        self.l2_multicast = self.create_group(self.l2, 32768, 32768, match(dmac_47_16=0x01000000))
        self.vlan = self.create_table(54, 16, self.anchor)
        tagged = match(cvlan_tag=True, first_vid=0xFFF)
        self.vlan_exact = self.create_group(self.vlan, 0, 4095, tagged)
        self.vlan_none = self.create_group(self.vlan, 4096, 4096, match(cvlan_tag=True))
        self.set_entry(self.vlan, self.vlan_none, 4096, match(), TO_TABLE, self.l2)
        self.front = self.create_table(52, 0, self.vlan)
        self.set_root(self.front)

    def accept(self, mac: bytes, index: int) -> None:
        """Let frames to a MAC in, as the rx-mode work does."""
        high, low = int.from_bytes(mac[:4], "big"), int.from_bytes(mac[4:], "big")
        value = FteMatchSetLyr24(dmac_47_16=high, dmac_15_0=low)
        self.set_entry(self.l2, self.l2_exact, index, value, TO_TABLE, self.ttc)
        if not mac[0] & 1:  # lib/mpfs.c
            request = c.SetL2TableEntryIn(table_index=index, mac_address=mac_layout(mac))
            self.run(Op.SET_L2_TABLE_ENTRY, request, c.Done)

    # Phase D: mlx5e_open

    def open(self, channels: int = 2) -> None:
        for number in range(channels):
            cqs = [self.create_cq(10, 3 + number) for _ in range(5)]
            for cqn in cqs:
                request = c.ModifyCqIn(
                    cqn=cqn,
                    modify_field_select_resize_field_select=3,
                    cq_context=Cqc(cq_period=16, cq_max_count=64),
                )
                self.run(Op.MODIFY_CQ, request, c.Done)
            send = (self.tises[0],)
            sqs = [self.create_sq(cqs[0], ()), self.create_sq(cqs[1], ())]
            sqs.append(self.create_sq(cqs[2], send))
            rq = self.create_rq(cqs[4], 10)
            sqs.append(self.create_sq(cqs[3], send))
            self.channels.append(Channel(cqs, sqs, rq))
        for tirn in reversed(self.tirs):
            loopback = c.ModifyTirIn(
                tirn=tirn, bitmask=c.ModifyTirBitmask(self_lb_en=True), ctx=Tirc(self_lb_block=1)
            )
            self.run(Op.MODIFY_TIR, loopback, c.Done)
        rqns = [channel.rq for channel in self.channels]
        self.modify_rqt(self.rqts[0], [rqns[n % channels] for n in range(256)])
        for number, rqtn in enumerate(self.rqts[1:]):
            self.modify_rqt(rqtn, [rqns[number % channels]])
        self.port_admin(up=True)
        self.accept(b"\xff" * 6, 0)
        self.accept(self.mac, 1)
        uc = NicVportContext(
            allowed_list_type=0,
            allowed_list_size=1,
            current_uc_mac_address=(int.from_bytes(self.mac, "big"),),
        )
        self.modify_vport(ModifyNicVportFieldSelect(addresses_list=True), uc)

    def port_admin(self, *, up: bool) -> None:
        status = PaosReg(local_port=1, admin_status=1 if up else 2, ase=True)
        self.access(0x5006, status.encode(), write=True)

    def modify_vport(self, select: ModifyNicVportFieldSelect, context: NicVportContext) -> None:
        request = c.ModifyNicVportContextIn(field_select=select, nic_vport_context=context)
        self.run(Op.MODIFY_NIC_VPORT_CONTEXT, request, c.Done)

    # And back: mlx5e_close, mlx5e_remove, mlx5_unload, mlx5_function_teardown

    def close(self) -> None:
        self.port_admin(up=False)
        for rqtn in self.rqts:
            self.modify_rqt(rqtn, [self.drop_rq])
        for channel in self.channels:
            for sqn in channel.sqs:
                self.run(Op.DESTROY_SQ, c.DestroySqIn(sqn=sqn), c.Done)
            self.run(Op.DESTROY_RQ, c.DestroyRqIn(rqn=channel.rq), c.Done)
            for cqn in channel.cqs:
                self.run(Op.DESTROY_CQ, c.DestroyCqIn(cqn=cqn), c.Done)
        self.channels.clear()

    def remove(self) -> None:
        while self.entries:
            table, index = self.entries.pop()
            request = c.DeleteFteIn(table_id=table, flow_index=index)
            self.run(Op.DELETE_FLOW_TABLE_ENTRY, request, c.Done)
        while self.groups:
            table, group = self.groups.pop()
            self.run(
                Op.DESTROY_FLOW_GROUP, c.DestroyFlowGroupIn(table_id=table, group_id=group), c.Done
            )
        self.set_root(self.vlan)
        for table in (self.front, self.vlan, self.l2, self.ttc):
            self.destroy_table(table)
        for tirn in self.tirs:
            self.run(Op.DESTROY_TIR, c.DestroyTirIn(tirn=tirn), c.Done)
        for rqtn in self.rqts:
            self.run(Op.DESTROY_RQT, c.DestroyRqtIn(rqtn=rqtn), c.Done)
        self.run(Op.DESTROY_RQ, c.DestroyRqIn(rqn=self.drop_rq), c.Done)
        self.run(Op.DESTROY_CQ, c.DestroyCqIn(cqn=self.drop_cq), c.Done)
        for number in self.counter_sets:
            request_q = c.DeallocQCounterIn(counter_set_id=number)
            self.run(Op.DEALLOC_Q_COUNTER, request_q, c.Done)
        for tisn in self.tises:
            self.run(Op.DESTROY_TIS, c.DestroyTisIn(tisn=tisn), c.Done)
        self.run(Op.DESTROY_MKEY, c.DestroyMkeyIn(mkey_index=self.mkey), c.Done)
        self.run(
            Op.DEALLOC_TRANSPORT_DOMAIN,
            c.DeallocTransportDomainIn(transport_domain=self.td),
            c.Done,
        )
        self.run(Op.DEALLOC_PD, c.DeallocPdIn(pd=self.pd), c.Done)
        for numbers in (self.tirs, self.rqts, self.counter_sets, self.tises):
            numbers.clear()

    def destroy_table(self, table: TableId) -> None:
        self.run(Op.DESTROY_FLOW_TABLE, c.DestroyFlowTableIn(table_id=table), c.Done)
        self.tables.remove(table)

    def unload(self) -> None:
        self.destroy_table(self.anchor)
        for eqn in self.eqs[3:] + self.eqs[2:0:-1]:
            self.run(Op.DESTROY_EQ, c.DestroyEqIn(eq_number=eqn), c.Done)
        self.listening = False
        self.run(Op.DESTROY_EQ, c.DestroyEqIn(eq_number=self.eqs[0]), c.Done)
        self.eqs.clear()
        self.run(Op.DEALLOC_UAR, c.DeallocUarIn(uar=self.uar), c.Done)

    def disable(self) -> None:
        self.run(Op.TEARDOWN_HCA, c.TeardownHcaIn(), c.TeardownHcaOut)
        self.take_pages()
        self.run(Op.DISABLE_HCA, c.EnableHcaIn(), c.EnableHcaOut)

    def up(self, channels: int = 2) -> None:
        """Everything until traffic may flow."""
        self.enable()
        self.load(max(2, channels))
        self.probe()
        self.open(channels)


class Driver(Lifecycle, FakeDriver):
    """The life against firmware alone."""

    def __init__(self, profile: Profile = CONNECTX6DX) -> None:
        FakeDriver.__init__(self, profile)
        self.forget()
