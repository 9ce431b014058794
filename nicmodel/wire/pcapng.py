# SPDX-License-Identifier: GPL-2.0-or-later
"""Write pcapng files (draft-ietf-opsawg-pcapng): blocks only, nothing of the wire."""

from contextlib import suppress
from pathlib import Path
from struct import Struct

from nicmodel.wire.port import Way

SNAPLEN = 262144
"""Bytes of a frame that are kept at most; what capture tools use, and longer than any frame."""

BUFFER_SIZE = 256 * 1024
"""Bytes held back at most before they are written."""

_SECTION = 0x0A0D0D0A
_INTERFACE = 1
_PACKET = 6
_BYTE_ORDER_MAGIC = 0x1A2B3C4D
_LENGTH_UNKNOWN = 0xFFFFFFFFFFFFFFFF
_LINKTYPE_ETHERNET = 1

# option codes
_COMMENT = 1
_SHB_USERAPPL = 4
_IF_NAME = 2
_IF_TSRESOL = 9
_EPB_FLAGS = 2
_END = b"\0\0\0\0"

_BLOCK = Struct("<II")
_LENGTH = Struct("<I")
_SECTION_BODY = Struct("<IHHQ")
_INTERFACE_BODY = Struct("<HHI")
_OPTION = Struct("<HH")
_PACKET_HEAD = Struct("<7I")
"""Type, block length, interface, time (high, low), captured and original length."""
_PACKET_HEAD_LENGTH = _PACKET_HEAD.size + _LENGTH.size

_PAD = (b"", b"\0\0\0", b"\0\0", b"\0")
"""What completes n bytes to a multiple of 4, by n % 4."""

_FLAGS = {way: _OPTION.pack(_EPB_FLAGS, 4) + _LENGTH.pack(way) + _END for way in Way}


class PcapngWriter:
    """A new pcapng file of Ethernet frames with ns time stamps.

    Raises OSError when the file cannot be created or written; then it ends with a whole block, and
    nothing more may be added.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)
        self._written = 0
        self._interfaces = 0
        self._buffer = bytearray()
        body = _SECTION_BODY.pack(_BYTE_ORDER_MAGIC, 1, 0, _LENGTH_UNKNOWN)
        self._block(_SECTION, body + _option(_SHB_USERAPPL, b"nicmodel") + _END)

    def add_interface(self, name: str) -> int:
        """Describe an interface; return its number for ``packet``."""
        body = _INTERFACE_BODY.pack(_LINKTYPE_ETHERNET, 0, SNAPLEN)
        nanoseconds = _option(_IF_TSRESOL, bytes([9]))
        self._block(_INTERFACE, body + _option(_IF_NAME, name.encode()) + nanoseconds + _END)
        self._interfaces += 1
        return self._interfaces - 1

    def packet(
        self,
        interface: int,
        time: int,
        data: bytes | bytearray | memoryview,
        way: Way | None = None,
        comment: str = "",
    ) -> None:
        """Add a frame, seen at ``time`` (ns since 1970)."""
        original = len(data)
        if original > SNAPLEN:
            data = data[:SNAPLEN]
        options = b"" if way is None else _FLAGS[way]
        if comment:
            options = _option(_COMMENT, comment.encode()) + (options or _END)
        captured = len(data)
        pad = _PAD[captured & 3]
        length = _PACKET_HEAD_LENGTH + captured + len(pad) + len(options)
        buffer = self._buffer
        buffer += _PACKET_HEAD.pack(
            _PACKET, length, interface, time >> 32, time & 0xFFFFFFFF, captured, original
        )
        buffer += data
        buffer += pad + options + _LENGTH.pack(length)
        if len(buffer) >= BUFFER_SIZE:
            self.flush()

    def flush(self) -> None:
        """Write out what is held back."""
        pending = memoryview(self._buffer)
        try:
            while pending:
                pending = pending[self._file.write(pending) :]
        except OSError:
            with suppress(OSError):  # not every file can be cut
                self._file.truncate(self._written)
            raise
        self._written += len(self._buffer)
        self._buffer = bytearray()

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
        self._buffer += _BLOCK.pack(kind, length) + body + _LENGTH.pack(length)


def _option(code: int, value: bytes) -> bytes:
    return _OPTION.pack(code, len(value)) + value + _PAD[len(value) & 3]
