# SPDX-License-Identifier: GPL-2.0-or-later
"""Contexts of queues and transport objects, as CREATE commands carry them (``mlx5_ifc.h``)."""

from enum import IntEnum

from nicmodel.spec.layout import Layout, bits, layout, nested, raw, tail, u8, u16, u32, u64
from nicmodel.units import CounterSet, Cqn, Eqn, GuestAddr, Pdn, Rqn, Rqtn, Tdn, Tisn, Uar


class QueueState(IntEnum):
    """State of an SQ or RQ (``mlx5_ifc.h`` MLX5_SQC_STATE_*, MLX5_RQC_STATE_*)."""

    RST = 0x0
    """Does nothing; indices are zero."""
    RDY = 0x1
    """Works."""
    ERR = 0x3
    """Failed; WQEs are flushed."""


class WqType(IntEnum):
    """``wq.wq_type`` (MLX5_WQ_TYPE_*)."""

    LINKED_LIST = 0x0
    """WQEs name their successors."""
    CYCLIC = 0x1
    """A ring of WQEs."""
    LINKED_LIST_STRIDING_RQ = 0x2
    """Linked, many frames to a WQE."""
    CYCLIC_STRIDING_RQ = 0x3
    """A ring, many frames to a WQE."""


class AccessMode(IntEnum):
    """``mkc.access_mode_4_2`` and ``access_mode_1_0`` together (MLX5_MKC_ACCESS_MODE_*)."""

    PA = 0x0
    """Addresses are physical."""
    MTT = 0x1
    """A table of pages of one size."""
    KLMS = 0x2
    """A list of ranges of other keys."""
    KSM = 0x3
    """A table of blocks of one size of other keys."""


class TirDispType(IntEnum):
    """``tirc.disp_type``: where frames go (MLX5_TIRC_DISP_TYPE_*)."""

    DIRECT = 0x0
    """To ``inline_rqn``."""
    INDIRECT = 0x1
    """To a queue of the RQT, chosen by hash."""


class RxHashFn(IntEnum):
    """``tirc.rx_hash_fn`` (MLX5_RX_HASH_FN_*)."""

    NONE = 0x0
    """No hash: always the first queue."""
    INVERTED_XOR8 = 0x1
    """XOR of the bytes, inverted."""
    TOEPLITZ = 0x2
    """Toeplitz with the TIR's key."""


@layout(0x40, ifc="eqc")
class Eqc(Layout):
    """Event queue context."""

    status: int = bits(0x0, 31, 28)
    ec: bool = bits(0x0, 18, 18)
    oi: bool = bits(0x0, 17, 17)
    st: int = bits(0x0, 11, 8)
    page_offset: int = bits(0x8, 11, 6)
    log_eq_size: int = bits(0xC, 28, 24)
    uar_page: Uar = bits(0xC, 23, 0)
    intr: int = bits(0x14, 11, 0)
    log_page_size: int = bits(0x18, 28, 24)
    consumer_counter: int = bits(0x28, 23, 0)
    producer_counter: int = bits(0x2C, 23, 0)


@layout(0x40, ifc="cqc")
class Cqc(Layout):
    """Completion queue context."""

    status: int = bits(0x0, 31, 28)
    dbr_umem_valid: bool = bits(0x0, 25, 25)
    apu_cq: bool = bits(0x0, 24, 24)
    cqe_sz: int = bits(0x0, 23, 21)
    cc: bool = bits(0x0, 20, 20)
    scqe_break_moderation_en: bool = bits(0x0, 18, 18)
    oi: bool = bits(0x0, 17, 17)
    cq_period_mode: int = bits(0x0, 16, 15)
    cqe_comp_en: bool = bits(0x0, 14, 14)
    mini_cqe_res_format: int = bits(0x0, 13, 12)
    st: int = bits(0x0, 11, 8)
    cqe_compression_layout: int = bits(0x0, 1, 0)
    page_offset: int = bits(0x8, 11, 6)
    log_cq_size: int = bits(0xC, 28, 24)
    uar_page: Uar = bits(0xC, 23, 0)
    cq_period: int = bits(0x10, 27, 16)
    cq_max_count: int = u16(0x12)
    c_eqn_or_apu_element: Eqn = u32(0x14)
    log_page_size: int = bits(0x18, 28, 24)
    last_notified_index: int = bits(0x20, 23, 0)
    last_solicit_index: int = bits(0x24, 23, 0)
    consumer_counter: int = bits(0x28, 23, 0)
    producer_counter: int = bits(0x2C, 23, 0)
    dbr_addr: GuestAddr = u64(0x38)


