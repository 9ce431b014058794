# SPDX-License-Identifier: GPL-2.0-or-later
"""Frozen configuration and state enums of the queues, as the CREATE commands define them.

What moves (indices, doorbells) lives in ``nicmodel.queues``; here is what firmware remembers.
"""

from dataclasses import dataclass

from nicmodel.spec.contexts import QueueState, WqType
from nicmodel.units import CounterSet, Cqn, Eqn, GuestAddr, Pdn, Rqn, Sqn, Tisn, Uar

__all__ = [
    "CqConfig",
    "EqConfig",
    "PageList",
    "QueueState",
    "RqConfig",
    "SqConfig",
    "Strides",
    "WqConfig",
    "WqType",
]


@dataclass(frozen=True, slots=True)
class PageList:
    """A queue's buffer: ``pages`` of ``page_size`` bytes each, in order (PAs of the command)."""

    pages: tuple[GuestAddr, ...]
    page_size: int


@dataclass(frozen=True, slots=True)
class EqConfig:
    """``eqc``. ``event_mask``: bit n set = events of type n are routed here."""

    eqn: Eqn
    log_size: int
    uar: Uar
    vector: int
    event_mask: int
    buffer: PageList


@dataclass(frozen=True, slots=True)
class CqConfig:
    """``cqc``. ``period`` in microseconds, ``max_count`` in CQEs; 0 = no moderation."""

    cqn: Cqn
    log_size: int
    uar: Uar
    eqn: Eqn
    dbr_addr: GuestAddr
    period: int
    max_count: int
    overrun_ignore: bool
    buffer: PageList


@dataclass(frozen=True, slots=True)
class Strides:
    """How a striding receive queue cuts the buffer of one WQE: 1 << ``log_number`` strides of
    1 << ``log_size`` bytes; with ``two_byte_shift`` a frame starts 2 bytes into its stride.
    """

    log_number: int
    log_size: int
    two_byte_shift: bool


@dataclass(frozen=True, slots=True)
class WqConfig:
    """``wq``. ``log_stride`` is that of one WQE (RQ) or WQEBB (SQ), bytes."""

    kind: WqType
    log_size: int
    log_stride: int
    pd: Pdn
    dbr_addr: GuestAddr
    buffer: PageList
    strides: Strides | None = None


@dataclass(frozen=True, slots=True)
class SqConfig:
    """``sqc``. ``tis`` is empty for internal queues (icosq); ``reg_umr``: they may do UMRs."""

    sqn: Sqn
    cqn: Cqn
    tis: tuple[Tisn, ...]
    min_wqe_inline_mode: int
    wq: WqConfig
    reg_umr: bool = False


@dataclass(frozen=True, slots=True)
class RqConfig:
    """``rqc``. ``vlan_strip_disable`` is ``vsd``."""

    rqn: Rqn
    cqn: Cqn
    counter_set: CounterSet
    vlan_strip_disable: bool
    scatter_fcs: bool
    wq: WqConfig
