# SPDX-License-Identifier: GPL-2.0-or-later
"""LRO: segments of one TCP stream that follow each other become one large packet.

The driver rebuilds the headers from the first segment's and from the CQE (``en_rx.c``
mlx5e_lro_update_hdr), so what it does not rebuild must be the same in all of them. Segments are
held until the session ends: with a segment that does not continue it, with PSH or a short
segment, when the packet is as large as the TIR permits, or with the batch of work in progress (the
event loop is no finer than the TIR's timeout).
"""

from dataclasses import dataclass, field
from struct import Struct

import numpy as np

from nicmodel.frame import Frames, Headers
from nicmodel.objects.transport import PacketMerge
from nicmodel.offload.checksum import ones_sum, pseudo_sum
from nicmodel.offload.parse import IPPROTO_TCP
from nicmodel.queues.rq import MANY, Rq

MAX_SESSIONS = 64
"""Open sessions of one NIC; one more ends the oldest. *assumption*"""

MAX_SEGMENTS = 255
"""``lro_num_seg`` has 8 bits."""

MAX_LENGTH = 65535
"""The lower half of ``byte_cnt`` has 16 bits."""

_TCP = Struct(">10H")
"""sport, dport, seq (2), ack (2), offset and flags, window, checksum, urgent pointer."""
_U16 = Struct(">H")
_ACK, _PSH = 0x10, 0x08
_FLAGS = 0x1FF

_LRO = Struct(">BBHI")
"""tcppsh_abort_dupack, min_ttl, tcp_win, ack_seq_num."""
_LRO_AT = 0x04
_NUM_SEG_AT = 0x20
_CQE_PSH = 0x40

Flow = tuple[object, ...]


@dataclass(slots=True)
class Session:
    """One large packet in the making; numbers are of what it holds so far."""

    rq: Rq
    cqe: bytearray
    strip: bool
    check_sum: int
    """``check_sum`` of the first segment, should it stay alone."""
    same: bytes
    """What every segment's headers have in common."""
    pieces: list[memoryview]
    """The first frame, then payloads."""
    segment: int
    """Payload of the first segment, bytes."""
    payload: int
    next_seq: int
    ack: int
    window: int
    ttl: int
    payload_sum: int
    psh: bool = False
    count: int = field(default=1)

    def deliver(self) -> None:
        """Give the packet to the queue."""
        if self.count == 1:
            self.rq.receive([self.pieces[0]], self.cqe, [self.check_sum], self.strip)
            return
        flags = _CQE_PSH if self.psh else 0
        _LRO.pack_into(self.cqe, _LRO_AT, flags, self.ttl, self.window, self.ack)
        self.cqe[_NUM_SEG_AT] = self.count
        packet = memoryview(b"".join(self.pieces))
        self.rq.receive([packet], self.cqe, [self.payload_sum], self.strip)


