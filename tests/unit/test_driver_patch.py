# SPDX-License-Identifier: GPL-2.0-or-later
"""Driver and transport are built apart: both must have the same declaration of what is between."""

from pathlib import Path

KMOD = Path(__file__).parents[2] / "smt-kmod"
HEADER = "include/linux/mlx5/smt_offload.h"


def test_the_patches_add_the_header_that_transports_are_built_with() -> None:
    found = [
        text
        for path in (KMOD / "driver-patch").glob("0*.patch")
        if f"+++ b/{HEADER}\n" in (text := path.read_text())
    ]
    (patch,) = found
    lines = patch.partition(f"+++ b/{HEADER}\n")[2].splitlines()[1:]
    added = [line[1:] for line in lines if line.startswith("+")]
    assert "\n".join(added) + "\n" == (KMOD / HEADER).read_text()
