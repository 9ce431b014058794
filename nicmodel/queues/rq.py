# SPDX-License-Identifier: GPL-2.0-or-later
"""Receive queues: from frames to the buffers that the driver posted (``en_rx.c``)."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import islice
from struct import Struct, unpack
from typing import Any

import numpy as np
import numpy.typing as npt

from nicmodel.errors import DmaFault, QueueFault
from nicmodel.frame import Frames, Train, untagged
from nicmodel.memory import GuestMemory
from nicmodel.objects.queue import QueueState, RqConfig, WqType
from nicmodel.queues.cq import Cq
from nicmodel.queues.gather import Gather
from nicmodel.queues.ring import Ring
from nicmodel.spec.cqe import CQE_SIZE, CqeOpcode, CqeSyndrome, ErrCqe
from nicmodel.spec.wqe import INLINE_SEG, INVALID_LKEY
from nicmodel.trace.events import QueueError
from nicmodel.trace.tracer import Tracer

_SEG = Struct(">IIQ")
_U16 = Struct(">H")
_U32 = Struct(">I")
_CHECK_SUM, _BYTE_CNT, _WQE_COUNTER = 0x14, 0x2C, 0x3C
"""Offsets in the CQE of what differs between the frames of a train (``spec.cqe.Cqe``)."""

MANY = 8
"""From so many frames on it pays to treat them at once."""

COUNTING = np.arange(1 << 17).astype(">u2")
"""Indices that wrap at 16 bits, to cut runs of ``wqe_counter`` from."""


@lru_cache(maxsize=64)
def _frame_of(length: int) -> np.dtype[np.void]:
    """A frame as one element of an array."""
    return np.dtype((np.void, length))


def _scatter(train: Train, target: memoryview, offsets: npt.NDArray[np.uint64]) -> None:
    """Write the first frames, one to each offset in ``target``, which has room for the longest."""
    count, width, rows = len(offsets), train.width, train.rows
    kind = _frame_of(width)
    frames: npt.NDArray[np.void] = np.ndarray(count, kind, rows, 0, rows.strides[0])
    # element i is what begins at byte i, so one indexed copy writes many frames
    places: npt.NDArray[np.void] = np.ndarray(len(target) - width + 1, kind, target, 0, 1)
    begin = 0
    for number, length in train.shorter:
        if number >= count:
            break
        if begin < number:
            places[offsets[begin:number]] = frames[begin:number]
        at = int(offsets[number])
        target[at : at + length] = rows[number, :length].data
        begin = number + 1
    if begin < count:
        places[offsets[begin:]] = frames[begin:]


def _completions(
    frames: Frames, cqe: bytearray, sums: list[int], counters: npt.NDArray[Any]
) -> bytearray:
    """The CQEs of the first frames, one for each of ``counters``: ``cqe``, but for what differs."""
    count = len(counters)
    if isinstance(frames, Train):
        _describe(cqe, 0, sums[0], frames.length)
        cqes = cqe * count
        lengths = dict(frames.shorter)
        for number in frames.ends:  # one that is padded may have as many bytes and another sum
            if number >= count:
                break
            length = lengths.get(number, frames.width)
            _describe(cqes, number * CQE_SIZE, sums[number], length)
    else:
        cqes = cqe * count
        for at, check_sum, frame in zip(range(0, len(cqes), CQE_SIZE), sums, frames, strict=False):
            _describe(cqes, at, check_sum, len(frame))
    np.frombuffer(cqes, ">u2")[_WQE_COUNTER // 2 :: CQE_SIZE // 2] = counters
    return cqes


def _describe(cqes: bytearray, at: int, check_sum: int, length: int) -> None:
    """Tell in the CQE at byte ``at`` of a frame."""
    _U16.pack_into(cqes, at + _CHECK_SUM, check_sum)
    _U32.pack_into(cqes, at + _BYTE_CNT, length)


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
        self._checks: Sequence[Callable[[], None]] = ()

    def intercept(self, checks: Sequence[Callable[[], None]]) -> None:
        """Call ``checks`` before each frame from now on; one that raises QueueFault fails it."""
        self._checks = checks

    def modify(self, state: QueueState) -> None:
        """Go to ``state``; leaving RST starts at index 0."""
        if self.state is QueueState.RST:
            self.consumer = self._producer = 0
        self.state = state

    def receive(self, frames: Frames, cqe: bytearray, sums: list[int], strip: bool) -> None:
        """Write each frame into the next WQE's buffers and complete it.

        ``cqe`` is the completion that all frames share; ``sums`` gives ``check_sum`` of each;
        ``strip`` removes the outer VLAN tag (the CQE carries it). Frames for which no buffer is
        posted are counted and dropped, as every frame is unless the queue is ready.
        """
        if self.state is not QueueState.RDY or not self._cyclic:
            return
        if strip:
            frames = untagged(frames)
        done = 0
        if len(frames) >= MANY and not self._checks:
            done = self._receive_many(frames, cqe, sums)
            if done == len(frames):
                return
        for frame, check_sum in zip(islice(frames, done, None), sums[done:], strict=True):
            index = self.consumer
            try:
                if index == self._producer and not self._refresh():
                    self.out_of_buffer += 1
                    continue
                for check in self._checks:
                    check()
                fits = self._scatter(index, frame)
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
            _describe(cqe, 0, check_sum, len(frame))
            _U16.pack_into(cqe, _WQE_COUNTER, index)
            self._cq.post(cqe)

    def _receive_many(self, frames: Frames, cqe: bytearray, sums: list[int]) -> int:
        """The same at once for the first frames, as many as WQEs are posted; how many they are.

        None, and nothing has happened, if they are few or anything is special. That is all but WQEs
        whose first buffers, of one size under one key and all in one region of memory, take a frame
        each.
        """
        index, count = self.consumer, len(frames)
        longest = frames.length if isinstance(frames, Train) else max(map(len, frames))
        try:
            if (self._producer - index) & 0xFFFF < count:
                self._refresh()
                count = min(count, (self._producer - index) & 0xFFFF)
                if count < MANY:
                    return 0
            step = self._ring.stride // 8
            wqes = self._ring.read(index, count * step * 8)
            words = unpack(f">{count * step}Q", wqes)
            sizes_and_keys, addrs = words[::step], words[1::step]
            both = sizes_and_keys[0]
            size, lkey = both >> 32 & ~INLINE_SEG, both & 0xFFFFFFFF
            if lkey == INVALID_LKEY or size < longest or sizes_and_keys.count(both) < count:
                return 0
            # a key that permits the whole span permits each frame, and moves all alike
            first = min(addrs)
            target = self._gather.view(lkey, first, max(addrs) - first + longest)
        except (QueueFault, DmaFault):
            return 0
        self.consumer = index + count & 0xFFFF
        if isinstance(frames, Train):
            _scatter(frames, target, np.frombuffer(wqes, ">u8")[1::step] - np.uint64(first))
        else:
            for addr, frame in zip(addrs, frames, strict=False):
                target[addr - first : addr - first + len(frame)] = frame
        cqes = _completions(frames, cqe, sums, COUNTING[index : index + count])
        self._cq.post_many(cqes)
        return count

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

    def _scatter(self, index: int, frame: memoryview) -> bool:
        """Copy ``frame`` into the buffers of WQE ``index``, one after the other; does it fit?"""
        page, at = self._ring.locate(index)
        count, lkey, addr = _SEG.unpack_from(page, at)
        length = len(frame)
        if length <= count & ~INLINE_SEG and lkey != INVALID_LKEY:
            self._memory.write(self._gather.translate(lkey, addr, length), frame)
            return True
        done = 0
        wqe = bytes(page[at : at + self._ring.stride])
        for seg in range(0, len(wqe), _SEG.size):
            count, lkey, addr = _SEG.unpack_from(wqe, seg)
            room = min(count & ~INLINE_SEG, length - done)
            if lkey == INVALID_LKEY or not room:
                break
            target = self._gather.translate(lkey, addr, room)
            self._memory.write(target, frame[done : done + room])
            done += room
        return done == length

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
