# SPDX-License-Identifier: GPL-2.0-or-later
"""Striding receive queues: many frames to a WQE (``en_rx.c`` mlx5e_handle_rx_cqe_mpwrq).

WQEs form a linked list in the ring; the first is entry 0 (``wq.c`` mlx5_wq_ll_init_list), and the
doorbell record counts how many are posted. A frame takes whole strides of one WQE. A frame that the
rest of a WQE cannot hold ends it with a *filler* CQE and goes to the next one, so that the strides
of the CQEs of a WQE always add up to its number: only then does the driver take it back.
"""

from struct import Struct

from nicmodel.errors import DmaFault, QueueFault
from nicmodel.frame import Frames, untagged
from nicmodel.memory import GuestMemory
from nicmodel.objects.mkey import TranslatedKey
from nicmodel.objects.queue import QueueState, RqConfig, Strides
from nicmodel.queues.cq import Cq
from nicmodel.queues.gather import Gather
from nicmodel.queues.rq import MANY, Rq
from nicmodel.spec.cqe import FILLER, Cqe, CqeOpcode, CqeSyndrome, ErrCqe
from nicmodel.spec.wqe import INLINE_SEG, NextSeg
from nicmodel.trace.tracer import Tracer

_SEG = Struct(">IIQ")
_U16 = Struct(">H")
_U32 = Struct(">I")
_NEXT_AT = NextSeg.SPANS["next_wqe_index"].start // 8
_WQE_ID, _CHECK_SUM, _BYTE_CNT, _WQE_COUNTER = 0x02, 0x14, 0x2C, 0x3C
"""Offsets in the CQE of what differs between the frames of a train (``spec.cqe.Cqe``)."""


def _cut(
    key: TranslatedKey, where: int, frame: memoryview, addrs: list[int], pieces: list[memoryview]
) -> None:
    """Append the pieces of a frame that lie in one page each, and their guest addresses.

    ``where`` counts bytes from the start of the key's first page.
    """
    table, shift = key.table, key.page_shift
    page = 1 << shift
    done, length = 0, len(frame)
    while done < length:
        offset = where & page - 1
        piece = frame[done : done + page - offset]
        addrs.append((table[where >> shift] & -page) + offset)
        pieces.append(piece)
        done += len(piece)
        where += len(piece)


