# SPDX-License-Identifier: GPL-2.0-or-later
"""What CREATE_EQ, CREATE_CQ, CREATE_SQ and CREATE_RQ have in common: buffers and work queues."""

from nicmodel.command.firmware import Firmware
from nicmodel.errors import CommandError
from nicmodel.objects.queue import PageList, WqConfig, WqType
from nicmodel.objects.store import Objects
from nicmodel.spec.contexts import Wq
from nicmodel.spec.status import CommandStatus
from nicmodel.units import PAGE_SIZE, GuestAddr

MAX_LOG_WQ = 15
"""log2 of the most WQEs of a queue: the counters have 16 bits and must tell full from empty."""

DBR_SIZE = 8
"""Bytes, and alignment, of a doorbell record."""


def page_list(
    objects: Objects, pas: tuple[int, ...], log_page: int, length: int, offset: int
) -> PageList:
    """The buffer of ``length`` bytes in pages of 4096 << ``log_page``; CommandError if it does not
    fit, is not aligned, or does not start at the first page's start.
    """
    page_size = PAGE_SIZE << log_page
    needed = -(-length // page_size)
    if len(pas) < needed:
        raise CommandError(
            CommandStatus.BAD_INP_LEN, f"the queue needs {needed} pages, {len(pas)} follow"
        )
    objects.check_pages(needed)
    pages = pas[:needed]
    if any(page % PAGE_SIZE for page in pages):
        raise CommandError(CommandStatus.BAD_PARAM, "a page of the queue is not aligned")
    if offset:
        raise CommandError(CommandStatus.BAD_PARAM, "the queue does not start with its first page")
    return PageList(tuple(GuestAddr(page) for page in pages), page_size)


def doorbell_record(addr: GuestAddr) -> GuestAddr:
    """``addr`` if it is aligned as a doorbell record must be."""
    if addr % DBR_SIZE:
        raise CommandError(CommandStatus.BAD_PARAM, f"doorbell record {addr:#x} is not aligned")
    return addr


def work_queue(
    firmware: Firmware, wq: Wq, *, log_strides: range, kind: WqType = WqType.CYCLIC
) -> WqConfig:
    """The configuration of a work queue of a kind whose WQEs have one of ``log_strides`` bytes."""
    if wq.wq_type is not kind or wq.wq_umem_valid or wq.dbr_umem_valid:
        raise CommandError(
            CommandStatus.BAD_PARAM,
            f"a work queue of type {wq.wq_type} or without pages of its own is not supported here",
        )
    if wq.log_wq_sz > MAX_LOG_WQ or wq.log_wq_stride not in log_strides:
        raise CommandError(
            CommandStatus.BAD_PARAM,
            f"a work queue of 2^{wq.log_wq_sz} times 2^{wq.log_wq_stride} bytes is not possible",
        )
    if wq.pd:  # the driver's drop RQ has none (en_main.c mlx5e_open_drop_rq)
        firmware.objects.pds.get(wq.pd)
    length = 1 << wq.log_wq_sz + wq.log_wq_stride
    return WqConfig(
        kind=wq.wq_type,
        log_size=wq.log_wq_sz,
        log_stride=wq.log_wq_stride,
        pd=wq.pd,
        dbr_addr=doorbell_record(wq.dbr_addr),
        buffer=page_list(firmware.objects, wq.pas, wq.log_wq_pg_sz, length, wq.page_offset),
    )


def work_queue_context(config: WqConfig) -> Wq:
    """``config`` as QUERY commands report it, without its pages."""
    return Wq(
        wq_type=config.kind,
        pd=config.pd,
        dbr_addr=config.dbr_addr,
        log_wq_stride=config.log_stride,
        log_wq_pg_sz=(config.buffer.page_size // PAGE_SIZE).bit_length() - 1,
        log_wq_sz=config.log_size,
    )
