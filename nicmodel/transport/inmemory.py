# SPDX-License-Identifier: GPL-2.0-or-later
"""The seam without a socket: drives a device in the same process, for tests and benchmarks."""

from collections.abc import Sequence

from nicmodel.memory import GuestMemory, MemoryRegion
from nicmodel.transport.seam import Device


class InMemoryHost:
    """A guest's side of the seam; ``interrupts`` counts each vector. See ``seam.Host``."""

    def __init__(self, memory: GuestMemory, bar_size: int, vectors: int) -> None:
        self.memory = memory
        self.bar = memoryview(bytearray(bar_size))
        self.interrupts = [0] * vectors

    def interrupt(self, vector: int) -> None:
        """See ``seam.Host``."""
        if 0 <= vector < len(self.interrupts):
            self.interrupts[vector] += 1


class InMemoryFrontend:
    """Attaches to a device at once and speaks the verbs that the vhost-user session speaks.

    Bus mastering begins on, unlike after a PCI reset, since most tests want it so.
    """

    def __init__(self, device: Device, regions: Sequence[MemoryRegion]) -> None:
        identity = device.identity
        self.host = InMemoryHost(
            GuestMemory.anonymous(regions), identity.bar_size, identity.vectors
        )
        self._device = device
        self.host.memory.enabled = False
        device.attach(self.host)
        self.bus_master(True)

    @property
    def memory(self) -> GuestMemory:
        """Guest RAM, as the guest itself uses it."""
        return self.host.memory

    def read(self, offset: int, length: int) -> bytes:
        """Read BAR 0 as the guest does."""
        return bytes(self.host.bar[offset : offset + length])

    def write(self, offset: int, data: bytes) -> None:
        """Write BAR 0 and let the device finish."""
        self.post(offset, data)
        self._device.flush()

    def post(self, offset: int, data: bytes) -> None:
        """Write BAR 0 as one of a batch; ``flush`` ends it."""
        if not (1 <= len(data) <= 8 and 0 <= offset <= len(self.host.bar) - len(data)):
            raise ValueError(f"a guest cannot write {len(data)} bytes to BAR offset {offset:#x}")
        self._device.bar_write(offset, data)

    def flush(self) -> None:
        """End a batch."""
        self._device.flush()

    def bus_master(self, enabled: bool) -> None:
        """Set Bus Master Enable."""
        self.host.memory.enabled = enabled
        self._device.bus_master(enabled)
        self._device.flush()

    def reset(self) -> None:
        """PCI reset; bus mastering is off behind it."""
        self.host.memory.enabled = False
        self._device.reset()
        self._device.flush()

    def detach(self) -> None:
        """The front-end leaves."""
        self.host.memory.enabled = False
        self._device.detach()
        self.host.memory.clear()
