# SPDX-License-Identifier: GPL-2.0-or-later
"""One command records a scenario of SMT in guests and hunts in it; its run tells a whole story."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from nicmodel import cli
from nicmodel.testbed import kernel
from nicmodel.testbed import smt as kmod
from nicmodel.testbed.paths import CHECKOUT
from tests.vm.smt import tools

SMT = kmod.SOURCE

CONFIG = f"""
driver_patch = "{SMT}/driver-patch"
[module]
folder = "module"
build = "cp {{built}}/*.ko ."
[module.sysctl]
"net.smt.offload" = 2
"net.smt.resend_ticks" = 300
"net.smt.resend_interval" = 200
"net.smt.timeout_resends" = 8
[programs]
build = "cp {{tools}}/smt_echo . && {{tools}}/smt_keys 10.77.0.1 10.77.0.2:4000 >keys"
files = ["smt_echo", "keys"]

[[scenario]]
name = "another"
step = [{{ run = "false" }}]

[[scenario]]
name = "echo"
[[scenario.link]]
nic = "a"
direction = "out"
match = "ip.proto == 253 and frame.len > 500"
nth = 3
loss = 1
[[scenario.step]]
guest = "b"
start = "exec smt_echo serve 4000 --keys /usr/local/bin/keys --secure >/tmp/served"
ready = "grep -q ready /tmp/served"
[[scenario.step]]
run = "smt_echo 10.77.0.2:4000 --load 20000:4:8 --keys /usr/local/bin/keys --secure --roam"
output = '"good": 8'
"""

(COMMAND,) = re.findall(
    r"^    nicmodel (hunt --config .*)$", (CHECKOUT / "README.md").read_text(), re.MULTILINE
)


@pytest.fixture(scope="module")
def hunted(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the command of the README says of ``CONFIG``."""
    folder = tmp_path_factory.mktemp("story")
    (folder / "module").mkdir()
    # what the other tests of SMT have built already
    built = kmod.build(kernel.find(kernel.DEFAULT))
    text = CONFIG.replace("{built}", str(built)).replace("{tools}", str(tools()))
    (folder / "mine.toml").write_text(text)
    words = COMMAND.replace("mine.toml", str(folder / "mine.toml")).split()
    done = subprocess.run(
        [sys.executable, "-m", "nicmodel", *words],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(300)
def test_one_command_records_and_hunts(hunted: str) -> None:
    first, *lines = hunted.splitlines()
    assert re.fullmatch(r"recording echo in guests, seed \d+", first)
    found = [re.match(r"(.*): NIC (\w), .*, (\d+) of them with a choice", line) for line in lines]
    assert {one[2]: int(one[3]) for one in found if one}["a"] > 0
    assert "100 orders, and none is wrong" in lines


@pytest.mark.timeout(300)
def test_the_story_from_sendmsg_to_recvmsg(hunted: str, capsys: pytest.CaptureFixture[str]) -> None:
    (run,) = {Path(line.split(":")[0]).parent for line in hunted.splitlines() if ".hunt: " in line}
    assert cli.main(["explain", str(run)]) == 0
    # a slow machine may have sent others again, too
    again = r"message (\w+): 20000 bytes, \d+ packets sent, \d+ of them again"
    stories = []
    for message in re.findall(again, capsys.readouterr().out):
        assert cli.main(["explain", str(run), "--message", message]) == 0
        stories.append(capsys.readouterr().out)
    (said,) = [one for one in stories if "does not arrive" in one]
    lines = iter(said.splitlines())
    for place, text in (
        ("guest a", r"sendmsg\(\) of 20000 bytes \(smt_echo, process \d+, CPU \d\)$"),
        ("guest a", "hands packets 0-10 of the segment at byte 0 to the device as one skb"),
        ("a", ".*, record 0 .*: sends packets 0-10 of the segment at byte 0 "),
        ("a > b", "packet 2 .* does not arrive at b: lost by rule 1 of link a/out$"),
        ("guest b", r"asks again for bytes \d+ to \d+$"),
        ("b", r"asks again for bytes \d+ to \d+ \(RESEND, "),
        ("guest a", r"is asked again for bytes \d+ to \d+$"),
        ("guest a", "hands packets 0-10 of the segment at byte 0 to the device again as one skb"),
        ("a", ".*, record 0 .*: sends again packets 0-10 of the segment at byte 0 "),
        ("b", "packets? [-0-9, ]+ of the segment at byte 0 arrives? "),
        ("guest b", r"the record with bytes 0 to \d+ is decrypted and authentic$"),
        ("guest b", r"all 20000 bytes wait for recvmsg\(\)$"),
        ("guest b", r"recvmsg\(\) of 20000 bytes \(smt_echo, process \d+, CPU \d\)$"),
    ):
        # each behind the one before
        line = re.compile(rf" +\d+\.\d+  {place} +{text}")
        assert any(line.match(one) for one in lines), f"no {place}: {text} there in\n{said}"
    assert re.search(r"^guest a: its times may be wrong by \d+\.\d+ ms beside", said, re.MULTILINE)
