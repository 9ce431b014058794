# SPDX-License-Identifier: GPL-2.0-or-later
"""Receive queues: from frames to the buffers that the driver posted (``en_rx.c``)."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from struct import Struct

from nicmodel.errors import DmaFault, QueueFault
from nicmodel.memory import GuestMemory
from nicmodel.objects.queue import QueueState, RqConfig, WqType
from nicmodel.queues.cq import Cq
from nicmodel.queues.gather import Gather
from nicmodel.queues.ring import Ring
from nicmodel.spec.cqe import CqeOpcode, CqeSyndrome, ErrCqe
from nicmodel.spec.wqe import INLINE_SEG, INVALID_LKEY
from nicmodel.trace.events import QueueError
from nicmodel.trace.tracer import Tracer

_SEG = Struct(">IIQ")
_U16 = Struct(">H")
_U32 = Struct(">I")
_CHECK_SUM, _BYTE_CNT, _WQE_COUNTER = 0x14, 0x2C, 0x3C
"""Offsets in the CQE of what differs between the frames of a train (``spec.cqe.Cqe``)."""

_TAG = 4
"""Length of a VLAN tag, bytes."""


class Rq:
    """One cyclic receive queue."""

    def __init__(
        self,
        config: RqConfig,
        memory: GuestMemory,
        gather: Gather,
        cq: Cq,
        tracer: Tracer,
    ) -> None:
        wq = config.wq
        self.config = config
        self.state = QueueState.RST
        self.consumer = 0
        self.out_of_buffer = 0
        self._producer = 0
        self._cyclic = wq.kind is WqType.CYCLIC
        self._ring = Ring(memory, wq.buffer, wq.log_size, wq.log_stride)
        self._memory = memory
        self._gather = gather
        self._cq = cq
        self._tracer = tracer
        self._place: Callable[..., bool] = self._scatter

    def intercept(self, checks: Sequence[Callable[[], None]]) -> None:
        """Call ``checks`` before each WQE from now on; one that raises QueueFault fails the WQE."""
        self._place = partial(self._checked, checks) if checks else self._scatter

    def _checked(
        self, checks: Sequence[Callable[[], None]], index: int, *parts: memoryview
    ) -> bool:
        for check in checks:
            check()
        return self._scatter(index, *parts)

    def modify(self, state: QueueState) -> None:
        """Go to ``state``; leaving RST starts at index 0."""
        if self.state is QueueState.RST:
            self.consumer = self._producer = 0
        self.state = state

    def receive(
        self, frames: Iterable[memoryview], cqe: bytearray, sums: Iterable[int], strip: bool
    ) -> None:
        """Write each frame into the next WQE's buffers and complete it.

        ``cqe`` is the completion that all frames share; ``sums`` gives ``check_sum`` of each;
        ``strip`` removes the outer VLAN tag (the CQE carries it). Frames for which no buffer is
        posted are counted and dropped, as every frame is unless the queue is ready.
        """
        if self.state is not QueueState.RDY or not self._cyclic:
            return
        for frame, check_sum in zip(frames, sums, strict=True):
            index = self.consumer
            try:
                if index == self._producer and not self._refresh():
                    self.out_of_buffer += 1
                    continue
                if strip:
                    length = len(frame) - _TAG
                    fits = self._place(index, frame[:12], frame[12 + _TAG :])
                else:
                    length = len(frame)
                    fits = self._place(index, frame)
            except QueueFault as fault:
                self._fail(index, str(fault), fault.syndrome)
                return
            except DmaFault as fault:
                self._fail(index, str(fault), CqeSyndrome.LOCAL_PROT_ERR)
                return
            self.consumer = index + 1 & 0xFFFF
            if not fits:
                self._complete_error(index, CqeSyndrome.LOCAL_LENGTH_ERR)
                continue
            _U16.pack_into(cqe, _CHECK_SUM, check_sum)
            _U32.pack_into(cqe, _BYTE_CNT, length)
            _U16.pack_into(cqe, _WQE_COUNTER, index)
            self._cq.post(cqe)

    def _refresh(self) -> bool:
        """Read the producer index from the doorbell record; false if no WQE is posted."""
        producer = self._memory.load_be32(self.config.wq.dbr_addr) & 0xFFFF
        if (producer - self.consumer) & 0xFFFF > self._ring.size:
            raise QueueFault(
                f"the doorbell record says {producer}, behind the ring's end",
                CqeSyndrome.LOCAL_QP_OP_ERR,
            )
        self._producer = producer
        return producer != self.consumer

    def _scatter(self, index: int, *parts: memoryview) -> bool:
        """Copy ``parts``, one after the other, into the buffers of WQE ``index``; do they fit?"""
        page, at = self._ring.locate(index)
        count, lkey, addr = _SEG.unpack_from(page, at)
        room = count & ~INLINE_SEG
        if len(parts) == 1 and len(parts[0]) <= room and lkey != INVALID_LKEY:
            frame = parts[0]
            self._gather.view(lkey, addr, len(frame))[:] = frame
            return True
        end = at + self._ring.stride
        frame = memoryview(b"".join(parts))
        done = 0
        wqe = bytes(page[at:end])
        for seg in range(0, len(wqe), _SEG.size):
            count, lkey, addr = _SEG.unpack_from(wqe, seg)
            room = min(count & ~INLINE_SEG, len(frame) - done)
            if lkey == INVALID_LKEY or not room:
                break
            self._gather.view(lkey, addr, room)[:] = frame[done : done + room]
            done += room
        return done == len(frame)

    def _complete_error(self, index: int, syndrome: int) -> None:
        cqe = ErrCqe(
            syndrome=syndrome,
            qpn=self.config.rqn,
            wqe_counter=index,
            opcode=CqeOpcode.RESP_ERR,
        )
        self._cq.post(cqe.encode())

    def _fail(self, index: int, reason: str, syndrome: int) -> None:
        """A WQE or the ring is bad: an error CQE, and the queue takes no more frames."""
        self.state = QueueState.ERR
        self._tracer.emit(QueueError("RQ", self.config.rqn, index, reason))
        self._complete_error(index, syndrome)
