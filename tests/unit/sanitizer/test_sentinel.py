# SPDX-License-Identifier: GPL-2.0-or-later
"""What is remembered of a connection."""

from nicmodel.offload.tls.cipher import RecordCipher
from nicmodel.sanitizer.sentinel import STARTS, Flow
from nicmodel.spec.tls import TlsVersion


def test_the_latest_beginnings_of_records_are_known_however_many_come_at_once() -> None:
    cipher = RecordCipher(TlsVersion.TLS_1_2, bytes(16), bytes(12))
    flow = Flow(b"", 1, 1, cipher, 0)
    for first in range(0, 20 * STARTS, 7):
        flow.note_all({number * 100: number for number in range(first, first + 7)})
        latest = range(max(0, first + 7 - STARTS), first + 7)
        assert [flow.starts.get(number * 100) for number in latest] == list(latest)
        assert len(flow.starts) <= 2 * STARTS
