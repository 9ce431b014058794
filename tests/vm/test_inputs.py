# SPDX-License-Identifier: GPL-2.0-or-later
"""What users put in: a module with an API of its own, scenarios, and all that goes wrong with them.

Each run is a process, as of a user, with guests of its own.
"""

import copy
import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from nicmodel.errors import UserError
from nicmodel.hunt.recording import load
from nicmodel.testbed import foreign
from nicmodel.testbed import smt as kmod
from nicmodel.testbed.foreign import Module
from nicmodel.testbed.lab import Lab
from nicmodel.testbed.paths import CHECKOUT
from tests.vm.build import own
from tests.vm.pair import Pair
from tests.vm.smt import SmtPair

TOY = Path(__file__).with_name("fixtures") / "toy"
README = (CHECKOUT / "README.md").read_text()

MORE = """
[[scenario]]
name = "expects-too-much"
guests = 1
[[scenario.step]]
run = "toy_talk ask 10.77.0.9"
status = 2
[[scenario.step]]
run = "cat /proc/net/toy"
output = "received [1-9]"
[[scenario.event]]
event = "DeviceReset"
most = 0
[[scenario.frames]]
filter = "ip.proto == 253"

[[scenario]]
name = "warns"
guests = 1
[[scenario.step]]
start = "toy_talk serve"
[[scenario.step]]
run = "echo 1 >/sys/module/toy/parameters/careless; toy_talk ask 10.77.0.1 1"
status = 0
"""

TLS = """
driver = "tls"
[programs]
build = "gcc -O2 -pthread -o ktls ktls.c"
files = ["ktls"]
[[scenario]]
name = "keys"
cpus = 1
record = true
sanitizer = {{ keys = 0 }}
[[scenario.step]]
guest = "b"
start = "ktls listen 7400 receive=10000 send=0 {words}"
status = 0
ready = "ss -Hltn | grep -q :7400"
[[scenario.step]]
run = "ethtool -K eth0 tls-hw-tx-offload on; ktls connect 10.77.0.2 7400 send=10000 {words}"
""".format(words=f"cipher=128 key={'0a' * 16} salt=5a175a17 iv=a0a1a2a3a4a5a600 seed=7")


@dataclass(frozen=True)
class Run:
    """A run of ``nicmodel test`` that ended."""

    status: int
    stderr: str
    folder: Path

    def tap(self) -> dict[str, str]:
        """The lines of each scenario, its verdict first."""
        parts = re.split(r"^(?=ok|not ok)", (self.folder / "vm.tap").read_text(), flags=re.M)[1:]
        return {part.split("::")[1].split(" ")[0]: part for part in parts}


def run(folder: Path, config: str, *flags: str) -> Run:
    """Run what ``config`` says in ``folder``."""
    (folder / "mine.toml").write_text(config)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "nicmodel", "test", "--config", str(folder / "mine.toml")),
            *("--results", str(folder / "out"), "--seed", "7", *flags),
        ],
        cwd=CHECKOUT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=280,
        check=False,
    )
    return Run(done.returncode, done.stderr, folder / "out")


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """The repository of a user."""
    return shutil.copytree(TOY, tmp_path / "toy")


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The README's example, and two more scenarios that are to fail."""
    folder = shutil.copytree(TOY, tmp_path_factory.mktemp("example") / "toy")
    (text,) = re.findall(r"^```toml\n(.*?)^```", README, re.M | re.S)
    return run(folder, text + MORE)


@pytest.mark.timeout(300)
def test_the_example_of_the_readme_passes(example: Run) -> None:
    assert example.tap()["echo"].startswith("ok 1 ")
    facts = json.loads((example.folder / "run/facts.json").read_text())
    assert (facts["seed"], facts["nic"]) == (7, "connectx6dx")
    assert facts["module"].endswith("/toy")
    left = {path.name for path in (example.folder / "run/echo").iterdir()}
    assert left >= {"a.pcapng", "b.pcapng", "console-a.log", "console-b.log", "model.jsonl"}


def test_each_expectation_that_fails_is_named(example: Run) -> None:
    assert example.status == 1
    said = example.tap()["expects-too-much"]
    assert said.startswith("not ok 2 ")
    assert "step 2 (a: cat /proc/net/toy): 'received [1-9]' is not in what it wrote: rec" in said
    assert re.search(r"event 1: DeviceReset was seen \d+ times, at most 0 expected", said)
    assert "frames 1: ip.proto == 253 was seen 0 times, at least 1 expected" in said


def test_a_warning_of_the_kernel_fails_a_scenario(example: Run) -> None:
    said = example.tap()["warns"]
    assert said.startswith("not ok 3 ")
    assert "the kernel of guest a: warning" in said
    assert "toy_receive" in said
    assert "expected" not in said


