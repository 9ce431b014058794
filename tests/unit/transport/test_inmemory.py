# SPDX-License-Identifier: GPL-2.0-or-later
"""The in-memory transport tells a device what the session would."""

import pytest

from nicmodel.errors import DmaFault
from nicmodel.memory import MemoryRegion
from nicmodel.transport import Identity, InMemoryFrontend
from nicmodel.transport.seam import MAX_BAR_SIZE
from tests.unit.transport import frontend as fe
from tests.unit.transport.frontend import FakeFrontend, RecordingDevice


def test_both_transports_say_the_same() -> None:
    in_memory = RecordingDevice()
    front = InMemoryFrontend(in_memory, [MemoryRegion(0, 16 * fe.PAGE)])
    front.write(8, b"doorbell")
    front.bus_master(False)
    front.bus_master(True)
    front.reset()
    front.detach()

    real = FakeFrontend()
    real.attach()
    real.write(8, b"doorbell")
    real.bus_master(False)
    real.bus_master(True)
    real.do(fe.RESET_DEVICE)
    real.close()
    assert in_memory.told() == [("attach",), ("bus_master", True), *real.device.told()]


def test_the_guest_side() -> None:
    device = RecordingDevice()
    front = InMemoryFrontend(device, [MemoryRegion(0x10000, 16 * fe.PAGE)])
    assert device.host is front.host
    front.host.bar[4:8] = b"\0\0\0\1"
    assert front.read(4, 4) == b"\0\0\0\1"
    front.memory.write(0x10000, b"ram")
    assert front.host.memory.read(0x10000, 3) == b"ram"
    for vector in (0, 3, 3, 4, -1):
        front.host.interrupt(vector)
    assert front.host.interrupts == [1, 0, 0, 2]
    front.detach()
    with pytest.raises(DmaFault):
        front.host.memory.read(0x10000, 1)


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, 0), (0, 9), (fe.BAR_SIZE - 3, 4)])
def test_a_guest_cannot_write_that(offset: int, length: int) -> None:
    front = InMemoryFrontend(RecordingDevice(), [])
    with pytest.raises(ValueError, match="a guest cannot"):
        front.post(offset, bytes(length))


@pytest.mark.parametrize(
    "change",
    [
        {"bar_size": 2048},
        {"bar_size": 3 * 4096},
        {"bar_size": 2 * MAX_BAR_SIZE},
        {"vectors": 0},
        {"vectors": 257},
        {"clock_khz": 1, "clock_offset": 4},
        {"clock_khz": 1, "clock_offset": 65536},
        {"vendor_cap_size": 6},
        {"vendor_cap_size": 68},
    ],
)
def test_impossible_identities(change: dict[str, int]) -> None:
    fields = {
        "vendor_id": 1,
        "device_id": 2,
        "subsystem_vendor_id": 3,
        "subsystem_id": 4,
        "revision": 0,
        "class_code": 0x020000,
        "bar_size": 65536,
        "vectors": 1,
    }
    Identity(**fields)
    with pytest.raises(ValueError, match=r"BAR|vectors|capability"):
        Identity(**{**fields, **change})
