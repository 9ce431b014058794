# SPDX-License-Identifier: GPL-2.0-or-later
"""Event queue elements and their data (``device.h`` ``mlx5_eqe``)."""

from enum import IntEnum

from nicmodel.spec.layout import Layout, bits, layout, raw, u8, u16, u32
from nicmodel.units import Cqn

EQE_SIZE = 64
"""Bytes of an EQE."""

OWNER = 0x3F
"""Offset of ``owner``: the byte that hands the EQE to the driver, to be written last."""

DATA = 0x20
"""Offset of the data of an event."""


class EventType(IntEnum):
    """``type``; also the bit number in the event mask of an EQ (MLX5_EVENT_TYPE_*)."""

    COMP = 0x00
    """An armed CQ has a completion."""
    SQ_DRAINED = 0x03
    """A send queue is drained."""
    CQ_ERROR = 0x04
    """A CQ overflowed or its memory cannot be reached."""
    WQ_CATAS_ERROR = 0x05
    """A work queue is broken."""
    INTERNAL_ERROR = 0x08
    """The device is broken."""
    PORT_CHANGE = 0x09
    """The link went up or down."""
    CMD = 0x0A
    """Commands have completed."""
    PAGE_REQUEST = 0x0B
    """The device wants pages, or gives them back."""
    PAGE_FAULT = 0x0C
    """On-demand paging: a page is missing."""
    NIC_VPORT_CHANGE = 0x0D
    """The context of a vport has changed."""
    ESW_FUNCTIONS_CHANGED = 0x0E
    """The number of functions behind the e-switch has changed."""
    VHCA_STATE_CHANGE = 0x0F
    """A virtual HCA has changed its state."""
    WQ_INVAL_REQ_ERROR = 0x10
    """A work queue received an invalid request."""
    WQ_ACCESS_ERROR = 0x11
    """A work queue was refused access to memory."""
    SRQ_CATAS_ERROR = 0x12
    """A shared receive queue is broken."""
    SRQ_LAST_WQE = 0x13
    """The last WQE of a shared receive queue was consumed."""
    GPIO_EVENT = 0x15
    """A pin has changed."""
    PORT_MODULE_EVENT = 0x16
    """A transceiver was plugged or unplugged."""
    TEMP_WARN_EVENT = 0x17
    """A sensor is too hot."""
    DB_BF_CONGESTION = 0x1A
    """Doorbells come too fast."""
    STALL_EVENT = 0x1B
    """A virtual lane is stalled."""
    GENERAL_EVENT = 0x22
    """See the sub type."""
    MONITOR_COUNTER = 0x24
    """A watched counter has changed."""
    PPS_EVENT = 0x25
    """A pulse per second."""
    DEVICE_TRACER = 0x26
    """The firmware tracer has news."""
    OBJECT_CHANGE = 0x27
    """A general object has changed."""


class PortChange(IntEnum):
    """``sub_type`` of PORT_CHANGE (MLX5_PORT_CHANGE_SUBTYPE_*)."""

    DOWN = 1
    """The port went down."""
    ACTIVE = 4
    """The port carries traffic."""


class CqErrorSyndrome(IntEnum):
    """``syndrome`` of CQ_ERROR (PRM, "CQ error")."""

    OVERRUN = 0x1
    """A completion had no room."""
    ACCESS = 0x2
    """The CQ's buffer or doorbell record cannot be reached."""


@layout(0x40, c="mlx5_eqe")
class Eqe(Layout):
    """An event. ``data`` has 28 bytes; its meaning depends on ``type``."""

    type: int = u8(0x1)
    sub_type: int = u8(0x3)
    data: bytes = raw(0x20, 28)
    signature: int = u8(0x3E)
    owner: int = u8(0x3F)


@layout(0x1C, c="mlx5_eqe_comp")
class EqeComp(Layout):
    """Data of COMP."""

    cqn: Cqn = bits(0x18, 23, 0, of="cqn")


@layout(0x0C, c="mlx5_eqe_cq_err")
class EqeCqErr(Layout):
    """Data of CQ_ERROR."""

    cqn: Cqn = bits(0x0, 23, 0, of="cqn")
    syndrome: int = u8(0xB)


@layout(0x9, c="mlx5_eqe_port_state")
class EqePortState(Layout):
    """Data of PORT_CHANGE; ports count from 1."""

    port: int = bits(0x8, 31, 28, of="port")


@layout(0x1C, c="mlx5_eqe_cmd")
class EqeCmd(Layout):
    """Data of CMD: bit n = the command in slot n has completed."""

    vector: int = u32(0x0)


@layout(0x1C, c="mlx5_eqe_page_req")
class EqePageReq(Layout):
    """Data of PAGE_REQUEST; a negative ``num_pages`` (two's complement) gives pages back."""

    ec_function: int = u16(0x0)
    func_id: int = u16(0x2)
    num_pages: int = u32(0x4)
