# SPDX-License-Identifier: GPL-2.0-or-later
"""Last of all: independent eyes on everything that crossed the wire."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from tests.oracles import tshark
from tests.vm.conftest import Captures
from tests.vm.frames import EXEMPT

CLEAR_SIDE = 'frame.interface_name matches " clear$"'
"""There the checksum is that of the encrypted payload."""

pytestmark = [pytest.mark.matrix, pytest.mark.every_shard]


@pytest.mark.timeout(600)
def test_tshark_finds_no_bad_frame(captures: Captures, request: pytest.FixtureRequest) -> None:
    files = captures.closed()
    if not files and request.config.getoption("--shard") != "1/1":
        pytest.skip("nothing of this part had a capture")
    assert files
    judge = partial(tshark.faults, exempt=EXEMPT, unsummed=CLEAR_SIDE)
    with ThreadPoolExecutor(os.cpu_count()) as readers:  # each waits for a tshark of its own
        assert dict(zip(files, readers.map(judge, files), strict=True)) == {f: [] for f in files}


def test_the_model_ended_in_order_and_met_nothing_unknown(
    captures: Captures, request: pytest.FixtureRequest
) -> None:
    ended = captures.exit_statuses()
    if not ended and request.config.getoption("--shard") != "1/1":
        pytest.skip("nothing of this part had a NIC process")
    assert ended
    assert ended == captures.meant_statuses()
