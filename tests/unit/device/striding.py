# SPDX-License-Identifier: GPL-2.0-or-later
"""A striding receive queue for a machine, with the key and the queue that fill it (en_main.c)."""

import struct
from dataclasses import replace

from nicmodel.objects.queue import QueueState, WqType
from nicmodel.spec import commands as c
from nicmodel.spec.contexts import Mkc, Rqc, Sqc
from nicmodel.spec.opcodes import CommandOpcode as Op
from nicmodel.units import Rqn, Sqn
from tests.unit.device.machine import BUFFERS, Machine, Work
from tests.unit.queues.rig import data_segment, send_wqe

UMR = 0x25
LOG_NUMBER, LOG_SIZE = 4, 9
WQE_BYTES = 1 << LOG_NUMBER + LOG_SIZE
PAGES = WQE_BYTES // 4096
ENTRIES = 16
POOL = BUFFERS + (4 << 20)
"""Where the pages lie that the UMRs name."""


class Strided:
    """All flows of ``machine`` go to a striding queue of ``ENTRIES`` WQEs, none posted yet."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        key = Mkc(
            free=True,
            umr_en=True,
            lw=True,
            lr=True,
            access_mode_1_0=1,
            qpn=0xFFFFFF,
            pd=machine.pd,
            len=ENTRIES * WQE_BYTES,
            translations_octword_size=ENTRIES * PAGES // 2,
            log_page_size=12,
        )
        request = c.CreateMkeyIn(
            memory_key_mkey_entry=key, translations_octword_actual_size=0, klm_pas_mtt=b""
        )
        self.lkey = machine.run(Op.CREATE_MKEY, request, c.CreateMkeyOut).mkey_index << 8
        channel = machine.channels[0]
        wq = replace(
            machine.wq(4, 5),
            wq_type=WqType.LINKED_LIST_STRIDING_RQ,
            log_wqe_num_of_strides=LOG_NUMBER - 9 & 0xF,
            log_wqe_stride_size=LOG_SIZE - 6,
        )
        context = Rqc(cqn=channel.cqs[4], counter_set_id=machine.counter_sets[0], wq=wq)
        rqn = machine.run(Op.CREATE_RQ, c.CreateRqIn(ctx=context), c.CreateRqOut).rqn
        started = c.ModifyRqIn(rq_state=0, rqn=rqn, ctx=Rqc(state=QueueState.RDY))
        machine.run(Op.MODIFY_RQ, started, c.Done)
        self.queue = Work(rqn, int(wq.pas[0]), ENTRIES, 32, wq.dbr_addr)
        sq = Sqc(cqn=channel.cqs[1], reg_umr=True, wq=machine.wq(6, 6))
        sqn = machine.run(Op.CREATE_SQ, c.CreateSqIn(ctx=sq), c.CreateSqOut).sqn
        ready = c.ModifySqIn(sq_state=0, sqn=sqn, ctx=Sqc(state=QueueState.RDY))
        machine.run(Op.MODIFY_SQ, ready, c.Done)
        self.icosq = Work(sqn, int(sq.wq.pas[0]), 64, 64, sq.wq.dbr_addr)
        for rqtn in machine.rqts:
            machine.modify_rqt(rqtn, [rqn])
        self.link()

    def destroy(self) -> None:
        """Destroy what was created; the flows go where they went before."""
        machine = self.machine
        for rqtn in machine.rqts:
            machine.modify_rqt(rqtn, [machine.channels[0].rq])
        machine.run(Op.DESTROY_RQ, c.DestroyRqIn(rqn=Rqn(self.queue.number)), c.Done)
        machine.run(Op.DESTROY_SQ, c.DestroySqIn(sqn=Sqn(self.icosq.number)), c.Done)
        machine.run(Op.DESTROY_MKEY, c.DestroyMkeyIn(mkey_index=self.lkey >> 8), c.Done)

    def link(self) -> None:
        """Write the WQEs: a ring of links, each with its part of the key's addresses."""
        for index in range(ENTRIES):
            segment = data_segment(WQE_BYTES, self.lkey, index * WQE_BYTES)
            link = struct.pack(">HH12x", 0, index + 1 & ENTRIES - 1)
            self.machine.memory.write(self.queue.addr + index * 32, link + segment)

    def umr(self, entry: int) -> bytes:
        """The WQE, behind its control segment, that gives entry ``entry`` its pages."""
        first = entry * PAGES
        mtts = b"".join(
            struct.pack(">Q", POOL + (first + page) * 4096 | 3) for page in range(PAGES)
        ).ljust(64, b"\0")
        control = struct.pack(">B3xHHQI28x", 0x90, len(mtts) // 16, first // 2, 1 << 29, 0)
        return control + bytes(64) + mtts

    def post(self, body: bytes, *, imm: int | None = None) -> int:
        """Post one UMR and ring; its index in the ring."""
        machine, queue = self.machine, self.icosq
        wqe = bytearray(send_wqe(UMR, queue.producer, queue.number, body))
        wqe[12:16] = (self.lkey if imm is None else imm).to_bytes(4, "big")
        index = queue.producer
        for at in range(0, len(wqe), 64):
            slot = (index + at // 64) % queue.size
            machine.memory.write(queue.addr + slot * 64, bytes(wqe[at : at + 64]))
        queue.producer += len(wqe) // 64
        machine.memory.store_be32(queue.dbr + 4, queue.producer & 0xFFFF)
        machine.ring(queue)
        return index

    def fill(self, entries: int) -> None:
        """Give so many entries their pages and post them."""
        for _ in range(entries):
            self.post(self.umr(self.queue.producer % ENTRIES))
            self.queue.producer += 1
        self.machine.memory.store_be32(self.queue.dbr, self.queue.producer & 0xFFFF)
