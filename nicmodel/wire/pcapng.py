# SPDX-License-Identifier: GPL-2.0-or-later
"""Write pcapng files (draft-ietf-opsawg-pcapng): blocks only, nothing of the wire."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from struct import Struct

import numpy as np
import numpy.typing as npt

from nicmodel.wire.port import Way

SNAPLEN = 262144
"""Bytes of a frame that are kept at most; what capture tools use, and longer than any frame."""

BUFFER_SIZE = 512 * 1024
"""Bytes held back at most before they are written; more than a frame with all that goes with it."""

SECTION = 0x0A0D0D0A
INTERFACE = 1
PACKET = 6
BYTE_ORDER_MAGIC = 0x1A2B3C4D
LINKTYPE_ETHERNET = 1
_LENGTH_UNKNOWN = 0xFFFFFFFFFFFFFFFF

# option codes
COMMENT = 1
IF_NAME = 2
IF_TSRESOL = 9
EPB_FLAGS = 2
_SHB_USERAPPL = 4
_IF_DESCRIPTION = 3
_END = b"\0\0\0\0"

_BLOCK = Struct("<II")
_LENGTH = Struct("<I")
_SECTION_BODY = Struct("<IHHQ")
_INTERFACE_BODY = Struct("<HHI")
OPTION = Struct("<HH")
_PACKET_HEAD = Struct("<7I")
"""Type, block length, interface, time (high, low), captured and original length."""
_HEAD = _PACKET_HEAD.size
_PACKET_HEAD_LENGTH = _HEAD + _LENGTH.size

_PAD = (b"", b"\0\0\0", b"\0\0", b"\0")
"""What completes n bytes to a multiple of 4, by n % 4."""

_FLAGS = {way: OPTION.pack(EPB_FLAGS, 4) + _LENGTH.pack(way) + _END for way in Way}

Data = bytes | bytearray | memoryview
Bytes = npt.NDArray[np.uint8]

Comment = tuple[str, int]
"""A text, and for how many frames in a row it is."""

Layer = tuple[int, Sequence[Bytes]]
"""Number of an interface, and columns of shape (n, width) that side by side are n frames."""


class PcapngWriter:
    """A new pcapng file of Ethernet frames with ns time stamps.

    Raises OSError when the file cannot be created or written; then it ends with a whole block, and
    nothing more may be added. ``file`` may be a descriptor, which is closed then, too.
    """

    def __init__(self, file: Path | int) -> None:
        self._file = open(file, "wb", buffering=0)  # noqa: SIM115 -- close() is there
        self._written = 0
        self._interfaces = 0
        self._buffer: Bytes = np.empty(BUFFER_SIZE, np.uint8)
        self._used = 0
        body = _SECTION_BODY.pack(BYTE_ORDER_MAGIC, 1, 0, _LENGTH_UNKNOWN)
        self._block(SECTION, body + _option(_SHB_USERAPPL, b"nicmodel") + _END)

    def add_interface(self, name: str, description: str = "") -> int:
        """Describe an interface; return its number for ``packet``."""
        body = _INTERFACE_BODY.pack(LINKTYPE_ETHERNET, 0, SNAPLEN) + _option(IF_NAME, name.encode())
        if description:
            body += _option(_IF_DESCRIPTION, description.encode())
        self._block(INTERFACE, body + _option(IF_TSRESOL, bytes([9])) + _END)
        self._interfaces += 1
        return self._interfaces - 1

    def packet(
        self,
        interface: int,
        time: int,
        data: Data,
        way: Way | None = None,
        comment: str = "",
    ) -> None:
        """Add a frame, seen at ``time`` (ns since 1970)."""
        original = len(data)
        if original > SNAPLEN:
            data = data[:SNAPLEN]
        captured = len(data)
        tail = _tail(captured, way, comment)
        length = _HEAD + captured + len(tail)
        head = _PACKET_HEAD.pack(
            PACKET, length, interface, time >> 32, time & 0xFFFFFFFF, captured, original
        )
        self._room(length).data[:] = b"".join((head, data, tail))

    def packets(
        self, layers: Sequence[Layer], time: int, way: Way, comments: Sequence[Comment] = ()
    ) -> None:
        """Add n frames of one length to each of several interfaces, all seen at ``time``.

        The k-th ones of all interfaces follow each other. Frames have at most ``SNAPLEN`` bytes.
        ``comments``: none, or those for each of the n frames and maybe more, ASCII.
        """
        count = len(layers[0][1][0])
        captured = sum([column.shape[1] for column in layers[0][1]])
        widest = max([len(text) for text, _ in comments], default=0) + 3 & ~3
        texts = "".join([text.ljust(widest) * frames for text, frames in comments])
        said = np.frombuffer(texts.encode("ascii", "replace"), np.uint8)
        tail = _tail(captured, way, " " * widest)
        length = _HEAD + captured + len(tail)
        high, low = time >> 32, time & 0xFFFFFFFF
        heads = [
            _PACKET_HEAD.pack(PACKET, length, interface, high, low, captured, captured)
            for interface, _ in layers
        ]
        most = max(1, BUFFER_SIZE // (length * len(layers)))
        for start in range(0, count, most):
            rows = slice(start, min(count, start + most))
            n = rows.stop - start
            room = self._room(n * len(layers) * length).reshape(n, len(layers), length)
            room[:, :, :_HEAD] = np.frombuffer(b"".join(heads), np.uint8).reshape(-1, _HEAD)
            for number, (_, columns) in enumerate(layers):
                at = _HEAD
                for column in columns:
                    end = at + column.shape[1]
                    room[:, number, at:end] = column[rows]
                    at = end
            at = _HEAD + captured
            room[:, :, at:] = np.frombuffer(tail, np.uint8)
            if widest:
                at += -captured % 4 + OPTION.size
                room[:, :, at : at + widest] = said.reshape(-1, 1, widest)[rows]

    def flush(self) -> None:
        """Write out what is held back."""
        pending = self._buffer[: self._used].data
        try:
            while pending:
                pending = pending[self._file.write(pending) :]
        except OSError:
            with suppress(OSError):  # not every file can be cut
                self._file.truncate(self._written)
            raise
        self._written += self._used
        self._used = 0

    def close(self) -> None:
        """Flush and close; the file is closed even if flushing fails."""
        try:
            self.flush()
        finally:
            self._file.close()

    def abandon(self) -> None:
        """Close without writing what is held back, after an error."""
        self._file.close()

    def _block(self, kind: int, body: bytes) -> None:
        length = _BLOCK.size + len(body) + _LENGTH.size
        self._room(length).data[:] = _BLOCK.pack(kind, length) + body + _LENGTH.pack(length)

    def _room(self, size: int) -> Bytes:
        """The next ``size`` bytes of the file, for whole blocks; to be filled at once."""
        if self._used + size > len(self._buffer):
            self.flush()
            if size > len(self._buffer):
                self._buffer = np.empty(size, np.uint8)
        start = self._used
        self._used = start + size
        return self._buffer[start : start + size]


def _tail(captured: int, way: Way | None, comment: str) -> bytes:
    """What follows ``captured`` bytes of a frame in its block."""
    pad = _PAD[captured & 3]
    options = b"" if way is None else _FLAGS[way]
    if comment:
        options = _option(COMMENT, comment.encode()) + (options or _END)
    return pad + options + _LENGTH.pack(_PACKET_HEAD_LENGTH + captured + len(pad) + len(options))


def _option(code: int, value: bytes) -> bytes:
    return OPTION.pack(code, len(value)) + value + _PAD[len(value) & 3]
