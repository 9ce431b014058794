# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames that were sent one by one and differ as little as segments do: they make a train too."""

from collections.abc import Sequence

import numpy as np

from nicmodel.frame import CHECKED, ETH_MIN, HEAD, Train
from nicmodel.offload.checksum import L4_CHECKSUM_AT, insert_l3_many, insert_l4_many, pseudo_sum
from nicmodel.offload.parse import IPPROTO_TCP, parse

RUN = 4
"""From so many frames on a train costs less than its frames."""

_UDP_HEADER = 8


def coalesce(frames: Sequence[memoryview], *, l3: bool, l4: bool) -> Train | None:
    """Copy the leading ones of ``frames``, which have one length, into a train.

    They are the first and what follows with the same headers, but for what a ``Train`` lets differ:
    IPv4 identification, TCP sequence, checksums. Short ones are padded; ``l3`` and ``l4`` ask for
    checksums. None, and no frame has been looked at that matters, if they are not whole TCP or UDP
    datagrams or fewer than ``RUN``.
    """
    length = len(frames[0])
    width = max(ETH_MIN, length)
    rows = np.frombuffer(bytearray().join(frames), np.uint8).reshape(len(frames), length)
    if width > length or width & 1:
        narrow, rows = rows, np.zeros((len(frames), width + (width & 1)), np.uint8)
        rows[:, :length] = narrow
    # the copy, for the guest may change what it sends
    headers = parse(rows[0, : min(length, HEAD)].tobytes(), length)
    if headers is None or not headers.l4_offset or headers.frag:
        return None
    field = L4_CHECKSUM_AT.get(headers.ip_proto)
    at, start, end = headers.l3_offset, headers.l4_offset, headers.l3_end
    if field is None or (end & 1 and end < length):  # the sum would take a byte that is not its own
        return None
    tcp = headers.ip_proto == IPPROTO_TCP
    stop = start + (headers.tcp_header if tcp else _UDP_HEADER)
    differ = rows[1:, :stop] != rows[0, :stop]
    differ[:, start + field : start + field + 2] = False
    if headers.ip_version == 4:
        differ[:, at + 4 : at + 6] = differ[:, at + 10 : at + 12] = False
    if tcp:
        differ[:, start + 4 : start + 8] = False
    others = np.flatnonzero(differ.any(axis=1))
    if len(others):
        rows = rows[: others[0] + 1]
    if len(rows) < RUN:
        return None
    checked = 0
    if l3:
        insert_l3_many(rows, headers)
        checked = 1
    if l4:
        pseudo = pseudo_sum(headers, headers.ip_proto, end - start).to_bytes(2, "big")
        rows[:, start + field : start + field + 2] = np.frombuffer(pseudo, np.uint8)
        insert_l4_many(rows, headers, end + (end & 1))
        checked |= 2
    return Train(rows, width, width, CHECKED[checked])
