# SPDX-License-Identifier: GPL-2.0-or-later
"""Queues in anonymous guest memory, driven as the driver drives them."""

import struct

from nicmodel.errors import DmaFault
from nicmodel.frame import Traffic
from nicmodel.memory import GuestMemory, MemoryRegion
from nicmodel.objects.mkey import TranslatedKey
from nicmodel.objects.queue import (
    CqConfig,
    EqConfig,
    PageList,
    QueueState,
    RqConfig,
    SqConfig,
    WqConfig,
    WqType,
)
from nicmodel.objects.store import Objects
from nicmodel.queues.cq import Cq
from nicmodel.queues.eq import Eq
from nicmodel.queues.gather import Gather
from nicmodel.queues.rq import Rq
from nicmodel.queues.sq import Sq
from nicmodel.queues.tls_rx import TlsRx
from nicmodel.queues.tls_tx import TlsTx
from nicmodel.trace.tracer import Event, ListSink, Tracer
from nicmodel.units import CounterSet, Cqn, Eqn, GuestAddr, Pdn, Rqn, Sqn, Uar

RAM = 1 << 20
LKEY = 0x200
EQ_AT, CQ_AT, SQ_AT, RQ_AT, DBR_AT, DATA_AT = 0x1000, 0x3000, 0x8000, 0x10000, 0x1F000, 0x20000
LOG_EQ, LOG_CQ, LOG_SQ, LOG_RQ = 3, 4, 6, 4


class Keys:
    """One key that covers everything, and those with translation in ``translated``."""

    def __init__(self) -> None:
        self.translated: dict[int, TranslatedKey] = {}

    def translated_key(self, lkey: int) -> TranslatedKey | None:
        return self.translated.get(lkey)

    def translate(self, lkey: int, addr: int, length: int) -> int:
        if lkey != LKEY:
            raise DmaFault(addr, length, "read")
        return addr