class StridingRq(Rq):
    """One striding receive queue; ``consumer`` counts the WQEs that are used up."""

    def __init__(
        self,
        config: RqConfig,
        strides: Strides,
        memory: GuestMemory,
        gather: Gather,
        cq: Cq,
        tracer: Tracer,
    ) -> None:
        super().__init__(config, memory, gather, cq, tracer)
        self._number = 1 << strides.log_number
        self._shift = strides.log_size
        self._lead = 2 if strides.two_byte_shift else 0
        self._round_up = (1 << strides.log_size) - 1 + self._lead
        self._bytes = self._lead + (self._number << strides.log_size)
        self._begin()

    def _begin(self) -> None:
        self._wqe: int | None = None
        self._stride = self._number
        """Next free stride of WQE ``_wqe``; ``_number`` if there is none in use."""
        self._lkey = self._addr = 0
        self._key: TranslatedKey | None = None

    def modify(self, state: QueueState) -> None:
        """Go to ``state``; leaving RST starts at entry 0."""
        if self.state is QueueState.RST:
            self._begin()
        super().modify(state)

    def receive(self, frames: Frames, cqe: bytearray, sums: list[int], strip: bool) -> None:
        """Write each frame into strides and complete it; arguments as for ``Rq.receive``."""
        if self.state is not QueueState.RDY:
            return
        frames = list(untagged(frames) if strip else frames)
        at, count = 0, len(frames)
        try:
            if self._stride < self._number:
                self._bind()  # the key may have changed since the last call
            while at < count:
                done = 0
                if count - at >= MANY and not self._checks:
                    done = self._receive_run(frames[at:], cqe, sums[at:])
                if not done:
                    self._receive_one(frames[at], cqe, sums[at])
                    done = 1
                at += done
        except QueueFault as fault:
            self._fail(self._wqe or 0, str(fault), fault.syndrome)
        except DmaFault as fault:
            self._fail(self._wqe or 0, str(fault), CqeSyndrome.LOCAL_PROT_ERR)

    def _receive_one(self, frame: memoryview, cqe: bytearray, check_sum: int) -> None:
        length = len(frame)
        strides = length + self._round_up >> self._shift
        if self._stride + strides > self._number and not self._advance(strides):
            self.out_of_buffer += 1
            return
        for check in self._checks:
            check()
        stride = self._stride
        addr = self._addr + (stride << self._shift) + self._lead
        key = self._key
        if key is None:
            self._memory.write(self._gather.translate(self._lkey, addr, length), frame)
        else:
            addrs: list[int] = []
            pieces: list[memoryview] = []
            _cut(key, addr - (key.start & -1 << key.page_shift), frame, addrs, pieces)
            self._memory.scatter(addrs, pieces)
        _U16.pack_into(cqe, _WQE_ID, self._wqe or 0)
        _U16.pack_into(cqe, _CHECK_SUM, check_sum)
        _U32.pack_into(cqe, _BYTE_CNT, strides << 16 | length)
        _U16.pack_into(cqe, _WQE_COUNTER, stride)
        self._use(strides)
        self._cq.post(cqe)

    def _receive_run(self, frames: list[memoryview], cqe: bytearray, sums: list[int]) -> int:
        """The same for as many frames as the WQE in use can hold, at once; how many they are."""
        key, stride = self._key, self._stride
        if key is None or stride == self._number:
            return 0
        number, shift, round_up = self._number, self._shift, self._round_up
        table, page_shift = key.table, key.page_shift
        page = 1 << page_shift
        mask = page - 1
        origin = self._addr + self._lead - (key.start & ~mask)
        addrs: list[int] = []
        pieces: list[memoryview] = []
        byte_cnts: list[int] = []
        starts: list[int] = []
        for frame in frames:
            length = len(frame)
            strides = length + round_up >> shift
            if stride + strides > number:
                break
            where = origin + (stride << shift)
            offset = where & mask
            if offset + length <= page:
                addrs.append((table[where >> page_shift] & ~mask) + offset)
                pieces.append(frame)
            else:
                _cut(key, where, frame, addrs, pieces)
            byte_cnts.append(strides << 16 | length)
            starts.append(stride)
            stride += strides
        if starts:
            self._memory.scatter(addrs, pieces)
            _U16.pack_into(cqe, _WQE_ID, self._wqe or 0)
            self._use(stride - self._stride)
            cqes = bytearray()
            for check_sum, byte_cnt, start in zip(sums, byte_cnts, starts, strict=False):
                _U16.pack_into(cqe, _CHECK_SUM, check_sum)
                _U32.pack_into(cqe, _BYTE_CNT, byte_cnt)
                _U16.pack_into(cqe, _WQE_COUNTER, start)
                cqes += cqe
            self._cq.post_many(cqes)
        return len(starts)

    def _use(self, strides: int) -> None:
        self._stride += strides
        if self._stride == self._number:
            self.consumer = self.consumer + 1 & 0xFFFF

    def _advance(self, strides: int) -> bool:
        """Go to the next WQE, which is for a frame of so many strides; false if none is posted."""
        if strides > self._number:
            raise QueueFault(
                f"a frame needs {strides} strides and a WQE has {self._number}",
                CqeSyndrome.LOCAL_LENGTH_ERR,
            )
        if self._stride < self._number:
            self._fill()
        if self.consumer == self._producer and not self._refresh():
            return False
        following = 0
        if self._wqe is not None:
            page, at = self._ring.locate(self._wqe)
            (following,) = _U16.unpack_from(page, at + _NEXT_AT)
            if following >= self._ring.size:
                raise QueueFault(
                    f"WQE {self._wqe} is followed by {following}, behind the ring's end",
                    CqeSyndrome.LOCAL_QP_OP_ERR,
                )
        page, at = self._ring.locate(following)
        count, self._lkey, self._addr = _SEG.unpack_from(page, at + NextSeg.SIZE)
        self._wqe = following
        if count & ~INLINE_SEG < self._number << self._shift:
            raise QueueFault(
                f"WQE {following} has {count & ~INLINE_SEG} bytes for all its strides",
                CqeSyndrome.LOCAL_LENGTH_ERR,
            )
        self._bind()
        self._stride = 0
        return True

    def _bind(self) -> None:
        """Look up the key of the WQE in use; once it is found good, every stride is inside it."""
        key = self._key = self._gather.keys.translated_key(self._lkey)
        if key is not None:
            key.check(self._addr, self._bytes)

    def _fill(self) -> None:
        """Give up the rest of the WQE in use."""
        rest = self._number - self._stride
        cqe = Cqe(
            wqe_id=self._wqe or 0,
            byte_cnt=(FILLER | rest) << 16,
            wqe_counter=self._stride,
            opcode=CqeOpcode.RESP_SEND,
        )
        self._use(rest)
        self._cq.post(cqe.encode())

    def _complete_error(self, index: int, syndrome: int) -> None:
        cqe = bytearray(
            ErrCqe(
                syndrome=syndrome,
                qpn=self.config.rqn,
                wqe_counter=min(self._stride, self._number - 1),
                opcode=CqeOpcode.RESP_ERR,
            ).encode()
        )
        _U16.pack_into(cqe, _WQE_ID, index)
        self._cq.post(cqe)