@pytest.mark.timeout(300)
def test_a_finding_of_the_sanitizer_fails_a_scenario(tmp_path: Path) -> None:
    shutil.copy(own("ktls"), tmp_path)
    done = run(tmp_path, TLS)
    said = done.tap()["keys"]
    assert (done.status, said.startswith("not ok 1 ")) == (1, True), said
    assert "the sanitizer, NIC a: resync: " in said
    assert "expected" not in said
    # it was recorded, up to its end
    recording = load(done.folder / "run/keys/a.hunt")
    assert any(one.tisn for one in recording.posted)
    assert recording.ended == "the guest is gone"


def test_a_module_that_does_not_build(toy: Path) -> None:
    (toy / "toy.c").write_text("int toy_is_this(void)\n{\n\treturn nothing;\n}\n")
    done = run(toy, '[module]\nfolder = "."\n[[scenario]]\nname = "x"\nstep = [{ run = "true" }]\n')
    assert done.status == 1
    said = done.stderr.splitlines()[-1]
    assert said.startswith("nicmodel: module toy does not build for 6.")
    assert "toy.c:3:16: error: " in said
    assert "nothing" in said


def test_a_patch_that_does_not_apply(tmp_path: Path) -> None:
    folder = tmp_path / "patches"
    folder.mkdir()
    name = "drivers/net/ethernet/mellanox/mlx5/core/main.c"
    text = f"--- a/{name}\n+++ b/{name}\n@@ -1,1 +1,1 @@\n-no such line\n+another\n"
    (folder / "0001-wrong.patch").write_text(text)
    done = run(tmp_path, 'driver_patch = "patches"\n')
    assert done.status == 1
    said = done.stderr.splitlines()[-1]
    assert said.startswith("nicmodel: 0001-wrong.patch does not apply to the driver of this kernel")
    assert said.endswith(": Hunk #1 FAILED at 1.")


def test_a_module_that_refuses_to_load(pair: Pair, lab: Lab) -> None:
    files = foreign.build(Module(TOY), lab.kernel)
    with pytest.raises(UserError) as refused:
        foreign.load(pair.a, Module(TOY), lab.kernel, files)
    assert str(refused.value) == (
        "module toy does not load in guest a: could not insert 'toy': Invalid argument; "
        "its kernel says: toy: a key of 0 hides nothing"
    )


def test_cflags_reach_the_compiler(pair: Pair, lab: Lab) -> None:
    module = Module(TOY, cflags="-DTOY_DEFAULT_KEY=3")
    foreign.load(pair.a, module, lab.kernel, foreign.build(module, lab.kernel))
    assert pair.a.read_file("/sys/module/toy/parameters/key") == "3\n"
    pair.a.run("modprobe -r toy")


def test_a_module_for_another_kernel(pair: Pair, lab: Lab, tmp_path: Path) -> None:
    (built,) = foreign.build(Module(TOY), lab.kernel)
    other = tmp_path / built.name
    # of the release a kernel with versions of symbols makes nothing
    right, wrong = b" SMP preempt mod_unload ", b" SMP preempt mod_upload "
    assert right in built.read_bytes()
    other.write_bytes(built.read_bytes().replace(right, wrong))
    with pytest.raises(UserError, match="module toy does not load in guest a") as refused:
        foreign.load(pair.a, Module(TOY), lab.kernel, [other])
    assert f"; its kernel says: toy: version magic '{lab.kernel.release}" in str(refused.value)
    assert f"{wrong.decode()}modversions ' should be '{lab.kernel.release}" in str(refused.value)


def test_the_suite_takes_a_changed_smt(pair: Pair, lab: Lab, tmp_path: Path) -> None:
    """Its build, and its programs."""
    mine = shutil.copytree(kmod.SOURCE, tmp_path / "mine")
    with (mine / "module.c").open("a") as source:
        source.write('MODULE_VERSION("mine" SMT_SUFFIX);\n')
    tool = mine / "tools/smt_keys.c"
    tool.write_text(tool.read_text().replace("usage: smt_keys", "usage: my_keys"))
    module = Module(mine, cflags='-DSMT_SUFFIX=\\"-too\\"')
    chosen = copy.copy(lab)
    chosen.options = replace(lab.options, module=module)
    smt_pair = SmtPair(replace(pair, lab=chosen), tmp_path)
    try:
        smt_pair.load(pair.a)
        assert pair.a.read_file("/sys/module/smt/version") == "mine-too\n"
        assert "my_keys" in pair.a.run("/tmp/smt_keys", check=False).stderr
        assert pair.a.run("/tmp/smt_echo", check=False).status
    finally:
        pair.a.run("rmmod smt smt_ledger; rm -f /tmp/smt_*")


def test_the_suite_refuses_a_module_that_it_does_not_know(tmp_path: Path) -> None:
    words = ["--smt-kmod", str(TOY), "--results", str(tmp_path), "-k", "no_such_test"]
    done = subprocess.run(
        [sys.executable, "-m", "nicmodel", "test", *words],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "nicmodel: module toy makes toy.ko: the tests here know the sockets of smt.ko alone, for "
        "another write scenarios as in the README"
    )
