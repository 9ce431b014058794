# SPDX-License-Identifier: GPL-2.0-or-later
"""The card's clock and its time stamps, by the kernel's own interfaces."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.vm.pair import Pair
from tests.vm.traffic import IFACE

SECOND = 1_000_000_000

pytestmark = pytest.mark.skipif(
    shutil.which("gcc") is None, reason="gcc is missing: apt-get install gcc libc6-dev"
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """``ptp.c``; the guest has no compiler, and the libraries of this distribution."""
    target = tmp_path_factory.mktemp("ptp") / "ptp"
    source = Path(__file__).with_name("ptp.c")
    subprocess.run(
        ["gcc", "-s", "-Os", "-Wall", "-Werror", "-o", str(target), str(source)],
        check=True,
    )
    return target.read_bytes()


def _run(pair: Pair, program: bytes, *arguments: str) -> list[tuple[str, int]]:
    pair.a.write_file("/tmp/ptp", program, mode=0o755)
    said = pair.a.run(["/tmp/ptp", "/dev/ptp0", *arguments], timeout=60).stdout
    return [(name, int(value)) for name, value in re.findall(r"^(\w+) (-?\d+)$", said, re.M)]


def test_the_clock_is_set_shifted_and_steered(pair: Pair, program: bytes) -> None:
    said = dict(_run(pair, program, "clock"))
    assert said["pps"] == said["pins"] == 0  # no such capability
    assert 1000 * SECOND <= said["set"] < 1001 * SECOND
    assert 50 * SECOND <= said["shifted"] < 51 * SECOND
    # what is asked for, give or take what reading two clocks one after the other costs
    assert said["rate"] == pytest.approx(1_000_000, abs=10_000)
    assert said["fast"] == pytest.approx(1_040_000, abs=10_000)
    assert said["slow"] == pytest.approx(960_000, abs=10_000)


def test_time_stamps_lie_between_readings_of_the_clock(pair: Pair, program: bytes) -> None:
    echo = pair.b.start("socat UDP4-LISTEN:7200,reuseaddr EXEC:cat")
    try:
        pair.b.wait_until("ss -Hlun | grep -q :7200", timeout=20)
        said = _run(pair, program, "stamp", IFACE, pair.v4(pair.b), "7200")
    finally:
        pair.b.run("pkill socat", check=False)
        echo.wait(20, check=False)
    assert [name for name, _ in said] == ["before", "sent", "received", "after"] * 5
    times = [time for _, time in said]
    assert times == sorted(times)
    # in each round the frame was under way for some time
    assert all(times[n + 1] < times[n + 2] for n in range(0, 20, 4))


def test_what_ethtool_says_of_time_stamps(pair: Pair) -> None:
    said = pair.a.run(["ethtool", "-T", IFACE]).stdout
    assert "PTP Hardware Clock: 0" in said
    for mode in ("hardware-transmit", "hardware-receive", "hardware-raw-clock"):
        assert mode in said
    name = pair.a.read_file("/sys/class/ptp/ptp0/clock_name").strip()
    assert name.startswith("mlx5")
