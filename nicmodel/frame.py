# SPDX-License-Identifier: GPL-2.0-or-later
"""Frame and Train: the one currency of offload and wire.

A *frame* is one Ethernet frame without FCS. A *train* is what segmentation yields: frames of one
flow with headers of one length, kept in one array so that it crosses the wire as one object; it is
cut into frames only where somebody must see frames.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntFlag

import numpy as np
import numpy.typing as npt

ETH_MIN = 60
"""Shortest frame on the wire without FCS, bytes (IEEE 802.3); shorter ones are padded."""

HEAD = 128
"""How many leading bytes ``head`` gives at most: enough for every header that the model parses."""


class Checked(IntFlag):
    """Checksums that are known to be right, because the model has just computed them.

    It travels beside the bytes so that the receiver need not sum them again; whoever changes a
    byte (an impaired link) must drop it.
    """

    NONE = 0
    L3 = 1
    L4 = 2


@dataclass(slots=True)
class Frame:
    """One Ethernet frame: ``data`` from the destination MAC, no FCS; not changed once sent."""

    data: bytes | bytearray
    checked: Checked = Checked.NONE

    @property
    def head(self) -> bytes | bytearray:
        """The leading bytes, at most ``HEAD``."""
        return self.data[:HEAD]

    @property
    def count(self) -> int:
        """Number of frames: 1."""
        return 1

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


@dataclass(slots=True)
class Train:
    """Frames of one flow: ``rows`` has shape (n, stride) and dtype uint8, C order.

    Row i holds frame i in its first ``width`` bytes (``width <= stride``), the last row in its
    first ``last`` bytes (0 < last <= width). Every frame has a complete header and all headers
    have one layout. A train may reach several receivers: nobody changes it once it is sent.
    """

    rows: npt.NDArray[np.uint8]
    width: int
    last: int
    checked: Checked = Checked.NONE

    @property
    def head(self) -> bytes:
        """The leading bytes of the first frame, at most ``HEAD``."""
        return self.rows[0, : min(HEAD, self.length)].tobytes()

    @property
    def length(self) -> int:
        """Bytes of the first frame."""
        return self.width if len(self.rows) > 1 else self.last

    @property
    def count(self) -> int:
        """Number of frames."""
        return len(self.rows)

    @property
    def octets(self) -> int:
        """Bytes of all frames without FCS and preamble."""
        return (len(self.rows) - 1) * self.width + self.last

    def views(self) -> Iterator[memoryview]:
        """Each frame's bytes, without a copy."""
        count, stride = self.rows.shape
        flat = self.rows.data.cast("B")
        width = self.width
        for start in range(0, (count - 1) * stride, stride):
            yield flat[start : start + width]
        start = (count - 1) * stride
        yield flat[start : start + self.last]

    def frames(self) -> Iterator[Frame]:
        """Cut into frames; each gets its own copy."""
        for view in self.views():
            yield Frame(bytes(view), self.checked)


Traffic = Frame | Train
"""What crosses the wire."""
