# SPDX-License-Identifier: GPL-2.0-or-later
"""The programs for SMT sockets, as far as they go without the module."""

import subprocess
from pathlib import Path

import pytest

from nicmodel.wire.keyfile import read_keys
from tests.vm.smt import tools


@pytest.fixture(scope="module")
def folder() -> Path:
    return tools()


def run(program: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *words], capture_output=True, text=True, timeout=20, check=False
    )


@pytest.mark.parametrize("bits", [128, 256])
def test_keys_are_what_decrypt_reads(folder: Path, tmp_path: Path, bits: int) -> None:
    said = run(folder / "smt_keys", "10.77.0.1", "10.77.0.2:4000", str(bits))
    (tmp_path / "keys").write_text(said.stdout)
    there, back = read_keys(tmp_path / "keys")
    assert str(there.flow) == "10.77.0.1:0 > 10.77.0.2:4000"
    assert back.flow == there.flow.reversed()
    assert len(there.key) == len(back.key) == bits // 8
    assert len({there.key, back.key, there.salt, back.salt}) == 4
    again = run(folder / "smt_keys", "10.77.0.1:40000", "10.77.0.2:4000")
    assert '"sport": 40000' in again.stdout.splitlines()[0]
    assert there.key.hex() not in again.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("smt_keys",),
        ("smt_keys", "10.77.0.1", "10.77.0.2"),
        ("smt_keys", "host", "10.77.0.2:1"),
        ("smt_keys", "10.77.0.1", "10.77.0.2:1", "64"),
        ("smt_echo",),
        ("smt_echo", "10.77.0.2:99999", "--load", "1:1:1"),
        ("smt_echo", "10.77.0.2:4000"),
        ("smt_echo", "10.77.0.2:4000", "--load", "1000001:1:1"),
        ("smt_echo", "10.77.0.2:4000", "--load", "1:0:1"),
        ("smt_echo", "10.77.0.2:4000", "--load", "1:1:1x"),
    ],
)
def test_mistakes_are_one_sentence(folder: Path, words: tuple[str, ...]) -> None:
    said = run(folder / words[0], *words[1:])
    assert said.returncode == 2
    assert said.stdout == ""
    assert said.stderr.startswith("smt: ")
    assert said.stderr.count("\n") == 1