class Lro:
    """The sessions of one NIC."""

    def __init__(self) -> None:
        self._sessions: dict[Flow, Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def flush(self) -> None:
        """End every session."""
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            session.deliver()

    def clear(self) -> None:
        """Forget every session with what it holds."""
        self._sessions.clear()

    def take(
        self,
        rq: Rq,
        merge: PacketMerge,
        headers: Headers,
        frames: Frames,
        cqe: bytearray,
        sums: list[int],
        *,
        strip: bool,
        good: bool,
    ) -> bool:
        """Merge or deliver frames of one flow; ``headers`` are those of the first.

        The other arguments are those of ``Rq.receive``; ``good``: their checksums are right.
        False: these are not for LRO, and what came before them on their flow has been delivered.
        """
        if headers.ip_proto != IPPROTO_TCP or not headers.l4_offset:
            return False
        flow = (rq.config.rqn, headers.src_ip, headers.dst_ip, headers.sport, headers.dport)
        ip_header = headers.l4_offset - headers.l3_offset
        wanted = merge.ipv4 if headers.ip_version == 4 else merge.ipv6
        plain = ip_header == (20 if headers.ip_version == 4 else 40) and not headers.frag
        if not (good and wanted and plain):
            self._end(flow)
            return False
        frames = list(frames)
        at = 0
        while at < len(frames):
            done = self._run(flow, merge, headers, frames[at:-1]) if at else 0
            if not done:
                self._segment(flow, rq, merge, headers, frames[at], cqe, sums[at], strip)
                done = 1
            at += done
        return True

    def _run(
        self, flow: Flow, merge: PacketMerge, headers: Headers, frames: list[memoryview]
    ) -> int:
        """Add to a session, at once, what follows its last segment in a train; how many they are.

        The frames of a train but the last are of one length, and their headers differ in IPv4 id,
        TCP sequence and flags and in checksums only (``Train``).
        """
        session = self._sessions.get(flow)
        if session is None or len(frames) < MANY:
            return 0
        l4, size = headers.l4_offset, headers.tcp_header
        start, payload = l4 + size, session.segment
        room = min(merge.max_ip_payload - size, MAX_LENGTH - start) - session.payload
        count = min(len(frames), MAX_SEGMENTS - session.count, room // payload)
        if count < MANY or len(frames[0]) - start != payload:
            return 0
        frames = frames[:count]
        words = np.frombuffer(b"".join([frame[l4:start] for frame in frames]), ">u2")
        words = words.reshape(count, size // 2).astype(np.int64)
        sequence = words[:, 2] << 16 | words[:, 3]
        steps = np.arange(count) * payload
        if (words[:, 6] & _FLAGS != _ACK).any() or (
            sequence != session.next_seq + steps & 0xFFFFFFFF
        ).any():
            return 0
        pseudo = pseudo_sum(headers, IPPROTO_TCP, size + payload)
        totals = (-pseudo - words.sum(axis=1)) % 65535
        swapped = session.payload + steps & 1
        total = session.payload_sum + int((totals * np.where(swapped, 256, 1)).sum())
        session.pieces += [frame[start:] for frame in frames]
        session.count += count
        session.payload += count * payload
        session.payload_sum = total % 65535
        session.next_seq = session.next_seq + count * payload & 0xFFFFFFFF
        last = words[-1].tolist()
        session.ack = last[4] << 16 | last[5]
        session.window = last[7]
        return count

    def _end(self, flow: Flow) -> None:
        session = self._sessions.pop(flow, None)
        if session is not None:
            session.deliver()

    def _segment(
        self,
        flow: Flow,
        rq: Rq,
        merge: PacketMerge,
        headers: Headers,
        frame: memoryview,
        cqe: bytearray,
        check_sum: int,
        strip: bool,
    ) -> None:
        l3, l4 = headers.l3_offset, headers.l4_offset
        tcp = _TCP.unpack_from(frame, l4)
        start = l4 + headers.tcp_header
        if headers.ip_version == 4:
            (length,) = _U16.unpack_from(frame, l3 + 2)
            end, ttl = l3 + length, frame[l3 + 8]
            same = b"".join((frame[: l3 + 2], frame[l3 + 6 : l3 + 8], frame[l3 + 12 : l4 + 4]))
        else:
            (length,) = _U16.unpack_from(frame, l3 + 4)
            end, ttl = l4 + length, frame[l3 + 7]
            same = b"".join((frame[: l3 + 4], frame[l3 + 8 : l4 + 4]))
        payload = end - start
        flags = tcp[6] & _FLAGS
        if flags & ~_PSH != _ACK or payload <= 0 or end != len(frame):
            self._end(flow)
            rq.receive([frame], bytearray(cqe), [check_sum], strip)
            return
        options = frame[l4 + 20 : start]
        same += bytes(options)
        seq = tcp[2] << 16 | tcp[3]
        session = self._sessions.get(flow)
        if session is not None and not (
            same == session.same
            and seq == session.next_seq
            and payload <= session.segment
            and session.count < MAX_SEGMENTS
            and headers.tcp_header + session.payload + payload <= merge.max_ip_payload
            and start + session.payload + payload <= MAX_LENGTH
        ):
            self._end(flow)
            session = None
        # the checksum is right: payload, TCP header and pseudo header sum to nothing
        pseudo = pseudo_sum(headers, IPPROTO_TCP, end - l4)
        total = (-pseudo - sum(tcp) - ones_sum(options)) % 65535
        if session is None:
            while len(self._sessions) >= MAX_SESSIONS:
                self._end(next(iter(self._sessions)))
            session = self._sessions[flow] = Session(
                rq=rq,
                cqe=bytearray(cqe),
                strip=strip,
                check_sum=check_sum,
                same=same,
                pieces=[frame],
                segment=payload,
                payload=0,
                next_seq=seq,
                ack=0,
                window=0,
                ttl=ttl,
                payload_sum=0,
                count=0,
            )
        else:
            session.pieces.append(frame[start:])
            if session.payload & 1:
                total = total * 256 % 65535
        session.count += 1
        session.payload += payload
        session.payload_sum = (session.payload_sum + total) % 65535
        session.next_seq = seq + payload & 0xFFFFFFFF
        session.ack = tcp[4] << 16 | tcp[5]
        session.window = tcp[7]
        session.ttl = min(session.ttl, ttl)
        if flags & _PSH or payload < session.segment:
            session.psh = bool(flags & _PSH)
            self._end(flow)
