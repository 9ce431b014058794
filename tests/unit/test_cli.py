# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: help, exit statuses, one sentence for each mistake."""

import os
import re
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from nicmodel import cli
from nicmodel.errors import UserError
from nicmodel.testbed.errors import Unavailable

COMMANDS = [
    "serve",
    "up",
    "shell",
    "link",
    "fault",
    "status",
    "decrypt",
    "test",
    "doctor",
    "commands",
]

Install = Callable[[Callable[[Namespace], int]], None]


@pytest.fixture
def testbed(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put one function in the place of all bodies of the testbed."""

    def install(body: Callable[[Namespace], int]) -> None:
        module = ModuleType("nicmodel.testbed.commands")
        for name in ("up", "shell", "test", "doctor"):
            setattr(module, name, body)
        monkeypatch.setitem(sys.modules, module.__name__, module)

    return install


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help(command: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"] if command else ["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    if command is None:
        assert all(re.search(rf"^    {name} ", text, re.MULTILINE) for name in COMMANDS)
    else:
        assert text.startswith(f"usage: nicmodel {command}")


def test_examples_of_the_help_are_understood(
    testbed: Install, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each line of an example that begins with nicmodel is accepted as it stands."""
    seen: list[Namespace] = []

    def body(args: Namespace) -> int:
        seen.append(args)
        return 0

    testbed(body)
    for name in ("_serve", "_link", "_fault", "_status_of_run", "_decrypt"):
        monkeypatch.setattr(cli, name, body)
    examples = []
    for command in COMMANDS:
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
        examples += re.findall(r"^  nicmodel (.*)$", capsys.readouterr().out, re.MULTILINE)
    assert len(examples) > len(COMMANDS)
    for example in examples:
        words = [word.strip("'") for word in re.findall(r"'[^']*'|\S+", example)]
        assert cli.main(words) == 0, example
    assert len(seen) == len(examples)


def test_file_of_the_help_is_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from nicmodel.topology import load

    with pytest.raises(SystemExit):
        cli.main(["serve", "--help"])
    text = capsys.readouterr().out.partition("net.toml:\n")[2]
    path = tmp_path / "net.toml"
    path.write_text(text)
    topology = load(path)
    assert topology.run.strict
    assert (len(topology.nics), len(topology.taps), len(topology.captures)) == (1, 1, 1)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "the following arguments are required: COMMAND; try 'nicmodel --help'"),
        (["srve"], "argument COMMAND: invalid choice: 'srve' "),
        (["serve", "--nix"], "unrecognized arguments: --nix; try 'nicmodel --help'"),
        (["serve"], "there is no NIC; give --nic NAME=SOCKET or a file with [[nic]]"),
        (["serve", "--nic", "a"], "--nic a: write --nic NAME=SOCKET"),
        (["serve", "--topology", "/none.toml"], "cannot read /none.toml: No such file"),
        (["serve", "--nic", "a=/none/a.sock"], "cannot listen on socket /none/a.sock (No such"),
        (["fault", "a"], "which kind? 'nicmodel faults' lists them; or --remove NUMBER"),
        (["fault", "a", "health", "fatal"], "fatal: write key=value"),
        (["link", "a", "dwn", "--control", "/x"], "link: 'dwn' is no rule; write KEY=VALUE, like"),
        (["link", "a", "los=1", "--control", "/x"], "link: los is unknown; did you mean loss?"),
        (["link", "a", "down", "--control", "/none"], "cannot ask the NIC process at /none (No"),
        (["up", "--guests", "0"], "argument --guests: invalid positive number value: '0'; try"),
        (["up", "--accel", "xen"], "argument --accel: invalid choice: 'xen'"),
    ],
)
def test_mistakes(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"nicmodel: {sentence}")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("command", ["up", "shell", "test", "doctor"])
def test_bodies_of_the_testbed_decide(testbed: Install, command: str) -> None:
    for status in (0, 1, 4):
        testbed(lambda _args, status=status: status)  # type: ignore[misc]
        assert cli.main([command]) == status


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (UserError("no such kernel."), 1, "nicmodel: no such kernel.\n"),
        (Unavailable("there is no QEMU."), 4, "nicmodel: there is no QEMU.\n"),
        (KeyboardInterrupt(), 130, "nicmodel: interrupted\n"),
    ],
)
def test_errors_become_a_status_and_a_sentence(
    testbed: Install,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    sentence: str,
) -> None:
    def body(_args: Namespace) -> int:
        raise error

    testbed(body)
    assert cli.main(["up"]) == status
    assert capsys.readouterr().err == sentence


def test_bugs_are_not_hidden(testbed: Install) -> None:
    def body(_args: Namespace) -> int:
        raise KeyError("a bug")

    testbed(body)
    with pytest.raises(KeyError):
        cli.main(["up"])


def test_commands_is_a_table_by_opcode(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["commands"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [re.fullmatch(r"(0x[0-9a-f]{4})  ([A-Z0-9_]+) +(\S.*\.)", line) for line in lines]
    assert all(rows), lines
    opcodes = [row[1] for row in rows if row]
    assert opcodes == sorted(set(opcodes))
    assert ("0x0102", "INIT_HCA") in [(row[1], row[2]) for row in rows if row]


def test_reader_of_the_table_may_leave(tmp_path: Path) -> None:
    """As in 'nicmodel commands | head -1'."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "nicmodel", "commands"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert done.stderr == ""


def test_serve_needs_neither_testbed_nor_its_packages() -> None:
    code = (
        "import sys; from nicmodel import serve, cli\n"
        "print([m for m in sys.modules if 'libvirt' in m or 'pyroute2' in m or 'testbed' in m])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
