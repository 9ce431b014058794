# SPDX-License-Identifier: GPL-2.0-or-later
"""Completion queue elements (``device.h`` ``mlx5_cqe64``, ``mlx5_err_cqe``; ``cq.h``)."""

from enum import IntEnum, IntFlag

from nicmodel.spec.layout import Layout, bits, layout, u8, u16, u32

CQE_SIZE = 64
"""Bytes of a CQE with ``cqe_sz`` 0."""

OP_OWN = 0x3F
"""Offset of ``op_own``: the byte that hands the CQE to the driver, to be written last."""


FILLER = 0x8000
"""Bit of the upper half of ``byte_cnt`` from a striding receive queue: no frame, only strides
(``device.h`` mpwrq_is_filler_cqe). The lower bits of that half count the strides."""


class CqeOpcode(IntEnum):
    """``op_own`` bits 7..4 (MLX5_CQE_*)."""

    REQ = 0
    """A send WQE has completed."""
    RESP_WR_IMM = 1
    """An RDMA write with immediate arrived."""
    RESP_SEND = 2
    """A frame arrived."""
    RESP_SEND_IMM = 3
    """A send with immediate arrived."""
    RESP_SEND_INV = 4
    """A send with invalidation arrived."""
    RESIZE_CQ = 5
    """The CQ has been resized; the next CQE is in the new buffer."""
    SIG_ERR = 12
    """A signature did not match."""
    REQ_ERR = 13
    """A send WQE has failed; see the syndrome."""
    RESP_ERR = 14
    """A receive WQE has failed; see the syndrome."""
    INVALID = 15
    """The driver's mark for a CQE that was never written."""


class CqeSyndrome(IntEnum):
    """Why a WQE failed (MLX5_CQE_SYNDROME_*)."""

    LOCAL_LENGTH_ERR = 0x01
    """The frame is longer than the receive buffer, or a length makes no sense."""
    LOCAL_QP_OP_ERR = 0x02
    """The WQE is malformed or its opcode is not for this queue."""
    LOCAL_PROT_ERR = 0x04
    """A data segment's key or address is not valid."""
    WR_FLUSH_ERR = 0x05
    """The queue was in error before this WQE was looked at."""
    MW_BIND_ERR = 0x06
    """A memory key could not be updated."""
    BAD_RESP_ERR = 0x10
    """The peer's answer was unexpected."""
    LOCAL_ACCESS_ERR = 0x11
    """Local memory does not permit the access."""
    REMOTE_INVAL_REQ_ERR = 0x12
    """The peer found the request invalid."""
    REMOTE_ACCESS_ERR = 0x13
    """The peer's memory does not permit the access."""
    REMOTE_OP_ERR = 0x14
    """The peer could not finish the request."""
    TRANSPORT_RETRY_EXC_ERR = 0x15
    """Retries exhausted."""
    RNR_RETRY_EXC_ERR = 0x16
    """The peer was never ready to receive."""
    REMOTE_ABORTED_ERR = 0x22
    """The peer aborted."""


class HdsIpExt(IntFlag):
    """``hds_ip_ext``: what the receiver has verified (CQE_L2_OK ...)."""

    L2_OK = 0x1
    """Frame check sequence and length are right."""
    L3_OK = 0x2
    """The IP header checksum is right (or the packet is IPv6)."""
    L4_OK = 0x4
    """The TCP or UDP checksum is right."""


class TlsOffload(IntEnum):
    """``tls_offload``: what TLS receive offload made of the frame (CQE_TLS_OFFLOAD_*)."""

    RAW = 0
    """Nothing: it is as it was on the wire (CQE_TLS_OFFLOAD_NOT_DECRYPTED)."""
    DECRYPTED = 1
    """All that it has of records was decrypted, and the tags in it are right."""
    RESYNC = 2
    """As it was on the wire, and it has the header that software is to be asked about."""
    ERROR = 3
    """As it was on the wire, for a tag in it is wrong."""


