# SPDX-License-Identifier: GPL-2.0-or-later
"""Send queues: from WQEs to frames.

Source of the formats: ``en_tx.c``, ``en/txrx.h``, ``qp.h``; of the rules that the driver relies on:
``en_tx.c`` mlx5e_poll_tx_cq (``wqe_counter`` is the index of the first WQEBB of the WQE, 16 bit,
not masked) and ``wq.h``.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from struct import Struct

from nicmodel.errors import DmaFault, QueueFault
from nicmodel.frame import CHECKED, ETH_HEADER, ETH_MIN, Frame, Origin, Traffic, Train
from nicmodel.memory import GuestMemory
from nicmodel.objects.queue import QueueState, SqConfig
from nicmodel.offload.checksum import insert_l3, insert_l4
from nicmodel.offload.coalesce import RUN, coalesce
from nicmodel.offload.parse import parse
from nicmodel.offload.segment import OtherLso
from nicmodel.queues.cq import Cq
from nicmodel.queues.gather import DATA_AT, Gather, inline_headers, send_segment
from nicmodel.queues.large import MAX_FRAME, Large, LargeSend
from nicmodel.queues.ring import Ring
from nicmodel.queues.tls_params import progress_params
from nicmodel.queues.tls_rx import TlsRx
from nicmodel.queues.tls_tx import TlsTx, payload_at
from nicmodel.queues.tls_watch import Use
from nicmodel.queues.umr import update_key
from nicmodel.spec.cqe import Cqe, CqeOpcode, CqeSyndrome, ErrCqe
from nicmodel.spec.tls import TlsOpmod
from nicmodel.spec.wqe import (
    CE_MASK,
    ETH_INSERT_SVLAN,
    ETH_INSERT_VLAN,
    SEND_WQE_BB,
    SEND_WQE_DS,
    CtrlSeg,
    EthCsFlags,
    FmCeSe,
    WqeOpcode,
)
from nicmodel.trace.events import QueueError
from nicmodel.trace.tracer import Tracer

_CTRL = Struct(">II3xBI")
"""``CtrlSeg`` as the hot path reads it: opmod_idx_opcode, qpn_ds, fm_ce_se, imm."""
_PLAIN = Struct(">IIxxxBI4xB7xH2xIIQ")
"""A SEND as most are, with one data segment: opmod_idx_opcode, qpn_ds, fm_ce_se, imm, cs_flags,
inline size, byte_count, lkey, addr."""
_TIS_SHIFT = 8
"""Where the TIS number begins in ``imm`` (``tis_tir_num``)."""
_FOR_TIS = (WqeOpcode.SEND, WqeOpcode.LSO, WqeOpcode.DUMP)
_STATIC, _STATIC_MASK = TlsOpmod.TIS << 24 | WqeOpcode.UMR, 0xFF0000FF
"""A UMR whose ``imm`` names a TIS."""
_PLAIN_DS = 3
_TIME = Struct(">Q")
_TIME_AT = 0x30
_TIME_MASK = (1 << 64) - 1
"""``timestamp`` of the CQE: when the WQE was done, in ticks of the internal timer."""

_L3, _L4 = int(EthCsFlags.L3), int(EthCsFlags.L4)
_CQ_UPDATE = int(FmCeSe.CQ_UPDATE)

_DBR_SEND = 4
"""Offset of the send counter in the doorbell record (MLX5_SND_DBR)."""


Egress = Callable[[Traffic], None]
"""Where frames leave the device."""

Verb = Callable[[bytes], None]
"""Executes a WQE."""


def _checked(check: Callable[[], None], verb: Verb, wqe: bytes) -> None:
    check()
    verb(wqe)


class Sq:
    """One send queue."""

    def __init__(
        self,
        config: SqConfig,
        memory: GuestMemory,
        gather: Gather,
        cq: Cq,
        egress: Egress,
        timestamp: Callable[[], int],
        tracer: Tracer,
        tls: TlsTx,
        tls_rx: TlsRx,
        other_lso: OtherLso = OtherLso.REPLICATE,
    ) -> None:
        wq = config.wq
        self.config = config
        self.octets = 0
        """Bytes sent since it was created, without FCS."""
        self._limit = 0
        """``octets`` with which the run that goes on ends."""
        self.state = QueueState.RST
        self.consumer = 0
        self.index = 0
        """Of the WQE that is being executed, or of the first one of a row."""
        self._ring = Ring(memory, wq.buffer, wq.log_size, wq.log_stride)
        self._memory = memory
        self._gather = gather
        self._cq = cq
        self._egress = egress
        self._large = Large(config.sqn, gather, tls, other_lso)
        self._row: list[int] = []
        """Indices of the WQEs of the large sends that leave as one train."""
        self._tls = tls
        self._tls_rx = tls_rx
        self._timestamp = timestamp
        self._tracer = tracer
        self._cqe = bytearray(Cqe(qpn=config.sqn, opcode=CqeOpcode.REQ).encode())
        self._verbs = self._all_verbs()
        self._checks: Sequence[Callable[[], None]] = ()
        self.completes: Callable[[int, int], None] | None = None
        """Is told of each completion: number of the queue, and index of the WQE."""

    def modify(self, state: QueueState) -> None:
        """Go to ``state``; leaving RST starts at index 0 (``mlx5e_reset_txqsq_cc_pc``)."""
        if self.state is QueueState.RST:
            self.consumer = 0
        self.state = state

    def intercept(self, checks: Sequence[Callable[[], None]]) -> None:
        """Call ``checks`` before each WQE from now on; one that raises QueueFault fails the WQE."""
        self._verbs = self._all_verbs()
        self._checks = checks
        for check in checks:
            for opcode, verb in self._verbs.items():
                self._verbs[opcode] = partial(_checked, check, verb)

    def tap(self, sees: "Callable[[Sq, Traffic], None]") -> None:
        """Show ``sees`` all that is sent, before it leaves."""
        egress = self._egress

        def show(traffic: Traffic) -> None:
            parts: list[Traffic] = list(traffic.split())
            for number, part in enumerate(parts):
                if len(parts) > 1:
                    self.index = self._row[number]
                sees(self, part)
            if len(parts) == 1 or all(part.origin is None for part in parts):
                egress(traffic)
            else:
                for part in parts:
                    egress(part)

        self._egress = show

    def waiting(self, most: int) -> Iterator[tuple[int, int, int]]:
        """Index, opcode and TIS of the WQEs that are posted and not begun, ``most`` at most.

        0 is no TIS. It ends where the ring cannot be read, or makes no sense.
        """
        index = self.consumer
        try:
            left = self._producer() - index & 0xFFFF
            while 0 < left <= self._ring.size and most > 0:
                page, at = self._ring.locate(index)
                first, second, _, imm = _CTRL.unpack_from(page, at)
                opcode = first & 0xFF
                named = opcode in _FOR_TIS or first & _STATIC_MASK == _STATIC
                yield index, opcode, imm >> _TIS_SHIFT if named else 0
                blocks = max(1, -(-(second & 0x3F) * SEND_WQE_DS // SEND_WQE_BB))
                index, left, most = index + blocks & 0xFFFF, left - blocks, most - 1
        except DmaFault:
            return

    def posted(self, index: int) -> Iterator[tuple[int, bytes]]:
        """Index and bytes of the WQEs that are posted from ``index`` on.

        Raises QueueFault for one that makes no sense, and DmaFault.
        """
        left = self._producer() - index & 0xFFFF
        if left > self._ring.size:
            raise QueueFault(f"{left} WQEBBs are posted", CqeSyndrome.LOCAL_QP_OP_ERR)
        while left:
            page, at = self._ring.locate(index)
            length = (_CTRL.unpack_from(page, at)[1] & 0x3F) * SEND_WQE_DS
            blocks = -(-length // SEND_WQE_BB)
            if not 0 < blocks <= left:
                raise QueueFault(f"a WQE has {length} bytes", CqeSyndrome.LOCAL_QP_OP_ERR)
            yield index, self._ring.read(index, length)
            index, left = index + blocks & 0xFFFF, left - blocks

    def _producer(self) -> int:
        """How far the driver has posted, by the doorbell record. Raises DmaFault."""
        return self._memory.load_be32(self.config.wq.dbr_addr + _DBR_SEND) & 0xFFFF

    def _all_verbs(self) -> dict[int, Verb]:
        return {
            WqeOpcode.NOP: lambda _: None,
            WqeOpcode.SEND: self._send,
            WqeOpcode.LSO: self._lso,
            WqeOpcode.ENHANCED_MPSW: self._mpsw,
            WqeOpcode.UMR: self._umr,
            WqeOpcode.SET_PSV: self._set_psv,
            WqeOpcode.GET_PSV: self._get_psv,
            WqeOpcode.DUMP: self._dump,
        }

    def run(self, budget: int, octets: int) -> bool:
        """Execute at most ``budget`` WQEs; true if posted WQEs are left.

        None is begun once ``octets`` bytes have been sent.

        Only the doorbell record says how far the driver has posted: WQEs behind it are not read,
        for the driver still writes the completion flag into the last one.
        """
        if self.state is QueueState.RST:
            return False
        try:
            producer = self._producer()
        except DmaFault as fault:
            self._fail_queue(str(fault))
            return False
        if (producer - self.consumer) & 0xFFFF > self._ring.size:
            self._fail_queue(f"the doorbell record says {producer}, behind the ring's end")
            return False
        self._limit = self.octets + octets
        while self.consumer != producer:
            left = self._limit - self.octets
            if not budget or left <= 0:
                return True
            posted = (producer - self.consumer) & 0xFFFF
            done = self._plain_sends(min(posted, budget), left)
            if not done:
                done = self._large_sends(posted, budget, left)
            if not done:
                self._step(posted)
                done = 1
            budget -= done
        return False

    def stop(self) -> None:
        """End what ``run`` is doing before the next WQE, or row of WQEs."""
        self._limit = 0

    def _plain_sends(self, most: int, octets: int) -> int:
        """Execute at most ``most`` WQEs at once; how many.

        They are SENDs in a row, each of one data segment and all of one length: bursts of small
        frames look so. Whatever else comes, also what is bad, ends the row and is for ``_step``.
        ``octets``: as for ``run``.
        """
        if most < RUN or self._checks or self.state is not QueueState.RDY:
            return 0
        index = self.consumer
        try:
            page, at = self._ring.locate(index)
        except DmaFault:
            return 0
        stop = min(at + most * SEND_WQE_BB, len(page))
        plain = self.config.sqn << 8 | _PLAIN_DS
        frames: list[memoryview] = []
        asked = []
        length = cs_flags = 0
        while at < stop:
            first, second, ce, imm, flags, size, count, lkey, addr = _PLAIN.unpack_from(page, at)
            if first & 0xFF != WqeOpcode.SEND or second != plain or size or imm >> _TIS_SHIFT:
                break
            if not frames:
                if not ETH_HEADER <= count <= MAX_FRAME:
                    break
                length, cs_flags = count, flags
                stop = min(stop, at + -(-octets // max(count, ETH_MIN)) * SEND_WQE_BB)
            elif count != length or flags != cs_flags:
                break
            try:
                frames.append(self._gather.view(lkey, addr, count))
            except QueueFault:
                break
            if ce & CE_MASK == _CQ_UPDATE:
                asked.append(index + len(frames) - 1 & 0xFFFF)
            at += SEND_WQE_BB
        if len(frames) < RUN:
            return 0
        self.consumer = index + len(frames) & 0xFFFF
        self.index = index
        self._transmit_many(frames, cs_flags)
        for one in asked:
            self._complete(WqeOpcode.SEND, one)
        return len(frames)

    def _large_sends(self, posted: int, budget: int, octets: int) -> int:
        """Execute at most ``budget`` WQEs at once; how many.

        They are LSOs of one flow in a row: who sends much posts them so. ``posted`` WQEBBs are the
        driver's word; what ends a row and ``octets`` are as for ``_plain_sends``.
        """
        if self._checks or self.state is not QueueState.RDY:
            return 0
        index, large = self.consumer, self._large
        sends: list[LargeSend] = []
        asked = []
        try:
            while len(sends) < budget and octets > 0 and posted:
                page, at = self._ring.locate(index)
                first, second, ce, _ = _CTRL.unpack_from(page, at)
                length = (second & 0x3F) * SEND_WQE_DS
                blocks = -(-length // SEND_WQE_BB)
                if first & 0xFF != WqeOpcode.LSO or second >> 8 != self.config.sqn:
                    break
                if blocks > posted:
                    break
                wqe = bytes(page[at : at + length])
                send = large.read(
                    wqe if len(wqe) == length else self._ring.read(index, length), index
                )
                if not (large.follows(sends[0], send) if sends else large.begins(send)):
                    break
                sends.append(send)
                if ce & CE_MASK == _CQ_UPDATE:
                    asked.append(index)
                index = index + blocks & 0xFFFF
                posted -= blocks
                octets -= send.octets
        except (QueueFault, DmaFault):
            pass
        try:
            if not sends:
                return 0
            train = large.train(sends)
        except QueueFault:
            return 0
        self.consumer, self.index = index, sends[0].index
        self._transmit_large(sends, train)
        for one in asked:
            self._complete(WqeOpcode.LSO, one)
        return len(sends)

    def _step(self, posted: int) -> None:
        """Execute the WQE at ``consumer``; ``posted`` WQEBBs are the driver's word."""
        index = self.index = self.consumer
        try:
            page, at = self._ring.locate(index)
            first, second, fm_ce_se, _ = _CTRL.unpack_from(page, at)
            length = (second & 0x3F) * SEND_WQE_DS
            blocks = -(-length // SEND_WQE_BB)
            if self.state is QueueState.ERR:
                self.consumer = index + max(1, min(blocks, posted)) & 0xFFFF
                self._complete_error(first & 0xFF, index, CqeSyndrome.WR_FLUSH_ERR)
                return
            if not 0 < blocks <= posted or second >> 8 != self.config.sqn:
                self.consumer = index + 1 & 0xFFFF
                raise QueueFault(
                    f"WQE of {length} bytes for queue {second >> 8:#x}, {posted} WQEBBs posted",
                    CqeSyndrome.LOCAL_QP_OP_ERR,
                )
            self.consumer = index + blocks & 0xFFFF
            verb = self._verbs.get(first & 0xFF)
            if verb is None:
                raise QueueFault(
                    f"opcode {first & 0xFF:#x} is not for this queue", CqeSyndrome.LOCAL_QP_OP_ERR
                )
            wqe = bytes(page[at : at + length])
            verb(wqe if len(wqe) == length else self._ring.read(index, length))
        except QueueFault as fault:
            self._fail(index, first & 0xFF, str(fault), fault.syndrome)
        except DmaFault as fault:
            self._fail_queue(str(fault))
            self.consumer = index + posted & 0xFFFF
        else:
            if fm_ce_se & CE_MASK == _CQ_UPDATE:
                self._complete(first & 0xFF, index)

    def _complete(self, opcode: int, index: int) -> None:
        cqe = self._cqe
        _TIME.pack_into(cqe, _TIME_AT, self._timestamp() & _TIME_MASK)
        cqe[0x38] = opcode
        cqe[0x3C] = index >> 8
        cqe[0x3D] = index & 0xFF
        self._cq.post(cqe)
        if self.completes is not None:
            self.completes(self.config.sqn, index)

    def _complete_error(self, opcode: int, index: int, syndrome: int) -> None:
        cqe = ErrCqe(
            syndrome=syndrome,
            wqe_opcode=opcode,
            qpn=self.config.sqn,
            wqe_counter=index,
            opcode=CqeOpcode.REQ_ERR,
        )
        self._cq.post(cqe.encode())

    def _fail(self, index: int, opcode: int, reason: str, syndrome: int) -> None:
        """A WQE is bad: an error CQE, and the queue flushes what follows."""
        self.state = QueueState.ERR
        self._tracer.emit(QueueError("SQ", self.config.sqn, index, reason))
        self._complete_error(opcode, index, syndrome)

    def _fail_queue(self, reason: str) -> None:
        """The queue itself cannot be read: it goes to error without a completion."""
        if self.state is not QueueState.ERR:
            self.state = QueueState.ERR
            self._tracer.emit(QueueError("SQ", self.config.sqn, self.consumer, reason))

    def _send(self, wqe: bytes) -> None:
        """SEND: one frame."""
        imm, cs_flags, _, _, _, size, start = send_segment(wqe)
        header, at = inline_headers(wqe, size) if size else (b"", DATA_AT)
        pieces = self._gather.segments(wqe, at)
        length = len(header)
        for piece in pieces:
            length += len(piece)
        if length > MAX_FRAME:
            raise QueueFault("the frame is too long", CqeSyndrome.LOCAL_LENGTH_ERR)
        frame = bytearray(header)
        for piece in pieces:
            frame += piece
        origin = None
        if imm >> _TIS_SHIFT:
            at = payload_at(frame, len(header))
            use = self._use(imm)
            frame[at:], origin = self._tls.encrypt(use, frame[:at], [memoryview(frame)[at:]])
        if size & ETH_INSERT_VLAN:
            _insert_vlan(frame, size, start)
        self._transmit(frame, cs_flags, origin)

    def _use(self, imm: int) -> Use:
        """The WQE that is being executed, and the TIS that it names."""
        return Use(self.config.sqn, self.index, imm >> _TIS_SHIFT)

    def _transmit(self, frame: bytearray, cs_flags: int, origin: Origin | None = None) -> None:
        """Pad, insert the checksums that were asked for, and send."""
        if len(frame) < ETH_MIN:
            if len(frame) < ETH_HEADER:
                raise QueueFault("no Ethernet header", CqeSyndrome.LOCAL_LENGTH_ERR)
            frame.extend(bytes(ETH_MIN - len(frame)))
        self.octets += len(frame)
        headers, checked = None, 0
        if cs_flags & (_L3 | _L4):
            headers = parse(frame, len(frame))
            if headers is not None and headers.ip_version:
                if cs_flags & _L3:
                    insert_l3(frame, headers)
                    checked = 1
                if cs_flags & _L4 and insert_l4(frame, headers):
                    checked |= 2
        self._egress(Frame(frame, CHECKED[checked], headers, origin))

    def _transmit_many(self, frames: list[memoryview], cs_flags: int) -> None:
        """``_transmit`` frames of one length, as many of them as can be as a train."""
        l3, l4 = bool(cs_flags & _L3), bool(cs_flags & _L4)
        train = coalesce(frames, l3=l3, l4=l4)
        if train is not None:
            self.octets += train.octets
            self._egress(train)
        for frame in frames[train.count if train is not None else 0 :]:
            self._transmit(bytearray(frame), cs_flags)

    def _lso(self, wqe: bytes) -> None:
        """LSO: headers inline, payload gathered."""
        sends = [self._large.read(wqe, self.index)]
        self._transmit_large(sends, self._large.train(sends))

    def _transmit_large(self, sends: list[LargeSend], train: Train) -> None:
        """Send the train of a row, or of one."""
        self.octets += train.octets
        self._row = [send.index for send in sends]
        self._egress(train)

    def _umr(self, wqe: bytes) -> None:
        """UMR: change the translations of a memory key, or the parameters of a TLS context."""
        control = CtrlSeg.decode(wqe)
        if control.opmod == TlsOpmod.TIS:
            self._tls.static_params(self._use(control.imm), wqe)
        elif control.opmod == TlsOpmod.TIR:
            self._tls_rx.set_static_params(wqe, self.config.wq.pd)
        elif self.config.reg_umr:
            update_key(wqe, self.config.wq.pd, self._gather.keys)
        else:
            raise QueueFault("UMRs are not for this queue", CqeSyndrome.LOCAL_QP_OP_ERR)

    def _set_psv(self, wqe: bytes) -> None:
        """SET_PSV: begin the byte stream of a TLS context."""
        opmod = CtrlSeg.decode(wqe).opmod
        if opmod == TlsOpmod.TIS:
            tisn, _ = progress_params(wqe)
            self._tls.progress_params(self._use(tisn << _TIS_SHIFT))
        elif opmod == TlsOpmod.TIR:
            self._tls_rx.set_progress_params(wqe)
        else:
            raise QueueFault("this SET_PSV is for no TIS and no TIR", CqeSyndrome.LOCAL_QP_OP_ERR)

    def _get_psv(self, wqe: bytes) -> None:
        """GET_PSV: where the byte stream of a TLS context stands."""
        if CtrlSeg.decode(wqe).opmod != TlsOpmod.TIR:
            raise QueueFault("this GET_PSV is not for a TIR", CqeSyndrome.LOCAL_QP_OP_ERR)
        self._tls_rx.get_progress_params(wqe, self._gather)

    def _dump(self, wqe: bytes) -> None:
        """DUMP: data that a TLS context has sent before, and is to pass again."""
        pieces = self._gather.segments(wqe, CtrlSeg.SIZE)
        if sum(map(len, pieces)) > MAX_FRAME:
            raise QueueFault("the DUMP is too long", CqeSyndrome.LOCAL_LENGTH_ERR)
        self._tls.dump(self._use(CtrlSeg.decode(wqe).imm), pieces)

    def _mpsw(self, wqe: bytes) -> None:
        """ENHANCED_MPSW: every data segment is a complete frame."""
        imm, cs_flags, _, _, _, size, start = send_segment(wqe)
        if imm >> _TIS_SHIFT:
            raise QueueFault("ENHANCED_MPSW with a TIS", CqeSyndrome.LOCAL_QP_OP_ERR)
        for length, group in groupby(self._gather.segments(wqe, DATA_AT), len):
            if length > MAX_FRAME:
                raise QueueFault("the frame is too long", CqeSyndrome.LOCAL_LENGTH_ERR)
            pieces = list(group)
            if len(pieces) >= RUN and not size & ETH_INSERT_VLAN:
                self._transmit_many(pieces, cs_flags)
                continue
            for piece in pieces:
                frame = bytearray(piece)
                if size & ETH_INSERT_VLAN:
                    _insert_vlan(frame, size, start)
                self._transmit(frame, cs_flags)


def _insert_vlan(frame: bytearray, kind: int, tci: int) -> None:
    """Put a tag behind the addresses; ``kind`` is ``insert.type``."""
    tpid = 0x88A8 if kind & ETH_INSERT_SVLAN else 0x8100
    frame[12:12] = (tpid << 16 | tci).to_bytes(4, "big")
