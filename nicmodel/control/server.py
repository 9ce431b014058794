# SPDX-License-Identifier: GPL-2.0-or-later
"""Answer requests on a control socket; whatever a client does, the model goes on."""

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self, cast

from nicmodel.control import runs
from nicmodel.entry import Entry, check_known
from nicmodel.errors import UserError
from nicmodel.listen import Listener

Verb = Callable[[Entry], dict[str, Any]]
"""Does what a request asks for and returns what to answer beside ``ok``, as JSON has it.

It returns at once, and raises UserError for a request that makes no sense.
"""

LINE_MAX = 65536
"""Longest request, bytes."""

CLIENTS_MAX = 32
"""Connections at a time; the next one is closed at once."""


class ControlServer:
    """Listens on ``path`` until ``close``; the requests are ``verbs`` by name. Use ``start``."""

    def __init__(self, listener: Listener, verbs: Mapping[str, Verb]) -> None:
        self.clients: set[_Client] = set()
        self.verbs = verbs
        self._listener = listener
        self._announced = runs.announced(listener.path)
        self._server: asyncio.Server | None = None

    @classmethod
    async def start(cls, path: Path, verbs: Mapping[str, Verb]) -> Self:
        """Listen from now on; only this user may connect. Raises UserError if that cannot be."""
        before = os.umask(0o177)
        try:
            server = cls(Listener(path, CLIENTS_MAX), verbs)
        finally:
            os.umask(before)
        loop = asyncio.get_running_loop()
        server._server = await loop.create_unix_server(
            lambda: _Client(server, loop), sock=server._listener.socket
        )
        server._announced.__enter__()
        return server

    def close(self) -> None:
        """Stop listening and end every connection."""
        self._announced.__exit__(None, None, None)
        if self._server is not None:
            self._server.close()
        self._listener.close()
        for client in tuple(self.clients):
            client.abort()

    def answer(self, line: bytes) -> dict[str, Any]:
        """The answer to one request."""
        try:
            return {"ok": True, **self._do(line)}
        except UserError as error:
            return {"error": str(error)}

    def _do(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError('a request is one line like {"do": "status"}') from error
        if not isinstance(request, dict) or not isinstance(request.get("do"), str):
            raise UserError('a request is one object like {"do": "status"}')
        name = request.pop("do")
        check_known("request", name, self.verbs)
        return self.verbs[name](Entry(name, request))


class _Client(asyncio.Protocol):
    """One connection. A turn of the event loop answers one request and holds one answer.

    So whoever asks much, or does not read the answers, waits for himself only.
    """

    def __init__(self, server: ControlServer, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._asked = bytearray()
        self._waiting = False
        self._blocked = False
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if len(self._server.clients) >= CLIENTS_MAX:
            self.abort()
            return
        self._transport.set_write_buffer_limits(0)
        self._server.clients.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._server.clients.discard(self)

    def data_received(self, data: bytes) -> None:
        self._asked += data
        self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._ended = True
        self._wake()
        return True  # answers are still to be written

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        self._wake()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def _wake(self) -> None:
        if not self._waiting:
            self._waiting = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._waiting = False
        if self._blocked or self._transport.is_closing():
            return
        end = self._asked.find(b"\n", 0, LINE_MAX)
        if end < 0 and len(self._asked) < LINE_MAX:
            if not self._ended:
                self._transport.resume_reading()
                return
            if not self._asked:
                self._transport.close()
                return
            end = len(self._asked)  # the last line need not end
        if end < 0:
            self._write({"error": f"a request has at most {LINE_MAX} bytes"})
            self._transport.close()
            return
        line = bytes(self._asked[:end])
        del self._asked[: end + 1]
        try:
            answer = self._server.answer(line)
        except Exception:
            self.abort()
            raise  # an error of the model, for the handler of the event loop
        self._write(answer)
        self._wake()

    def _write(self, answer: dict[str, Any]) -> None:
        self._transport.write(json.dumps(answer).encode() + b"\n")
