# SPDX-License-Identifier: GPL-2.0-or-later
"""TLS receive offload: contexts by TIR, and what becomes of the frames that reach one.

Sources: ``en_accel/ktls_rx.c`` for the WQEs and what the driver makes of them, and
``Documentation/networking/tls-offload.rst`` for what a device may do to a frame: either all that it
carries of records was decrypted, or it is delivered as it was on the wire.

A context's static parameters come in a UMR, and a SET_PSV says where its first record begins. When
the tracker has found a header, its frame is marked; the driver reads with GET_PSV where that was,
asks its kernel, and answers with static parameters that have ``resync_tcp_sn`` and the record's
number.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from struct import Struct

from nicmodel.errors import DmaFault, QueueFault
from nicmodel.frame import Headers
from nicmodel.memory import GuestMemory
from nicmodel.objects.store import Objects
from nicmodel.objects.tls import Dek
from nicmodel.offload.parse import IPPROTO_TCP
from nicmodel.offload.tls.cipher import RecordCipher
from nicmodel.offload.tls.stream import DecryptStream, Record
from nicmodel.offload.tls.track import Tracker, lengths
from nicmodel.queues.events import (
    TlsRxEnded,
    TlsRxForged,
    TlsRxIgnored,
    TlsRxResyncAnswered,
    TlsRxResyncAsked,
)
from nicmodel.queues.gather import Gather
from nicmodel.queues.tls_params import find_dek, make_cipher, progress_params, static_params
from nicmodel.spec.cqe import CqeSyndrome, TlsOffload
from nicmodel.spec.tls import AuthState, TlsProgressParams, TlsStaticParams, TrackerState
from nicmodel.spec.wqe import CtrlSeg, GetPsvSeg
from nicmodel.trace.tracer import Tracer
from nicmodel.units import Pdn, Tirn

PSV_SIZE = 64
"""Bytes that a GET_PSV writes (``ktls_rx.c`` PROGRESS_PARAMS_WRITE_UNIT)."""

_U16 = Struct(">H")
_U32 = Struct(">I")
_SYN = 0x02
_ONE_PSV = 1
_COUNT = (1 << 24) - 1


@dataclass(frozen=True, slots=True)
class Received:
    """A frame that reached a TIR with TLS, for who watches.

    ``frame`` is as it was on the wire, ``clear`` as the guest gets it. ``records`` have ended in
    it; ``number`` is that of the record in progress, None if none is being decrypted.
    """

    tirn: Tirn
    frame: memoryview
    clear: memoryview
    verdict: TlsOffload
    records: Sequence[Record]
    number: int | None


@dataclass(frozen=True, slots=True)
class Begun:
    """A context's first record begins at TCP sequence number ``seq``, for who watches."""

    tirn: Tirn
    dek: Dek
    params: TlsStaticParams
    seq: int


@dataclass(slots=True)
class _Context:
    """What a TIR with TLS has set up; ``tracker`` is None until a SET_PSV."""

    params: TlsStaticParams
    dek: Dek
    cipher: RecordCipher
    tracker: Tracker | None = None
    stream: DecryptStream | None = None
    packets: int = 0
    octets: int = 0
    asked: int = 0
    forged: int = 0


