# SPDX-License-Identifier: GPL-2.0-or-later
"""The MTU that the driver sets is the longest frame that the port takes."""

import struct

import pytest

from nicmodel.spec.port_counters import PpcntReg
from nicmodel.spec.registers import PmtuReg, RegisterId
from tests.unit.device.machine import SEND, Pair
from tests.unit.device.packets import ethernet
from tests.unit.queues.rig import eth_segment

A, B = b"\2\0\0\0\0\1", b"\2\0\0\0\0\2"
FRAME = ethernet(B, A, 0x88B5, bytes(1200))
FCS = 4


@pytest.mark.parametrize(("spare", "received"), [(0, 1), (-1, 0)])
def test_a_frame_longer_than_the_mtu_is_lost(spare: int, received: int) -> None:
    pair = Pair()
    mtu = PmtuReg(local_port=1, admin_mtu=len(FRAME) + FCS + spare)
    pair.b.access(RegisterId.PMTU, mtu.encode(), write=True)
    for channel in range(len(pair.b.channels)):
        pair.b.buffers(pair.b.rq(channel), 4)
    pair.a.send(SEND, eth_segment(inline=FRAME[:18]) + pair.a.segment(FRAME[18:]))
    got = [pair.b.poll(pair.b.got_cq(n)) for n in range(len(pair.b.channels))]
    assert sum(map(len, got)) == received
    counters = pair.b.access(RegisterId.PPCNT, PpcntReg(local_port=1).encode(), write=False)
    assert struct.unpack_from(">Q", counters, 8 + 0x60)[0] == 1 - received
