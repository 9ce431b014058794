# SPDX-License-Identifier: GPL-2.0-or-later
"""The trial of KVM: it may work, fail or hang, and is made once."""

from pathlib import Path

import pytest

from nicmodel.errors import UserError
from nicmodel.testbed import accel
from nicmodel.testbed.domain import Boot

BOOT = Boot(Path("vmlinux"), Path("initramfs"))


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with a line for each start of the emulator, whose behaviour ``emulate`` chooses."""
    if not Path("/dev/kvm").exists():
        pytest.skip("there is no /dev/kvm to try")
    monkeypatch.setenv("NICMODEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(accel, "EMULATOR", str(tmp_path / "emulator"))
    monkeypatch.setattr(accel, "DEADLINE_SECONDS", 0.5)
    return tmp_path / "runs"


def emulate(runs: Path, behaviour: str) -> None:
    program = runs.with_name("emulator")
    program.write_text(f"#!/bin/sh\necho $$ >> {runs}\n{behaviour}\n")
    program.chmod(0o755)


def test_guest_that_reaches_its_init_is_accelerated(runs: Path) -> None:
    emulate(runs, "echo '[ 0.5] Run /init as init process'; exec sleep 60")
    assert accel.choose("auto", BOOT).name == "kvm"


def test_hanging_kvm_ends_at_the_deadline_and_nothing_stays(runs: Path) -> None:
    emulate(runs, "exec sleep 60")
    found = accel.choose("auto", BOOT)
    assert found.name == "tcg"
    assert "no life" in found.reason
    assert not Path("/proc", runs.read_text().strip()).exists()


def test_refusing_kvm_is_quoted(runs: Path) -> None:
    emulate(runs, "echo 'failed to initialize kvm: busy' >&2; exit 1")
    assert accel.choose("auto", BOOT).reason.endswith("failed to initialize kvm: busy")


def test_answer_is_remembered(runs: Path) -> None:
    emulate(runs, "exit 1")
    first = accel.choose("auto", BOOT)
    assert accel.choose("auto", BOOT) == first
    assert len(runs.read_text().split()) == 1


def test_kvm_by_force_says_why_not(runs: Path) -> None:
    emulate(runs, "exit 1")
    with pytest.raises(UserError, match="use --accel tcg"):
        accel.choose("kvm", BOOT)


def test_tcg_tries_nothing(runs: Path) -> None:
    emulate(runs, "exit 1")
    assert accel.choose("tcg", BOOT).name == "tcg"
    assert not runs.exists()