class TlsRx:
    """The receive contexts of one NIC.

    ``watches`` are told of each frame that reaches one, ``begun`` of each that a SET_PSV begins;
    nothing is built for them if there are none.
    """

    def __init__(self, memory: GuestMemory, objects: Objects, tracer: Tracer) -> None:
        self._memory = memory
        self._objects = objects
        self._tracer = tracer
        self._contexts: dict[Tirn, _Context] = {}
        self.watches: tuple[Callable[[Received], None], ...] = ()
        self.begun: Callable[[Begun], None] | None = None

    def __len__(self) -> int:
        return len(self._contexts)

    def set_static_params(self, wqe: bytes, pd: Pdn) -> None:
        """UMR with ``opmod`` 2, of a queue in protection domain ``pd``: parameters, or an answer.

        Raises QueueFault, and then nothing has changed.
        """
        tirn = Tirn(CtrlSeg.decode(wqe).imm >> 8)
        params = static_params(wqe)
        if not self._has_tls(tirn):
            return
        dek = find_dek(self._objects.deks, params, pd)
        context = self._contexts.get(tirn)
        if context is None:
            self._contexts[tirn] = _Context(params, dek, make_cipher(params, dek))
            return
        if context.dek is not dek or _fixed(context.params) != _fixed(params):
            context.dek, context.cipher = dek, make_cipher(params, dek)
        context.params = params
        if context.tracker is not None:
            number = params.initial_record_number
            used = context.tracker.confirm(params.resync_tcp_sn, number)
            self._tracer.emit(TlsRxResyncAnswered(tirn, params.resync_tcp_sn, number, used))

    def set_progress_params(self, wqe: bytes) -> None:
        """SET_PSV with ``opmod`` 2: the first record begins at ``next_record_tcp_sn``.

        Raises QueueFault, and then nothing has changed.
        """
        number, params = progress_params(wqe)
        tirn = Tirn(number)
        if not self._has_tls(tirn):
            return
        context = self._contexts.get(tirn)
        if context is None or params.record_tracker_state != TrackerState.START:
            raise QueueFault(
                f"progress parameters of TIR {tirn:#x} before its static ones, or with a tracker "
                f"in state {params.record_tracker_state}",
                CqeSyndrome.LOCAL_QP_OP_ERR,
            )
        context.tracker = Tracker(
            params.next_record_tcp_sn,
            context.params.initial_record_number,
            lengths(context.cipher.version),
        )
        context.stream = None
        if self.begun is not None:
            seq = params.next_record_tcp_sn
            self.begun(Begun(tirn, context.dek, context.params, seq))

    def get_progress_params(self, wqe: bytes, gather: Gather) -> None:
        """GET_PSV with ``opmod`` 2: write TIR number and progress parameters, ``PSV_SIZE`` bytes.

        A TIR without a context says START, which the driver takes for a refusal. Raises QueueFault.
        """
        if len(wqe) < CtrlSeg.SIZE + GetPsvSeg.SIZE:
            raise QueueFault("the GET_PSV is too short", CqeSyndrome.LOCAL_QP_OP_ERR)
        psv = GetPsvSeg.decode(wqe, CtrlSeg.SIZE)
        if psv.num_psv >> 4 != _ONE_PSV:
            raise QueueFault(
                f"GET_PSV of {psv.num_psv >> 4} contexts: it is one", CqeSyndrome.LOCAL_QP_OP_ERR
            )
        tirn = Tirn(psv.psv_index[0])
        context = self._contexts.get(tirn)
        params = TlsProgressParams()
        if context is not None and context.tracker is not None:
            tracker = context.tracker
            offload = tracker.confirmed and tracker.state is TrackerState.TRACKING
            params = TlsProgressParams(
                next_record_tcp_sn=tracker.next_record_tcp_sn,
                hw_resync_tcp_sn=tracker.hw_resync_tcp_sn,
                record_tracker_state=tracker.state,
                auth_state=AuthState.OFFLOAD if offload else AuthState.NO_OFFLOAD,
                hw_offset_record_number=tracker.records & _COUNT,
            )
        data = (_U32.pack(tirn) + params.encode()).ljust(PSV_SIZE, b"\0")
        try:
            self._memory.write(gather.translate(psv.l_key, psv.va, PSV_SIZE), data)
        except DmaFault as fault:
            raise QueueFault(str(fault), CqeSyndrome.LOCAL_PROT_ERR) from fault

    def tir_destroyed(self, tirn: Tirn) -> None:
        """The TIR is gone, and its context with it."""
        context = self._contexts.pop(tirn, None)
        if context is not None:
            self._tracer.emit(
                TlsRxEnded(tirn, context.packets, context.octets, context.asked, context.forged)
            )

    def clear(self) -> None:
        """Forget every context."""
        self._contexts.clear()

    def receive(
        self, tirn: Tirn, headers: Headers, frames: list[memoryview]
    ) -> tuple[list[memoryview], list[TlsOffload]]:
        """Decrypt frames of one flow whose checksums are right; ``headers`` are of the first.

        Each comes back, changed or not, with its ``tls_offload``. The frames that were given are
        not written to: others may receive them too.
        """
        context = self._contexts.get(tirn)
        tcp = headers.ip_proto == IPPROTO_TCP and headers.l4_offset and not headers.frag
        if context is None or context.tracker is None or not tcp or headers.tcp_flags & _SYN:
            return frames, [TlsOffload.RAW] * len(frames)
        out, verdicts = [], []
        for frame in frames:
            clear, verdict = self._one(tirn, context, context.tracker, headers, frame)
            out.append(clear)
            verdicts.append(verdict)
        return out, verdicts

    def _one(
        self, tirn: Tirn, context: _Context, tracker: Tracker, headers: Headers, frame: memoryview
    ) -> tuple[memoryview, TlsOffload]:
        start, end = _payload(headers, frame)
        (seq,) = _U32.unpack_from(frame, headers.l4_offset + 4)
        payload = frame[start:end]
        walk = tracker.segment(seq, payload)
        if walk.number is not None:
            # the key may have been destroyed since
            alive = self._objects.deks.find(context.dek.dekn) is context.dek
            context.stream = DecryptStream(context.cipher, walk.number) if alive else None
        verdict, clear = TlsOffload.RAW, frame
        records: list[Record] = []
        stream = context.stream
        if walk.start >= 0 and stream is not None:
            changed = bytearray(frame)
            with memoryview(changed) as view:
                records = stream.run(payload[walk.start :], view[start + walk.start : end])
            forged = next((record for record in records if not record.authentic), None)
            if forged is not None:
                verdict = TlsOffload.ERROR
                context.forged += 1
                context.stream = None
                tracker.search()
                self._tracer.emit(TlsRxForged(tirn, forged.number))
            elif not walk.start:
                verdict, clear = TlsOffload.DECRYPTED, memoryview(changed)
                context.packets += 1
                context.octets += len(frame)
        if walk.found:
            verdict = TlsOffload.RESYNC
            context.asked += 1
            self._tracer.emit(TlsRxResyncAsked(tirn, tracker.hw_resync_tcp_sn))
        if self.watches:
            current = context.stream
            number = current.number if current is not None and current.begun else None
            received = Received(tirn, frame, clear, verdict, records, number)
            for watch in self.watches:
                watch(received)
        return clear, verdict

    def _has_tls(self, tirn: Tirn) -> bool:
        """Is it a TIR with TLS? If not, and it may just have been destroyed, that is an event."""
        tir = self._objects.tirs.find(tirn)
        if tir is None:
            self._tracer.emit(TlsRxIgnored(tirn))
            return False
        if not tir.tls_en:
            raise QueueFault(
                f"TLS parameters for TIR {tirn:#x}, which is without TLS",
                CqeSyndrome.LOCAL_QP_OP_ERR,
            )
        return True


def _fixed(params: TlsStaticParams) -> tuple[int, bytes, bytes]:
    """What makes the cipher, beside the key."""
    return params.tls_version, params.gcm_iv, params.implicit_iv


def _payload(headers: Headers, frame: memoryview) -> tuple[int, int]:
    """Where the TCP payload of a frame of this flow begins and ends; it may be padded."""
    at = headers.l3_offset
    if headers.ip_version == 4:
        end = at + int(_U16.unpack_from(frame, at + 2)[0])
    else:
        end = at + 40 + int(_U16.unpack_from(frame, at + 4)[0])
    return headers.l4_offset + headers.tcp_header, end
