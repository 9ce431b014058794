# SPDX-License-Identifier: GPL-2.0-or-later
"""A control socket: what is asked and answered, and clients that mean ill."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop

from nicmodel.control import Control, runs
from nicmodel.control.server import CLIENTS_MAX, LINE_MAX, ControlServer
from nicmodel.entry import Entry
from nicmodel.errors import UserError

READ_MAX = 256 * 1024
"""What an event loop reads at a time."""


@pytest.fixture(autouse=True)
def _own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Callable[[Awaitable[None]], None]]:
    """Runs a coroutine; an exception that reaches the event loop fails the test."""
    errors: list[dict[str, Any]] = []
    factory = asyncio.new_event_loop if request.param == "asyncio" else uvloop.new_event_loop

    def run(body: Awaitable[None]) -> None:
        async def watched() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, c: errors.append(c))
            await asyncio.wait_for(body, 20)

        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(watched())

    yield run
    assert errors == []


def echo(request: Entry) -> dict[str, Any]:
    return {"got": request.values}


def refuse(request: Entry) -> dict[str, Any]:
    raise request.fault("nic", "no")


def big(_request: Entry) -> dict[str, Any]:
    return {"text": "x" * 100_000}


@asynccontextmanager
async def served(path: Path) -> AsyncIterator[ControlServer]:
    server = await ControlServer.start(path, {"echo": echo, "refuse": refuse, "big": big})
    try:
        yield server
    finally:
        server.close()


async def raw(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_unix_connection(path, limit=1 << 20)


async def alive(path: Path) -> None:
    """The server answers somebody else."""
    answer = await asyncio.to_thread(Control(path).ask, "echo", a=1)
    assert answer == {"got": {"a": 1}}


Run = Callable[[Awaitable[None]], None]


def test_request_and_answer(run: Run, tmp_path: Path) -> None:
    async def body() -> None:
        path = tmp_path / "c"
        async with served(path):
            await alive(path)
            with pytest.raises(UserError, match=r"^refuse, nic: no$"):
                await asyncio.to_thread(Control(path).ask, "refuse", a=1)
            with pytest.raises(UserError, match="request: ecko is unknown; did you mean echo"):
                await asyncio.to_thread(Control(path).ask, "ecko")
            assert path.stat().st_mode & 0o777 == 0o600
        assert not path.exists()
        assert runs.found() == []
        with pytest.raises(UserError, match=r"cannot ask the NIC process at .*/c \(No such file"):
            Control(path).ask("echo")

    run(body())


def test_many_requests_on_one_connection(run: Run, tmp_path: Path) -> None:
    """Also those that come in one write or in pieces, and a last one without its end."""

    async def body() -> None:
        path = tmp_path / "c"
        async with served(path):
            reader, writer = await raw(path)
            writer.write(b'{"do": "echo", "n": 0}\n{"do": "echo", "n": 1}\n{"do": "ec')
            await reader.readline()
            writer.write(b'ho", "n": 2}\n{"do": "echo", "n": 3}')
            writer.write_eof()
            said = [json.loads(line) for line in (await reader.read()).splitlines()]
            assert [answer["got"]["n"] for answer in said] == [1, 2, 3]
            writer.close()

    run(body())


@pytest.mark.parametrize(
    "line",
    [b"\xff\xfe", b"[]", b"7", b"{}", b'{"do": 1}', b"[" * 60_000, b"", b'{"do": "' + b"1" * 9999],
    ids=range(8),
)
def test_nonsense_is_answered_with_a_sentence(run: Run, tmp_path: Path, line: bytes) -> None:
    async def body() -> None:
        path = tmp_path / "c"
        async with served(path):
            reader, writer = await raw(path)
            writer.write(line + b"\n" + b'{"do": "echo"}\n')
            assert json.loads(await reader.readline())["error"].startswith("a request is one ")
            assert json.loads(await reader.readline()) == {"ok": True, "got": {}}
            writer.close()

    run(body())


def test_endless_line_is_refused(run: Run, tmp_path: Path) -> None:
    async def body() -> None:
        path = tmp_path / "c"
        async with served(path) as server:
            reader, writer = await raw(path)
            writer.write(b"x" * LINE_MAX * 4)
            assert json.loads(await reader.readline()) == {
                "error": f"a request has at most {LINE_MAX} bytes"
            }
            with suppress(ConnectionResetError):  # not all that was sent has been read
                assert await reader.read() == b""
            writer.close()
            await alive(path)
            assert all(len(client._asked) < 2 * LINE_MAX for client in server.clients)

    run(body())


def test_who_does_not_read_the_answers_waits_alone(run: Run, tmp_path: Path) -> None:
    """Many requests with large answers: at most a few requests and answers are held."""

    async def body() -> None:
        path = tmp_path / "c"
        async with served(path) as server:
            greedy = socket.socket(socket.AF_UNIX)
            greedy.connect(os.fspath(path))
            greedy.setblocking(False)
            loop = asyncio.get_running_loop()
            sending = loop.create_task(loop.sock_sendall(greedy, b'{"do": "big"}\n' * 100_000))
            for _ in range(20):
                await alive(path)
            held = sum(c._transport.get_write_buffer_size() for c in server.clients)
            assert 0 < held <= 200_100
            assert sum(len(client._asked) for client in server.clients) <= 2 * READ_MAX
            sending.cancel()
            greedy.close()
            await alive(path)

    run(body())


def test_half_open_and_too_many_clients(run: Run, tmp_path: Path) -> None:
    async def body() -> None:
        path = tmp_path / "c"
        async with served(path) as server:
            idle = [await raw(path) for _ in range(CLIENTS_MAX)]
            _, writer = await raw(path)  # one too many
            writer.write(b'{"do": "echo"}\n')
            reader, one_more = await raw(path)
            assert await reader.read() == b""
            one_more.close()
            writer.close()
            for _, other in idle:
                other.write(b'{"do": "ec')
                other.close()
            while server.clients:
                await asyncio.sleep(0)
            await alive(path)

    run(body())


def test_client_that_resets(run: Run, tmp_path: Path) -> None:
    async def body() -> None:
        path = tmp_path / "c"
        async with served(path):
            for _ in range(50):
                _, writer = await raw(path)
                writer.write(b'{"do": "big"}\n' * 5)
                writer.transport.abort()
            await alive(path)

    run(body())


def test_bug_in_a_verb_reaches_the_event_loop(tmp_path: Path) -> None:
    errors = []

    def broken(_request: Entry) -> dict[str, Any]:
        raise KeyError("bug")

    async def body() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: errors.append(context["exception"]))
        server = await ControlServer.start(tmp_path / "c", {"broken": broken, "echo": echo})
        with pytest.raises(UserError, match=r"ended before it answered|Connection reset"):
            await asyncio.to_thread(Control(tmp_path / "c").ask, "broken")
        await alive(tmp_path / "c")
        server.close()

    asyncio.run(body())
    assert [type(error) for error in errors] == [KeyError]


def test_the_only_run_needs_no_name(run: Run, tmp_path: Path) -> None:
    async def body() -> None:
        with pytest.raises(UserError, match="no NIC process with a control socket runs"):
            Control()
        async with served(tmp_path / "one"):
            assert await asyncio.to_thread(lambda: Control().path) == tmp_path / "one"
            async with served(tmp_path / "two"):
                with pytest.raises(UserError, match=r"several NIC processes run.*/one, .*/two"):
                    await asyncio.to_thread(Control)

    run(body())


def test_folder_of_somebody_else_is_not_used(run: Run, tmp_path: Path) -> None:
    async def body() -> None:
        folder = tmp_path / f"nicmodel-runs-{os.getuid()}"
        folder.mkdir()
        folder.chmod(0o777)
        async with served(tmp_path / "one"):
            assert list(folder.iterdir()) == []
            assert runs.found() == []

    run(body())


def test_killed_run_is_forgotten(tmp_path: Path) -> None:
    folder = tmp_path / f"nicmodel-runs-{os.getuid()}"
    folder.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(tmp_path / "dead"))
    (folder / "1-1").symlink_to(tmp_path / "dead")
    (folder / "2-1").symlink_to(tmp_path / "never")
    assert runs.found() == []
    assert list(folder.iterdir()) == []


def test_process_that_hangs_is_a_sentence(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(os.fspath(tmp_path / "hung"))
        hung.listen()
        with pytest.raises(UserError, match="hung does not answer"):
            Control(tmp_path / "hung", timeout=0.05).status()
