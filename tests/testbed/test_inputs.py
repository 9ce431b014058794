# SPDX-License-Identifier: GPL-2.0-or-later
"""What users put in: flags, files, and one sentence for each mistake."""

from pathlib import Path
from typing import Any

import pytest

from nicmodel.errors import UserError
from nicmodel.testbed import driver, inputs
from nicmodel.testbed.driver import Choice

STEP = '[[scenario]]\nname = "x"\n[[scenario.step]]\n'


def load(folder: Path, text: str, **flags: Any) -> inputs.Inputs:
    path = folder / "mine.toml"
    path.write_text(text)
    return inputs.load(path, flags)


def test_nothing_is_the_default() -> None:
    given = inputs.load(None, {"kernel": None, "seed": None})
    assert given == inputs.Inputs()
    assert inputs.load(None, {"kernel": ""}) == given


def test_paths_of_a_file_are_beside_it_and_flags_win(tmp_path: Path) -> None:
    patch = tmp_path / "one.patch"
    patch.touch()
    text = 'kernel = "./linux"\ndriver_patch = "one.patch"\nnic = "connectx6dx-tcp-lso"\nseed = 3\n'
    given = load(tmp_path, text)
    assert given.kernel == str(tmp_path / "linux")
    assert given.nic_driver == Choice(tls=True, patches=(patch,))
    assert (given.nic, given.seed, given.module) == ("connectx6dx-tcp-lso", 3, None)
    given = load(tmp_path, text, kernel="linux-image-x", driver_patch="", driver="tls", seed=4)
    assert (given.kernel, given.nic_driver, given.seed) == ("linux-image-x", driver.TLS, 4)


def test_a_module_by_flag_and_by_file(tmp_path: Path) -> None:
    given = load(tmp_path, '[module]\ncflags = "-DA"\nload = ["m x=1"]\nsysctl = { "a.b" = 2 }\n')
    assert given.module is not None
    assert (given.module.folder, given.module.load) == (tmp_path / ".", ("m x=1",))
    assert (given.module.cflags, given.module.sysctl) == ("-DA", {"a.b": "2"})
    given = load(tmp_path, '[module]\ncflags = "-DA"\n', smt_kmod="/other", smt_cflags="-DB")
    assert given.module is not None
    assert (given.module.folder, given.module.cflags) == (Path("/other"), "-DB")
    given = inputs.load(None, {"smt_cflags": "-DB"})
    assert given.module is not None
    assert given.module.folder == inputs.OWN_MODULE


def test_steps_of_a_scenario(tmp_path: Path) -> None:
    text = STEP + 'start = "server"\n[[scenario.step]]\nrun = "client"\noutput = "^ok$"\n'
    (one,) = load(tmp_path, text).scenarios
    server, client = one.steps
    assert (server.guest, server.background, server.status) == ("a", True, None)
    assert (client.guest, client.background, client.status) == ("a", False, 0)
    assert client.output is not None
    assert client.output.search("well\nok\n")
    assert not one.record
    (one,) = load(
        tmp_path, text.replace("[[scenario.step]]", "record = true\n[[scenario.step]]", 1)
    ).scenarios
    assert one.record


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("kernal = 1\n", "mine.toml: kernal is unknown; did you mean kernel"),
        ("= 1\n", "mine.toml is not valid: "),
        ('nic = "cx7"\n', "mine.toml, nic: cx7 is unknown; known are connectx6dx"),
        ('driver = "tsl"\n', "driver: tsl is unknown; did you mean tls"),
        ('driver_patch = "no"\n', "there is no patch .*/no: name a patch file or a folder"),
        ('[module]\nparam = "x"\n', "mine.toml, module: param is unknown"),
        ('[module]\nload = "x"\n', "module, load: write a list of texts instead of"),
        ('[scenario]\nname = "x"\n', r"scenario: there can be several; write them as \[\[scenario"),
        ('[[scenario]]\nname = "x"\n', r"scenario 1, step: there is none; add \[\[scenario.step"),
        (STEP + 'guest = "a"\n', "step 1, run: a step has either run or start; write one"),
        (STEP + 'guest = "c"\nrun = "x"\n', "step 1, guest: c is unknown; known are a, b, host"),
        (STEP + 'run = "x"\noutput = "("\n', "output: this is no regular expression: missing"),
        (STEP + 'run = "x"\ntimeout = 0\n', "timeout: write a number from 1 to 86400 instead of"),
        (STEP + 'run = "x"\n[[scenario.link]]\nnic = "a"\nlos = 1\n', "link 1: los is unknown"),
        (STEP + 'run = "x"\n[scenario.sanitizer]\nnonce = "x"\n', "sanitizer, nonce: x is unknown"),
        ((STEP + 'run = "x"\n') * 2, "mine.toml: two scenarios are called x; rename one"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as raised:
        load(tmp_path, text)
    assert "\n" not in str(raised.value)


def test_a_matrix_varies_what_no_flag_says(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        '[matrix]\nkernel = ["linux-image-a", "./tree"]\ndriver_patch = ["", "p"]\n'
        'cflags = ["-DX"]\nseed = [1]\n'
    )
    runs = inputs.matrix(path, {"seed": 5})
    tree, patch = str(tmp_path / "tree"), str(tmp_path / "p")
    assert runs == [
        {"kernel": kernel, "driver_patch": choice, "smt_cflags": "-DX"}
        for kernel in ("linux-image-a", tree)
        for choice in ("", patch)
    ]
    assert inputs.matrix(None, {}) == [{}]
