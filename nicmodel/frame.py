# SPDX-License-Identifier: GPL-2.0-or-later
"""Frame and Train: the one currency of offload and wire.

A *frame* is one Ethernet frame without FCS. A *train* is what segmentation yields, or a burst of
equal sends: frames of one flow, kept in one array so that it crosses the wire as one object; it is
cut into frames only where somebody must see frames. Trains of large sends that follow each other
may be joined; each is a *part* then.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntFlag
from itertools import accumulate
from typing import ClassVar

import numpy as np
import numpy.typing as npt

ETH_MIN = 60
"""Shortest frame on the wire without FCS, bytes (IEEE 802.3); shorter ones are padded."""

ETH_HEADER = 14
"""Bytes of an Ethernet header without tags."""

HEAD = 128
"""How many leading bytes ``head`` gives at most: enough for every header that the model parses."""


class Checked(IntFlag):
    """Checksums that are known to be right, because the model has just computed them.

    It travels beside the bytes so that the receiver need not sum them again; whoever changes a
    byte (an impaired link) makes a new frame without it, and without ``Frame.headers``.
    """

    NONE = 0
    L3 = 1
    L4 = 2
    BOTH = 3


CHECKED = tuple(Checked(number) for number in range(4))
"""The flags by their number: on the hot path looking one up is cheaper than an operator."""


@dataclass(slots=True)
class Headers:
    """What the parser found; offsets are bytes from the destination MAC.

    ``ethertype`` is the one behind the VLAN tags. ``ip_version`` is 0 for a frame that is not IP
    or whose IP header is malformed; then every L3 and L4 field keeps its default.
    ``l3_end`` is the end of the IP datagram according to its own length field (the frame may be
    padded). ``l4_offset`` is 0 where no L4 header starts in this frame (second fragment).
    ``tcp_header`` is the TCP header length in bytes; ``spi`` is that of ESP and AH.
    ``frag`` is true for any fragment, the first one included.
    """

    dst: bytes
    src: bytes
    ethertype: int
    vlan: int | None = None
    svlan: bool = False
    l3_offset: int = 14
    l3_end: int = 0
    ip_version: int = 0
    ip_proto: int = 0
    frag: bool = False
    src_ip: bytes = b""
    dst_ip: bytes = b""
    l4_offset: int = 0
    sport: int = 0
    dport: int = 0
    tcp_header: int = 0
    tcp_flags: int = 0
    spi: int = 0


@dataclass(frozen=True, slots=True)
class RecordPart:
    """Bytes ``start`` to ``end`` of a frame's or train's payload belong to TLS record ``number``.

    ``number`` is what the crypto engine counted, 64 bits.
    """

    number: int
    start: int
    end: int


Clear = bytes | bytearray | memoryview
"""A payload before it was encrypted."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a crypto engine did to traffic; only made when somebody watches.

    ``queue`` ("SQ" or "RQ") and ``number`` name the queue, ``wqe`` the index of the WQE (both None
    for an RQ, where the TIR is yet to choose them), ``context`` the TIS or TIR.
    ``records`` are in order of the payload, which begins ``payload_at`` bytes into each frame,
    ``step`` bytes a frame. ``verdict`` is a word or two on what came of it. ``clear`` is the
    payload of the whole before it was encrypted, None where nobody asked for it.
    """

    queue: str
    number: int | None
    wqe: int | None
    context: int
    records: tuple[RecordPart, ...]
    verdict: str
    payload_at: int
    step: int
    clear: Clear | None = None


@dataclass(slots=True)
class Frame:
    """One Ethernet frame: ``data`` from the destination MAC, no FCS; not changed once sent.

    ``headers`` is what ``offload.parse`` made of these very bytes, if somebody has parsed them.
    """

    count: ClassVar[int] = 1
    """Number of frames."""

    data: bytes | bytearray
    checked: Checked = Checked.NONE
    headers: Headers | None = field(default=None, compare=False)
    origin: Origin | None = field(default=None, compare=False)

    @property
    def head(self) -> bytes | bytearray:
        """The leading bytes, at most ``HEAD``."""
        return self.data[:HEAD]

    @property
    def octets(self) -> int:
        """Bytes on the wire without FCS and preamble."""
        return len(self.data)

    @property
    def length(self) -> int:
        """Bytes of the first frame."""
        return len(self.data)

    def frames(self) -> Iterator["Frame"]:
        """This frame."""
        yield self

    def split(self) -> Iterator["Frame"]:
        """This frame: it is one part."""
        yield self


@dataclass(frozen=True, slots=True)
class Part:
    """``count`` frames of a train, all of its width but the last one, of ``last`` bytes."""

    count: int
    last: int
    origin: Origin | None = None


@dataclass(slots=True)
class Train:
    """Frames of one flow: ``rows`` has shape (n, stride) and dtype uint8, C order.

    Row i holds frame i in its first ``width`` bytes (``width <= stride``), the last row in its
    first ``last`` bytes (0 < last <= width). ``parts`` are those that it was joined of, in order,
    none if it is but one; the last frame of each may be shorter. No frame is longer than the first.
    Every frame has a complete header, and all headers are as the first one but for IPv4
    identification, TCP sequence, FIN, PSH and CWR, checksums, and, in frames that are shorter,
    lengths. A train may reach several receivers: nobody changes it once it is sent.
    """

    rows: npt.NDArray[np.uint8]
    width: int
    last: int
    checked: Checked = Checked.NONE
    origin: Origin | None = field(default=None, compare=False)
    headers: Headers | None = field(default=None, compare=False)
    """What ``offload.parse`` would make of the first frame, if somebody knows."""
    parts: tuple[Part, ...] = field(default=(), compare=False)
    count: int = field(init=False, compare=False)
    """Number of frames."""
    length: int = field(init=False, compare=False)
    """Bytes of the first frame."""
    octets: int = field(init=False, compare=False)
    """Bytes of all frames without FCS and preamble."""
    head: bytes = field(init=False, compare=False)
    """The leading bytes of the first frame, at most ``HEAD``."""
    ends: tuple[int, ...] = field(init=False, compare=False)
    """Number of the last frame of each part."""
    shorter: tuple[tuple[int, int], ...] = field(init=False, compare=False)
    """Number and length of each frame that is shorter than ``width``, in order."""

    def __post_init__(self) -> None:
        self.count = count = len(self.rows)
        self.length = length = self.width if count > 1 else self.last
        self.head = self.rows[0, : min(HEAD, length)].tobytes()
        width, parts = self.width, self.parts
        if parts:
            self.ends = tuple([end - 1 for end in accumulate([part.count for part in parts])])
            pairs = zip(self.ends, parts, strict=True)
            self.shorter = tuple([(end, part.last) for end, part in pairs if part.last < width])
        else:
            self.ends = (count - 1,)
            self.shorter = ((count - 1, self.last),) if self.last < width else ()
        octets = count * width
        for _, length in self.shorter:
            octets -= width - length
        self.octets = octets

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[memoryview]:
        return self.views()

    def views(self) -> Iterator[memoryview]:
        """Each frame's bytes, without a copy."""
        count, stride = self.rows.shape
        flat = self.rows.data.cast("B")
        lengths = dict(self.shorter)
        for number in range(count):
            start = number * stride
            yield flat[start : start + lengths.get(number, self.width)]

    def frames(self) -> Iterator[Frame]:
        """Cut into frames; each gets its own copy."""
        for view in self.views():
            yield Frame(bytes(view), self.checked)

    def split(self, start: int = 0, end: int | None = None) -> Iterator["Train"]:
        """The parts, or what frames ``start`` to ``end`` have of them, without a copy."""
        end = self.count if end is None else end
        if not self.parts and start == 0 and end == self.count:
            yield self
            return
        first = 0
        for part in self.parts or (Part(self.count, self.last, self.origin),):
            stop = first + part.count
            here, there = max(start, first), min(end, stop)
            if here < there:
                last = part.last if there == stop else self.width
                whole = here == first and there == stop
                origin = part.origin if whole else None
                yield Train(self.rows[here:there], self.width, last, self.checked, origin)
            first = stop


Traffic = Frame | Train
"""What crosses the wire."""

Frames = Train | Sequence[memoryview]
"""Frames of one flow in order, as a receive queue takes them: each is seen as its bytes."""

_MACS = 12
_TAG = 4
"""Length of the MAC addresses, and of the VLAN tag behind them, bytes."""


def untagged(frames: Frames) -> Frames:
    """Frames without their outer VLAN tag, which they have."""
    if isinstance(frames, Train):
        rows = np.concatenate((frames.rows[:, :_MACS], frames.rows[:, _MACS + _TAG :]), axis=1)
        parts = tuple(Part(part.count, part.last - _TAG) for part in frames.parts)
        return Train(rows, frames.width - _TAG, frames.last - _TAG, parts=parts)
    return [memoryview(b"".join((frame[:_MACS], frame[_MACS + _TAG :]))) for frame in frames]
