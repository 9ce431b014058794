# SPDX-License-Identifier: GPL-2.0-or-later
"""Messages on a UNIX stream socket: a byte stream with descriptors in it."""

import array
import os
import select
import socket
from dataclasses import dataclass
from typing import Final

from nicmodel.errors import ProtocolError
from nicmodel.transport.messages import HEADER, MAX_BODY, MAX_TABLE_REGIONS, Header

CHUNK: Final = 65536
"""Bytes taken from the socket at once: two thousand posted writes."""

_FD_SIZE: Final = array.array("i").itemsize
_ANCILLARY: Final = socket.CMSG_SPACE(MAX_TABLE_REGIONS * _FD_SIZE)


@dataclass(frozen=True, slots=True)
class Message:
    """One message; ``fds`` belong to whoever takes it."""

    header: Header
    body: bytes
    fds: list[int]


@dataclass(slots=True)
class _Claim:
    """Descriptors that arrived with stream bytes [start, end)."""

    start: int
    end: int
    fds: list[int]


class Connection:
    """Cuts the stream into messages. Bytes [position:] of ``data`` are not taken yet.

    The reader of posted writes takes them from ``data`` itself and moves ``position``; it must
    leave messages alone while ``fds_pending``.

    Which message do descriptors belong to? Linux ends a read after the bytes that were sent with
    descriptors, so they belong to the last message that begins in the same read.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.data = b""
        self.position = 0
        self._sock = sock
        self._base = 0
        self._claims: list[_Claim] = []
        self._poll = select.poll()
        self._poll.register(sock, select.POLLRDHUP)

    def fileno(self) -> int:
        """The socket's descriptor, for the event loop."""
        return self._sock.fileno()

    @property
    def fds_pending(self) -> bool:
        """Descriptors have come whose message has not been taken yet."""
        return bool(self._claims)

    def hung_up(self) -> bool:
        """The peer has closed the connection, whatever it still has in flight."""
        return bool(self._poll.poll(0))

    def fill(self) -> bool:
        """Take what the socket has; False at the end of the stream.

        Raises ProtocolError for more descriptors than any message carries.
        """
        try:
            chunk, ancillary, flags, _ = self._sock.recvmsg(
                CHUNK, _ANCILLARY, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return True
        except OSError:
            return False
        base = self._base + self.position
        if self.position < len(self.data):
            self.data = self.data[self.position :] + chunk
        else:
            self.data = chunk
        self.position = 0
        self._base = base
        if ancillary:
            end = base + len(self.data)
            self._claims.append(_Claim(end - len(chunk), end, _descriptors(ancillary)))
        if flags & socket.MSG_CTRUNC:
            raise ProtocolError(f"more than {MAX_TABLE_REGIONS} descriptors at once")
        return bool(chunk)

    def next(self) -> Message | None:
        """The next whole message, or None until more has come.

        Raises ProtocolError for an impossible size and for descriptors inside a message.
        """
        data, start = self.data, self.position
        body = start + HEADER.size
        if len(data) >= body:
            header = HEADER.unpack(data, start)
            if header.size > MAX_BODY:
                raise ProtocolError(f"a body of {header.size} bytes, not at most {MAX_BODY}")
            end = body + header.size
            if len(data) >= end:
                self.position = end
                return Message(header, data[body:end], self._claim(start, end))
        if len(self._claims) > 1:
            raise ProtocolError("descriptors in the middle of a message")
        return None

    def send(self, data: bytes) -> None:
        """Send a reply; raises ProtocolError when the peer does not read its replies."""
        try:
            sent = self._sock.send(data, socket.MSG_NOSIGNAL)
        except OSError as error:
            raise ProtocolError(f"a reply cannot be sent: {error.strerror}") from error
        if sent != len(data):
            raise ProtocolError("the front-end does not read its replies")

    def close(self) -> None:
        """Close the socket and every descriptor that nobody took."""
        self._sock.close()
        for claim in self._claims:
            close_all(claim.fds)
        self._claims.clear()
        self.data = b""
        self.position = 0

    def _claim(self, start: int, end: int) -> list[int]:
        """The descriptors of the message at bytes [start, end) of ``data``."""
        if not self._claims or self._base + end < self._claims[0].end:
            return []
        if self._base + start < self._claims[0].start:
            raise ProtocolError("descriptors in the middle of a message")
        return self._claims.pop(0).fds


def close_all(fds: list[int]) -> None:
    """Close the descriptors and empty the list."""
    while fds:
        os.close(fds.pop())


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % _FD_SIZE])
    return fds.tolist()
