# SPDX-License-Identifier: GPL-2.0-or-later
"""SMT sockets (``<linux/smt.h>``) for programs in Python; nothing but the standard library.

A server that sends every request back::

    with Socket() as server:
        server.bind(4000)
        while True:
            message = server.receive()
            if message.request:
                server.respond(message, message.data)
"""

import errno
import os
import socket
import struct
from dataclasses import dataclass
from typing import Self

IPPROTO_SMT = SOL_SMT = 253
SMT_RPC = 1
SMT_ABORT, SMT_INTEROP, SMT_SECURE, SMT_INFO, SMT_OFFLOAD = 1, 2, 3, 4, 5
OFFLOAD_OFF, OFFLOAD_ALLOWED, OFFLOAD_REQUIRED = 0, 1, 2
REQUEST, RESPONSE, SECURE = 1, 2, 4
MAX_MESSAGE = 1_000_000
SOL_TLS, TLS_TX, TLS_RX = 282, 1, 2

Address = tuple[str, int]

_RPC = struct.Struct("=QQIi")
"""``struct smt_rpc``."""
_TLS_1_2, _CIPHERS = 0x0303, {16: 51, 32: 52}
"""TLS_1_2_VERSION, TLS_CIPHER_AES_GCM_128 and _256."""


@dataclass(frozen=True)
class Message:
    """What ``receive`` returns; ``error`` is an errno of an RPC that failed, else 0."""

    data: bytes
    peer: Address
    id: int
    cookie: int
    flags: int
    error: int

    @property
    def request(self) -> bool:
        """It waits for a response."""
        return self.flags & REQUEST != 0

    @property
    def secure(self) -> bool:
        """It was encrypted and is authentic."""
        return self.flags & SECURE != 0


class Socket:
    """A socket; all methods raise OSError."""

    def __init__(
        self, *, secure: bool = False, interop: bool = False, offload: int | None = None
    ) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, IPPROTO_SMT)
        if interop:
            self._socket.setsockopt(SOL_SMT, SMT_INTEROP, 1)
        if secure:
            self._socket.setsockopt(SOL_SMT, SMT_SECURE, 1)
        if offload is not None:
            self._socket.setsockopt(SOL_SMT, SMT_OFFLOAD, offload)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def fileno(self) -> int:
        """For ``select``."""
        return self._socket.fileno()

    def bind(self, port: int, address: str = "0.0.0.0") -> None:
        """Be a server, or with port 0 get a client's port."""
        self._socket.bind((address, port))

    def install(self, direction: int, key: bytes, salt: bytes, peer: Address | None = None) -> None:
        """Install the key of ``TLS_TX`` or ``TLS_RX``; without ``peer`` for the first one."""
        self._socket.setsockopt(SOL_TLS, direction, crypto_info(key, salt, peer))

    def request(self, data: bytes, peer: Address, cookie: int = 0) -> None:
        """Send a request."""
        self._send(data, peer, 0, cookie)

    def respond(self, request: Message, data: bytes) -> None:
        """Send the response to a request."""
        self._send(data, request.peer, request.id, 0)

    def receive(self, flags: int = 0) -> Message:
        """Wait for a message."""
        data, control, _, peer = self._socket.recvmsg(
            MAX_MESSAGE, socket.CMSG_SPACE(_RPC.size), flags
        )
        for level, kind, body in control:
            if (level, kind, len(body)) == (SOL_SMT, SMT_RPC, _RPC.size):
                return Message(data, peer, *_RPC.unpack(body))
        raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))

    def _send(self, data: bytes, peer: Address, rpc: int, cookie: int) -> None:
        control = [(SOL_SMT, SMT_RPC, _RPC.pack(rpc, cookie, 0, 0))]
        self._socket.sendmsg([data], control, 0, peer)


def crypto_info(key: bytes, salt: bytes, peer: Address | None) -> bytes:
    """``struct smt_crypto_info_aes_gcm_128`` or ``_256``; ``salt`` has 4 bytes."""
    if len(key) not in _CIPHERS or len(salt) != 4:
        raise ValueError("a key has 16 or 32 bytes and a salt 4")
    info = struct.pack("=HH8x", _TLS_1_2, _CIPHERS[len(key)]) + key + salt + bytes(8)
    host, port = peer or ("0.0.0.0", 0)
    return info + socket.inet_aton(host) + struct.pack(">HBx", port, peer is None)
