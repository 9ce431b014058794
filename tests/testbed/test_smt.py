# SPDX-License-Identifier: GPL-2.0-or-later
"""The style of the SMT modules. Their build refuses what the compiler or sparse warns of."""

import re
import subprocess
from pathlib import Path

import pytest

from nicmodel.testbed import kernel, smt
from nicmodel.testbed.errors import Unavailable

LEFT = {
    "trace.h": {"PARENTHESIS_ALIGNMENT", "OPEN_ENDED_LINE"},  # as in all headers of tracepoints
    "stats.c": {"COMPLEX_MACRO"},  # an entry of a table, with its comma
    "compat.h": {"LINUX_VERSION_CODE", "CONSTANT_COMPARISON"},  # it is for more than one kernel
}
"""What ``checkpatch --strict`` says for no good reason, by file."""


@pytest.mark.timeout(900)  # of which nearly all is the kernel's source package, the first time
def test_checkpatch_has_nothing_to_say(tmp_path: Path) -> None:
    try:
        script = kernel.checkpatch()
    except Unavailable as error:
        pytest.skip(f"the kernel's source package cannot be fetched: {error}")
    files = sorted([*smt.SOURCE.glob("*.[ch]"), *smt.SOURCE.glob("include/**/*.h")])
    # it takes <linux/smt.h> in smt.h for the name of the file itself
    options = ["--strict", "--no-tree", "--terse", "--show-types", "--ignore=EMBEDDED_FILENAME"]
    command: list[str | Path] = ["perl", script, *options, "-f", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stderr == ""
    said = re.findall(r"^(.*/)?([^/:]+):(\d+): \w+:(\w+): (.*)$", done.stdout, re.MULTILINE)
    wrong = [
        f"{name}:{line}: {kind}: {words}"
        for _, name, line, kind, words in said
        if kind not in LEFT.get(name, ())
    ]
    assert wrong == []
    # what is no longer said needs no exception
    assert {(name, kind) for _, name, _, kind, _ in said} == {
        (name, kind) for name, kinds in LEFT.items() for kind in kinds
    }