def pages(addr: int, size: int) -> PageList:
    count = -(-size // 4096)
    return PageList(tuple(GuestAddr(addr + i * 4096) for i in range(count)), 4096)


def eth_segment(*, cs: int = 0, mss: int = 0, inline: bytes = b"", insert: int = 0) -> bytes:
    """An Ethernet segment with inline headers, padded to 16 bytes."""
    size = insert >> 16 if insert else len(inline)
    start = struct.pack(">H", insert & 0xFFFF) if insert else inline[:2].ljust(2, b"\0")
    out = struct.pack(">4xBBHIH", cs, 0, mss, 0, size) + start + inline[2:]
    return out.ljust(-(-len(out) // 16) * 16, b"\0")


def data_segment(length: int, lkey: int, addr: int) -> bytes:
    """A data segment."""
    return struct.pack(">IIQ", length, lkey, addr)


def send_wqe(
    opcode: int,
    index: int,
    sqn: int,
    body: bytes = b"",
    *,
    ce: int = 2,
    ds: int | None = None,
    imm: int = 0,
    opmod: int = 0,
    fence: int = 0,
) -> bytes:
    """A send WQE with its control segment, padded to whole WQEBBs."""
    length = 16 + len(body)
    units = -(-length // 16) if ds is None else ds
    first = opmod << 24 | (index & 0xFFFF) << 8 | opcode
    ctrl = struct.pack(">IIII", first, sqn << 8 | units, fence | ce << 2, imm)
    return (ctrl + body).ljust(-(-length // 64) * 64, b"\0")


class Rig:
    """One EQ, CQ, SQ and RQ; ``sent`` has what left, ``vectors`` what interrupted."""

    def __init__(self) -> None:
        self.memory = GuestMemory.anonymous([MemoryRegion(0, RAM)])
        self.vectors: list[int] = []
        self.time = 0
        self.sent: list[Traffic] = []
        self.events: list[tuple[int, int, bytes]] = []
        self.sink = ListSink()
        self.tracer = Tracer("nic", lambda: 0, (self.sink,))
        self.pending: list[Cq] = []
        self.keys = Keys()
        self.objects = Objects()
        self.tls = TlsTx(self.objects)
        self.tls_rx = TlsRx(self.memory, self.objects, self.tracer)
        gather = self.gather = Gather(self.memory, self.keys)
        self.eq = Eq(
            EqConfig(Eqn(1), LOG_EQ, Uar(0x100), 3, 0, pages(EQ_AT, 64 << LOG_EQ)),
            self.memory,
            self.vectors.append,
            self.tracer,
        )
        self.cq = Cq(
            CqConfig(
                Cqn(5),
                LOG_CQ,
                Uar(0x100),
                Eqn(1),
                GuestAddr(DBR_AT + 0x80),
                0,
                0,
                False,
                pages(CQ_AT, 64 << LOG_CQ),
            ),
            self.memory,
            self.eq,
            lambda kind, sub, data: self.events.append((kind, sub, data)),
            self.pending.append,
            self.tracer,
        )
        dbr = GuestAddr(DBR_AT)
        sq_wq = WqConfig(WqType.CYCLIC, LOG_SQ, 6, Pdn(1), dbr, pages(SQ_AT, 64 << LOG_SQ))
        self.sq = Sq(
            SqConfig(Sqn(7), Cqn(5), (), 0, sq_wq, reg_umr=True),
            self.memory,
            gather,
            self.cq,
            self.sent.append,
            lambda: self.time,
            self.tracer,
            self.tls,
            self.tls_rx,
        )
        self.sq.modify(QueueState.RDY)
        rq_dbr = GuestAddr(DBR_AT + 0x40)
        rq_wq = WqConfig(WqType.CYCLIC, LOG_RQ, 5, Pdn(1), rq_dbr, pages(RQ_AT, 32 << LOG_RQ))
        self.rq = Rq(
            RqConfig(Rqn(9), Cqn(5), CounterSet(1), False, False, rq_wq),
            self.memory,
            gather,
            self.cq,
            self.tracer,
        )
        self.rq.modify(QueueState.RDY)
        self.posted = 0
        self._data = DATA_AT

    def place(self, data: bytes) -> int:
        """Put bytes into guest memory; their address."""
        addr = self._data
        self.memory.write(addr, data)
        self._data += len(data) + 63 & ~63
        return addr

    def seg(self, data: bytes) -> bytes:
        """A data segment that names ``data``."""
        return data_segment(len(data), LKEY, self.place(data))

    def post(
        self,
        opcode: int,
        body: bytes = b"",
        *,
        ce: int = 2,
        sqn: int = 7,
        ds: int | None = None,
        imm: int = 0,
        opmod: int = 0,
        fence: int = 0,
    ) -> int:
        """Write a WQE into the ring, without moving the doorbell record; its index."""
        index = self.posted
        wqe = send_wqe(opcode, index, sqn, body, ce=ce, ds=ds, imm=imm, opmod=opmod, fence=fence)
        for at in range(0, len(wqe), 64):
            slot = (index + at // 64) % (1 << LOG_SQ)
            self.memory.write(SQ_AT + slot * 64, wqe[at : at + 64])
        self.posted = index + len(wqe) // 64
        return index & 0xFFFF

    def ring(self, producer: int | None = None) -> None:
        """Move the send doorbell record and let the queue run."""
        value = self.posted if producer is None else producer
        self.memory.store_be32(DBR_AT + 4, value & 0xFFFF)
        while self.sq.run(16, 1 << 30):
            pass

    def cqes(self) -> list[bytes]:
        """What the driver would poll: entries whose owner bit is of the present lap, in order."""
        found = []
        for index in range(self.cq.producer):
            if index < self.cq.producer - (1 << LOG_CQ):
                continue
            found.append(self.memory.read(CQ_AT + index % (1 << LOG_CQ) * 64, 64))
        return found

    def consume(self) -> None:
        """Tell the CQ that all was polled."""
        self.memory.store_be32(DBR_AT + 0x80, self.cq.producer)

    def buffers(self, count: int, *sizes: int) -> list[int]:
        """Post ``count`` receive WQEs of segments with ``sizes``; their first addresses."""
        first = []
        producer = self.memory.load_be32(DBR_AT + 0x40)
        for index in range(producer, producer + count):
            addrs = [self.place(b"\xaa" * size) for size in sizes]
            first.append(addrs[0])
            segs = b"".join(
                struct.pack(">IIQ", size | 0x80000000, LKEY, addr)
                for size, addr in zip(sizes, addrs, strict=True)
            )
            segs += struct.pack(">IIQ", 0, 0x100, 0)
            self.memory.write(RQ_AT + index % (1 << LOG_RQ) * 32, segs[:32])
        self.memory.store_be32(DBR_AT + 0x40, producer + count)
        return first

    def events_of(self, kind: type[Event]) -> list[Event]:
        return self.sink.of(kind)
