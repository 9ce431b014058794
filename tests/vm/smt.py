# SPDX-License-Identifier: GPL-2.0-or-later
"""SMT in guests: the module and its programs, keys, and what the oracle says of the captures."""

import hashlib
import subprocess
from pathlib import Path

from nicmodel.testbed.paths import cached

SMT = Path(__file__).parents[2] / "smt-kmod"
TOOLS = SMT / "tools"


def tools() -> Path:
    """Return the folder with ``smt_echo`` and ``smt_keys``; host and guests have one C library."""
    sources = sorted([*TOOLS.glob("*.[ch]"), TOOLS / "Makefile", *SMT.glob("include/**/*.h")])
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()

    def make(folder: Path) -> None:
        command = ["make", "-C", str(TOOLS), f"O={folder}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise AssertionError(f"the programs of SMT do not build:\n{done.stderr}")

    return cached("programs", f"smt-{digest[:16]}", make)
