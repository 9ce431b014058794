# SPDX-License-Identifier: GPL-2.0-or-later
"""The plug-in under test, built for the installed QEMU."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.qemu.machine import REPOSITORY


def build(**environment: str) -> Path:
    """Build the plug-in; a failed build fails the test with what build.sh says."""
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("qemu-system-x86_64 is missing: apt-get install qemu-system-x86")
    done = subprocess.run(
        [REPOSITORY / "qemu-plugin" / "build.sh", "--print-path"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(scope="session")
def plugin() -> Path:
    return build()


@pytest.fixture(scope="session")
def sanitized_plugin() -> Path:
    return build(SANITIZE="1")
