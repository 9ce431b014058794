# SPDX-License-Identifier: GPL-2.0-or-later
"""The port's speed and link follow the line."""

from nicmodel.spec.registers import PtysReg, RegisterId
from tests.unit.device.machine import Pair


def test_the_port_takes_the_speed_of_the_line() -> None:
    a = Pair().a

    def speed() -> int:
        request = PtysReg(local_port=1, proto_mask=4).encode()
        reply = a.access(RegisterId.PTYS, request, write=False)
        return PtysReg.decode(reply).data_rate_oper * 100

    assert speed() == 100_000
    a.nic.port.pace(10_000)
    assert speed() == 10_000
    a.nic.port.carrier(False)
    assert speed() == 0
    a.nic.port.pace(None)
    assert speed() == 0
    a.nic.port.carrier(True)
    assert speed() == 100_000