@layout(0xC0, ifc="wq")
class Wq(Layout):
    """Work queue: the part that send and receive queues share; its pages follow."""

    wq_type: WqType = bits(0x0, 31, 28)
    wq_signature: bool = bits(0x0, 27, 27)
    end_padding_mode: int = bits(0x0, 26, 25)
    cd_slave: bool = bits(0x0, 24, 24)
    hds_skip_first_sge: bool = bits(0x4, 31, 31)
    log2_hds_buf_size: int = bits(0x4, 30, 28)
    page_offset: int = bits(0x4, 20, 16)
    lwm: int = u16(0x6)
    pd: Pdn = bits(0x8, 23, 0)
    uar_page: Uar = bits(0xC, 23, 0)
    dbr_addr: GuestAddr = u64(0x10)
    hw_counter: int = u32(0x18)
    sw_counter: int = u32(0x1C)
    log_wq_stride: int = bits(0x20, 19, 16)
    log_wq_pg_sz: int = bits(0x20, 12, 8)
    log_wq_sz: int = bits(0x20, 4, 0)
    dbr_umem_valid: bool = bits(0x24, 31, 31)
    wq_umem_valid: bool = bits(0x24, 30, 30)
    log_hairpin_num_packets: int = bits(0x24, 28, 24)
    log_hairpin_data_sz: int = bits(0x24, 20, 16)
    log_wqe_num_of_strides: int = bits(0x24, 11, 8)
    two_byte_shift_en: bool = bits(0x24, 7, 7)
    log_wqe_stride_size: int = bits(0x24, 2, 0)
    headers_mkey: int = u32(0x38)
    shampo_enable: bool = bits(0x3C, 31, 31)
    log_reservation_size: int = bits(0x3C, 26, 24)
    log_max_num_of_packets_per_reservation: int = bits(0x3C, 18, 16)
    log_headers_entry_size: int = bits(0x3C, 9, 8)
    log_headers_buffer_entry_num: int = bits(0x3C, 3, 0)
    pas: tuple[int, ...] = tail(0xC0, 64)


@layout(0xF0, ifc="sqc")
class Sqc(Layout):
    """Send queue context."""

    rlky: bool = bits(0x0, 31, 31)
    cd_master: bool = bits(0x0, 30, 30)
    fre: bool = bits(0x0, 29, 29)
    flush_in_error_en: bool = bits(0x0, 28, 28)
    allow_multi_pkt_send_wqe: bool = bits(0x0, 27, 27)
    min_wqe_inline_mode: int = bits(0x0, 26, 24)
    state: QueueState = bits(0x0, 23, 20)
    reg_umr: bool = bits(0x0, 19, 19)
    allow_swp: bool = bits(0x0, 18, 18)
    hairpin: bool = bits(0x0, 17, 17)
    ts_format: int = bits(0x0, 5, 4)
    user_index: int = bits(0x4, 23, 0)
    cqn: Cqn = bits(0x8, 23, 0)
    hairpin_peer_rq: int = bits(0xC, 23, 0)
    hairpin_peer_vhca: int = u16(0x12)
    ts_cqe_to_dest_cqn: int = bits(0x18, 23, 0)
    packet_pacing_rate_limit_index: int = u16(0x1E)
    tis_lst_sz: int = u16(0x20)
    qos_queue_group_id: int = u16(0x22)
    tis_num_0: Tisn = bits(0x2C, 23, 0)
    wq: Wq = nested(0x30)


@layout(0xF0, ifc="rqc")
class Rqc(Layout):
    """Receive queue context."""

    rlky: bool = bits(0x0, 31, 31)
    delay_drop_en: bool = bits(0x0, 30, 30)
    scatter_fcs: bool = bits(0x0, 29, 29)
    vsd: bool = bits(0x0, 28, 28)
    mem_rq_type: int = bits(0x0, 27, 24)
    state: QueueState = bits(0x0, 23, 20)
    flush_in_error_en: bool = bits(0x0, 18, 18)
    hairpin: bool = bits(0x0, 17, 17)
    ts_format: int = bits(0x0, 5, 4)
    user_index: int = bits(0x4, 23, 0)
    cqn: Cqn = bits(0x8, 23, 0)
    counter_set_id: CounterSet = u8(0xC)
    rmpn: int = bits(0x10, 23, 0)
    hairpin_peer_sq: int = bits(0x14, 23, 0)
    hairpin_peer_vhca: int = u16(0x1A)
    shampo_no_match_alignment_granularity: int = bits(0x24, 25, 24)
    shampo_match_criteria_type: int = bits(0x24, 17, 16)
    reservation_timeout: int = u16(0x26)
    wq: Wq = nested(0x30)


