# SPDX-License-Identifier: GPL-2.0-or-later
"""Capability profiles: what the device says that it can do.

Nothing is advertised that is not done. The function is the only one of its card and manages the
e-switch, which has tables for nothing but the filter by MAC address (MPFS): without virtual
functions there is nothing to switch. Rate limits, ETS and LAG are not offered.
"""

from dataclasses import dataclass, replace
from enum import IntEnum

from nicmodel.offload.segment import OtherLso
from nicmodel.spec.capabilities import (
    CLOCK_KHZ,
    CmdHcaCap,
    FlowTableFieldsSupported,
    FlowTableNicCap,
    FlowTablePropLayout,
    PerProtocolNetworkingOffloadCaps,
    TlsCap,
)
from nicmodel.spec.tls import GeneralObject

FIRMWARE_VERSION = (22, 32, 2004)
"""What ``ethtool -i`` shows; 22 is the ConnectX-6 Dx line."""

BLOCK = 0x1000
"""Bytes of a capability block in QUERY_HCA_CAP."""


class CapType(IntEnum):
    """``op_mod >> 1`` of QUERY_HCA_CAP and SET_HCA_CAP (``device.h`` mlx5_cap_type)."""

    GENERAL = 0x0
    """Sizes, limits and gates of everything else."""
    ETHERNET_OFFLOADS = 0x1
    """Stateless offloads."""
    FLOW_TABLE = 0x7
    """Flow tables of the NIC."""
    ESWITCH_FLOW_TABLE = 0x8
    """Flow tables of the e-switch: none."""
    ESWITCH = 0x9
    """The e-switch: nothing beyond the MPFS."""
    QOS = 0xC
    """Rate limits and scheduling: none."""
    TLS = 0x11
    """TLS offloads."""
    GENERAL_2 = 0x20
    """More of GENERAL: none."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Capabilities by type, and how many pages of host memory the device asks for.

    The model has no use for pages; it asks so that the driver's page code runs.
    """

    name: str
    general: CmdHcaCap
    ethernet: PerProtocolNetworkingOffloadCaps
    flow_table: FlowTableNicCap
    tls: TlsCap
    other_lso: OtherLso = OtherLso.REPLICATE
    """What LSO does that no capability tells."""
    boot_pages: int = 4
    init_pages: int = 60

    def block(self, kind: CapType) -> bytes:
        """The block of one type, ``BLOCK`` bytes."""
        parts = {
            CapType.GENERAL: self.general,
            CapType.ETHERNET_OFFLOADS: self.ethernet,
            CapType.FLOW_TABLE: self.flow_table,
            CapType.TLS: self.tls,
        }
        part = parts.get(kind)
        return (part.encode() if part is not None else b"").ljust(BLOCK, b"\0")


CONNECTX6DX = Profile(
    name="connectx6dx",
    general=CmdHcaCap(
        port_type=1,  # Ethernet
        num_ports=1,
        vport_group_manager=True,
        eswitch_manager=True,
        pcam_reg=True,
        mcam_reg=True,
        qcam_reg=True,
        sbcam_reg=True,
        driver_version=True,
        nic_receive_steering_discard=True,
        log_max_l2_table=12,
        nic_flow_table=True,
        eth_net_offloads=True,
        log_max_qp=18,
        log_max_eq=8,
        max_num_eqs=128,
        log_max_eq_sz=17,
        log_max_cq=16,
        log_max_cq_sz=17,
        log_max_mkey=16,
        log_bf_reg_size=9,
        bf=True,
        log_pg_sz=12,
        max_wqe_sz_sq=1024,  # en_main.c mlx5e_attach_netdev: at least MLX5E_MAX_TX_WQEBBS
        log_max_rq=16,
        log_max_sq=16,
        log_max_tir=16,
        log_max_tis=16,
        log_max_rqt=12,
        log_max_rqt_size=11,
        log_max_pd=16,
        log_max_transport_domain=16,
        log_max_current_uc_list=7,
        log_max_current_mc_list=12,
        log_max_vlan_list=12,
        cq_moderation=True,
        cqe_version=1,
        striding_rq=True,
        ext_stride_num_range=True,
        umr_ptr_rlky=True,
        vport_counters=True,
        device_frequency_khz=CLOCK_KHZ,
        # all of TLS or nothing: ktls.c mlx5e_ktls_init, ktls_tx.c mlx5e_ktls_init_tx
        tls_tx=True,
        tls_rx=True,
        log_max_dek=16,
        general_obj_types=1 << GeneralObject.ENCRYPTION_KEY,
    ),
    ethernet=PerProtocolNetworkingOffloadCaps(
        csum_cap=True,
        vlan_cap=True,
        max_lso_cap=18,
        rss_ind_tbl_cap=8,
        wqe_inline_mode=2,  # not required: a plain SEND has no inline headers
        wqe_vlan_insert=True,
        self_lb_en_modifiable=True,
        reg_umr_sq=True,
        lro_cap=True,
        lro_psh_flag=True,
        lro_time_stamp=True,
        lro_min_mss_size=1,
        lro_timer_supported_periods=(8, 16, 32, 1024),
        enhanced_multi_pkt_send_wqe=True,
        scatter_fcs=False,
    ),
    flow_table=FlowTableNicCap(
        flow_table_properties_nic_receive=FlowTablePropLayout(
            ft_support=True,
            flow_modify_en=True,
            modify_root=True,
            identified_miss_table_mode=True,
            ignore_flow_level=True,  # lookup follows any table, whatever its level
            flow_table_modify=True,
            log_max_ft_size=22,
            # fs_core.c: the last table, the anchor, lies at level 61 (6.1) or 66 (6.12)
            max_ft_level=80,
            log_max_ft_num=12,
            log_max_destination=1,
            log_max_flow=18,
            ft_field_support=FlowTableFieldsSupported(
                outer_dmac=True,
                outer_smac=True,
                outer_ether_type=True,
                outer_ip_version=True,
                outer_first_prio=True,
                outer_first_cfi=True,
                outer_first_vid=True,
                outer_sip=True,
                outer_dip=True,
                outer_frag=True,
                outer_ip_protocol=True,
                outer_udp_sport=True,
                outer_udp_dport=True,
                outer_tcp_sport=True,
                outer_tcp_dport=True,
            ),
        ),
    ),
    # no kernel offers TLS 1.3 (net/tls/tls_device.c), so it is not said that the engine knows it
    tls=TlsCap(tls_1_2_aes_gcm_128=True, tls_1_2_aes_gcm_256=True),
)
"""A ConnectX-6 Dx with the offloads that the model has."""

TCP_LSO = replace(CONNECTX6DX, name="connectx6dx-tcp-lso", other_lso=OtherLso.REFUSE)
"""A card whose LSO is for TCP and UDP only, as that of other vendors."""

SEQUENCE_LSO = replace(CONNECTX6DX, name="connectx6dx-sequence-lso", other_lso=OtherLso.SEQUENCE)
"""A card that numbers the packets of any protocol, as a future one may."""

PROFILES = {profile.name: profile for profile in (CONNECTX6DX, TCP_LSO, SEQUENCE_LSO)}
"""Profiles by name."""