class L4HdrType(IntEnum):
    """``l4_l3_hdr_type`` bits 6..4 (CQE_L4_HDR_TYPE_*)."""

    NONE = 0
    """No TCP or UDP header was found."""
    TCP_NO_ACK = 1
    """TCP without ACK."""
    UDP = 2
    """UDP."""
    TCP_ACK_NO_DATA = 3
    """TCP with ACK and without payload."""
    TCP_ACK_AND_DATA = 4
    """TCP with ACK and payload."""


class L3HdrType(IntEnum):
    """``l4_l3_hdr_type`` bits 3..2."""

    NONE = 0
    """Not IP."""
    IPV6 = 1
    """IPv6."""
    IPV4 = 2
    """IPv4."""


class RssHashType(IntFlag):
    """``rss_hash_type``: over which headers ``rss_hash_result`` was computed."""

    IPV4 = 0x04
    """Source and destination of IPv4 (CQE_RSS_HTYPE_IP)."""
    IPV6 = 0x08
    """Source and destination of IPv6."""
    TCP = 0x40
    """TCP ports (CQE_RSS_HTYPE_L4)."""
    UDP = 0x80
    """UDP ports."""
    IPSEC_SPI = 0xC0
    """The SPI of ESP or AH."""


@layout(0x40, c="mlx5_cqe64")
class Cqe(Layout):
    """A completion. Everything that is not set must be zero: the driver reads most of it."""

    tls_offload: int = bits(0x0, 28, 27, of="tls_outer_l3_tunneled")
    tunneled: bool = bits(0x0, 24, 24, of="tls_outer_l3_tunneled")
    wqe_id: int = u16(0x2)
    lro_tcppsh: bool = bits(0x4, 30, 30, of="lro.tcppsh_abort_dupack")
    lro_min_ttl: int = u8(0x5, of="lro.min_ttl")
    lro_tcp_win: int = u16(0x6, of="lro.tcp_win")
    lro_ack_seq_num: int = u32(0x8, of="lro.ack_seq_num")
    rss_hash_result: int = u32(0xC)
    rss_hash_type: int = u8(0x10)
    ml_path: int = u8(0x11)
    check_sum: int = u16(0x14)
    slid: int = u16(0x16)
    flags_rqpn: int = u32(0x18)
    hds_ip_ext: int = u8(0x1C)
    l4_hdr_type: int = bits(0x1C, 22, 20, of="l4_l3_hdr_type")
    l3_hdr_type: int = bits(0x1C, 19, 18, of="l4_l3_hdr_type")
    vlan_stripped: bool = bits(0x1C, 16, 16, of="l4_l3_hdr_type")
    vlan_info: int = u16(0x1E)
    lro_num_seg: int = bits(0x20, 31, 24, of="srqn")
    srqn: int = bits(0x20, 23, 0, of="srqn")
    ft_metadata: int = u32(0x24)
    byte_cnt: int = u32(0x2C)
    timestamp_h: int = u32(0x30)
    timestamp_l: int = u32(0x34)
    wqe_opcode: int = bits(0x38, 31, 24, of="sop_drop_qpn")
    """Send: opcode of the WQE."""
    qpn: int = bits(0x38, 23, 0, of="sop_drop_qpn")
    """Send: the SQN. Receive: the flow tag, zero if none."""
    wqe_counter: int = u16(0x3C)
    signature: int = u8(0x3E)
    opcode: int = bits(0x3C, 7, 4, of="op_own")
    format: int = bits(0x3C, 3, 2, of="op_own")
    solicited: bool = bits(0x3C, 1, 1, of="op_own")
    owner: bool = bits(0x3C, 0, 0, of="op_own")


@layout(0x40, c="mlx5_err_cqe")
class ErrCqe(Layout):
    """A completion with opcode REQ_ERR or RESP_ERR."""

    srqn: int = u32(0x20)
    vendor_err_synd: int = u8(0x36)
    syndrome: int = u8(0x37)
    wqe_opcode: int = bits(0x38, 31, 24, of="s_wqe_opcode_qpn")
    qpn: int = bits(0x38, 23, 0, of="s_wqe_opcode_qpn")
    wqe_counter: int = u16(0x3C)
    signature: int = u8(0x3E)
    opcode: int = bits(0x3C, 7, 4, of="op_own")
    owner: bool = bits(0x3C, 0, 0, of="op_own")