@layout(0xA0, ifc="tisc")
class Tisc(Layout):
    """Transport interface send context."""

    strict_lag_tx_port_affinity: bool = bits(0x0, 31, 31)
    tls_en: bool = bits(0x0, 30, 30)
    lag_tx_port_affinity: int = bits(0x0, 27, 24)
    prio: int = bits(0x0, 19, 16)
    transport_domain: Tdn = bits(0x24, 23, 0)
    underlay_qpn: int = bits(0x28, 23, 0)
    pd: Pdn = bits(0x2C, 23, 0)


@layout(0x4, ifc="rx_hash_field_select")
class RxHashFieldSelect(Layout):
    """Which header fields enter the RSS hash."""

    l3_prot_type: bool = bits(0x0, 31, 31)
    l4_prot_type: bool = bits(0x0, 30, 30)
    selected_fields: int = bits(0x0, 29, 0)


@layout(0xF0, ifc="tirc")
class Tirc(Layout):
    """Transport interface receive context: what becomes of frames that were steered here."""

    disp_type: TirDispType = bits(0x4, 31, 28)
    tls_en: bool = bits(0x4, 27, 27)
    lro_timeout_period_usecs: int = bits(0x10, 27, 12)
    packet_merge_mask: int = bits(0x10, 11, 8)
    lro_max_ip_payload_size: int = u8(0x13)
    inline_rqn: Rqn = bits(0x1C, 23, 0)
    rx_hash_symmetric: bool = bits(0x20, 31, 31)
    tunneled_offload_en: bool = bits(0x20, 29, 29)
    indirect_table: Rqtn = bits(0x20, 23, 0)
    rx_hash_fn: RxHashFn = bits(0x24, 31, 28)
    self_lb_block: int = bits(0x24, 25, 24)
    transport_domain: Tdn = bits(0x24, 23, 0)
    rx_hash_toeplitz_key: bytes = raw(0x28, 40)
    rx_hash_field_selector_outer: RxHashFieldSelect = nested(0x50)
    rx_hash_field_selector_inner: RxHashFieldSelect = nested(0x54)


@layout(0xF0, ifc="rqtc")
class Rqtc(Layout):
    """Receive queue table context: RSS indirection; the RQ numbers follow."""

    list_q_type: int = bits(0x14, 26, 24)
    rqt_max_size: int = u16(0x16)
    rq_vhca_id_format: bool = bits(0x18, 31, 31)
    rqt_actual_size: int = u16(0x1A)
    rq_num: tuple[int, ...] = tail(0xF0, 32)


@layout(0x40, ifc="mkc")
class Mkc(Layout):
    """Memory key context."""

    free: bool = bits(0x0, 30, 30)
    access_mode_4_2: int = bits(0x0, 28, 26)
    relaxed_ordering_write: bool = bits(0x0, 18, 18)
    small_fence_on_rdma_read_response: bool = bits(0x0, 16, 16)
    umr_en: bool = bits(0x0, 15, 15)
    a: bool = bits(0x0, 14, 14)
    rw: bool = bits(0x0, 13, 13)
    rr: bool = bits(0x0, 12, 12)
    lw: bool = bits(0x0, 11, 11)
    lr: bool = bits(0x0, 10, 10)
    access_mode_1_0: int = bits(0x0, 9, 8)
    ma_translation_mode: int = bits(0x0, 5, 4)
    qpn: int = bits(0x4, 31, 8)
    mkey_7_0: int = u8(0x7)
    length64: bool = bits(0xC, 31, 31)
    bsf_en: bool = bits(0xC, 30, 30)
    sync_umr: bool = bits(0xC, 29, 29)
    expected_sigerr_count: bool = bits(0xC, 26, 26)
    en_rinval: bool = bits(0xC, 24, 24)
    pd: Pdn = bits(0xC, 23, 0)
    start_addr: int = u64(0x10)
    len: int = u64(0x18)
    bsf_octword_size: int = u32(0x20)
    translations_octword_size: int = u32(0x34)
    relaxed_ordering_read: bool = bits(0x38, 6, 6)
    log_page_size: int = bits(0x38, 4, 0)
