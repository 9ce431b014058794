# SPDX-License-Identifier: GPL-2.0-or-later
"""What ``nicmodel hunt --config`` refuses before it boots any guest."""

from pathlib import Path

import pytest

from nicmodel.cli import main

ECHO = '[[scenario]]\nname = "echo"\nstep = [{ run = "true" }]\n'


@pytest.mark.parametrize(
    ("text", "words", "sentence"),
    [
        ("", (), "mine.toml has no scenario; add [[scenario]]"),
        (ECHO, ("--scenario", "ecko"), "scenario: ecko is unknown; did you mean echo"),
        (ECHO, ("a.hunt",), "say where to hunt: in a recording, or by --config in scenarios"),
        (ECHO, ("--replay",), "say where to hunt: in a recording, or by --config in scenarios"),
        ("[matrix]\nseed = [1, 2]\n" + ECHO, (), "has a [matrix]: run 'nicmodel test' with rec"),
        (ECHO + 'record = "yes"\n', (), "record: write true or false"),
    ],
)
def test_mistakes(
    text: str,
    words: tuple[str, ...],
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    assert main(["hunt", "--config", str(path), *words]) == 1
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("words", [(), ("--scenario", "echo"), ("a.hunt", "--scenario", "echo")])
def test_nothing_to_hunt_in(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hunt", *words]) == 1
    assert "name a recording, or scenarios to record by --config" in capsys.readouterr().err
