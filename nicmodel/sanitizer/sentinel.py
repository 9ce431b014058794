# SPDX-License-Identifier: GPL-2.0-or-later
"""The plaintext sentinel: what offloaded connections send without the engine.

That is right for bytes from before the offload began (retransmitted handshakes), and for records
that software has encrypted, as the kernel does when the device goes down. So records are put
together of what leaves without TIS, from the next beginning of a record that is known, and their
tags are checked. What cannot be put together is counted, not judged.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

from cryptography.exceptions import InvalidTag

from nicmodel.frame import Frame, Traffic
from nicmodel.offload.tls.cipher import RecordCipher
from nicmodel.offload.tls.record import (
    CONTENT_TYPES,
    FORMATS,
    HEADER,
    MAX_PLAINTEXT,
    TAG,
    Buffer,
    RecordHeader,
    next_number,
    prefix_length,
)
from nicmodel.sanitizer.accounts import Accounts
from nicmodel.sanitizer.packets import MASK, SYN, before, connection, segment

FLOWS = 4096
"""Connections that are remembered; the one that was offloaded longest ago goes first."""

STARTS = 32
"""Beginnings of records that are remembered of each, the latest ones; at most twice as many."""

ASSEMBLING = 256
"""Connections whose records are put together at a time; each holds a record at most."""

_LONG = 1 << 30
"""Bytes behind which TCP does not retransmit: the window is smaller."""


@dataclass(slots=True)
class Plain:
    """``octets`` from TCP sequence ``sn`` on that left without TIS by WQE ``wqe`` of ``sqn``."""

    sqn: int
    wqe: int
    sn: int
    octets: int

    @property
    def end(self) -> int:
        """TCP sequence behind it."""
        return self.sn + self.octets & MASK


@dataclass(slots=True)
class Flow:
    """A connection that was offloaded: ``start`` is the TCP sequence of its first record.

    ``starts``: number of the record that begins at a TCP sequence. ``text`` is what was put
    together of record ``number``, up to TCP sequence ``at``. ``plain`` is the first that left
    without TIS since the engine was used last.
    """

    key: bytes
    tisn: int
    dekn: int
    cipher: RecordCipher
    start: int
    starts: dict[int, int] = field(default_factory=dict)
    at: int | None = None
    number: int = 0
    text: bytearray = field(default_factory=bytearray)
    plain: Plain | None = None
    reported: set[bool] = field(default_factory=set)
    """Which judgements were told since the engine was used last."""

    def note(self, sn: int, number: int) -> None:
        """Record ``number`` begins at TCP sequence ``sn``."""
        starts = self.starts
        starts[sn] = number
        if len(starts) > 2 * STARTS:
            del starts[next(iter(starts))]

    def note_all(self, starts: dict[int, int]) -> None:
        """Records begin, in order, by TCP sequence."""
        known = self.starts
        known.update(starts)
        if len(known) > 2 * STARTS:
            for sn in list(islice(known, len(known) - STARTS)):
                del known[sn]

    def sent(self, sn: int) -> None:
        """The engine has encrypted up to ``sn``."""
        if self.plain is not None:  # all else follows it
            self.reported.clear()
            self.plain = None
            self.at = None
            self.text.clear()
        if (sn - self.start) & MASK > _LONG:
            self.start = sn - _LONG & MASK


@dataclass(frozen=True, slots=True)
class Judgement:
    """A record that left without TIS: ``octets`` from TCP sequence ``sn`` on."""

    flow: Flow
    genuine: bool
    number: int
    sn: int
    octets: int


class Sentinel:
    """Of one NIC; ``judge`` is told of the first record each time that a flow leaves the engine."""

    def __init__(self, accounts: Accounts, judge: Callable[[Judgement, Plain], None]) -> None:
        self.flows: OrderedDict[bytes, Flow] = OrderedDict()
        self.forgotten = 0
        self._accounts = accounts
        self._judge = judge
        self._assembling: OrderedDict[bytes, Flow] = OrderedDict()
        self._place = 0, 0

    def offloaded(self, flow: Flow) -> None:
        """A connection has got a context."""
        self.flows[flow.key] = flow
        self.flows.move_to_end(flow.key)
        if len(self.flows) > FLOWS:
            self.flows.popitem(last=False)
            self.forgotten += 1

    def plain(self, traffic: Traffic, sqn: int, wqe: int) -> None:
        """Traffic of WQE ``wqe`` leaves that did not pass the engine; there are flows."""
        head = traffic.data if isinstance(traffic, Frame) else traffic.head
        found = connection(head, traffic.length)
        flow = self.flows.get(found[0]) if found is not None else None
        if found is None or flow is None:
            return
        tcp_at = found[1]
        self._place = sqn, wqe
        if isinstance(traffic, Frame):
            self._packet(flow, traffic.data, tcp_at)
        else:
            for view in traffic.views():
                self._packet(flow, view, tcp_at)

    def _packet(self, flow: Flow, frame: Buffer, tcp_at: int) -> None:
        sn, flags, payload = segment(frame, tcp_at)
        if flags & SYN:  # a new connection with the same addresses and ports
            self.flows.pop(flow.key, None)
            self._assembling.pop(flow.key, None)
            return
        if not len(payload) or before(sn + len(payload) & MASK, flow.start):
            return
        if flow.plain is None:
            flow.plain = Plain(*self._place, sn, len(payload))
        elif flow.plain.end == sn:
            flow.plain.octets += len(payload)
        if sn != flow.at:
            self._drop(flow)
            start = _first(flow.starts, sn, len(payload))
            if start is None:
                self._accounts.unjudged_octets += len(payload)
                return
            flow.number = flow.starts[start]
            payload = payload[start - sn & MASK :]
            flow.at = start
        flow.text += payload
        assert flow.at is not None
        flow.at = flow.at + len(payload) & MASK
        self._take(flow)
        if flow.text:
            self._assembling[flow.key] = flow
            if len(self._assembling) > ASSEMBLING:
                self._drop(next(iter(self._assembling.values())))
        else:
            self._assembling.pop(flow.key, None)

    def _drop(self, flow: Flow) -> None:
        self._accounts.unjudged_octets += len(flow.text)
        flow.text = bytearray()
        flow.at = None
        self._assembling.pop(flow.key, None)

    def _take(self, flow: Flow) -> None:
        """Judge the records that are complete."""
        overhead = prefix_length(flow.cipher.version) - HEADER + TAG
        while len(flow.text) >= HEADER:
            header = RecordHeader.parse(flow.text)
            most = MAX_PLAINTEXT + overhead + 1
            if header.type not in CONTENT_TYPES or not overhead <= header.length <= most:
                # where a record should begin there is none
                self._tell(flow, False, len(flow.text))
                self._drop(flow)
                return
            size = HEADER + header.length
            assert flow.at is not None
            # before the record is complete: it may not be, and the next one is to be judged
            after = next_number(flow.number)
            flow.note(flow.at - len(flow.text) + size & MASK, after)
            if len(flow.text) < size:
                return
            record = bytes(flow.text[:size])
            self._tell(flow, genuine(flow.cipher, flow.number, record), size)
            del flow.text[:size]
            flow.number = after

    def _tell(self, flow: Flow, genuine: bool, octets: int) -> None:
        if genuine:
            self._accounts.software_records += 1
        if genuine not in flow.reported:
            flow.reported.add(genuine)
            assert flow.at is not None
            sn = flow.at - len(flow.text) & MASK
            self._judge(
                Judgement(flow, genuine, flow.number, sn, octets), Plain(*self._place, sn, octets)
            )


def _first(starts: dict[int, int], sn: int, length: int) -> int | None:
    """The first of ``starts`` that lies in ``length`` bytes from ``sn`` on."""
    inside = [start - sn & MASK for start in starts if start - sn & MASK < length]
    return sn + min(inside) & MASK if inside else None


def genuine(cipher: RecordCipher, number: int, record: bytes) -> bool:
    """Has the key encrypted ``record``, a whole one, under ``number``?"""
    form = FORMATS[cipher.version]
    prefix, text = record[: form.prefix], record[form.prefix :]
    nonce = form.nonce(cipher.iv, number, prefix)
    aad = form.aad(number, prefix, len(text) - TAG)
    try:
        cipher.aead.decrypt(nonce, text, aad)
    except InvalidTag:
        return False
    return True
