# SPDX-License-Identifier: GPL-2.0-or-later
"""The seam between a device and whatever connects it to a guest.

``Device`` is what a transport drives, ``Host`` what a device may use of it. The vhost-user session
is one implementation of the transport, ``inmemory`` the other.
"""

from dataclasses import dataclass
from typing import Protocol

from nicmodel.memory import GuestMemory

MIN_BAR_SIZE = 4096
"""A smaller BAR could not be mapped as pages of its own."""
MAX_BAR_SIZE = 64 << 20
"""Device space has 32-bit offsets, and no modelled part needs more."""
MAX_VENDOR_CAP = 64
"""Configuration space has 192 bytes for capabilities; the standard ones need room too."""
MAX_VECTORS = 256
"""SET_VRING_CALL names a vector with 8 bits."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a front-end must know to put the device on a PCI bus.

    ``class_code`` is 24 bit as in configuration space (base, sub, interface); ``bar_size`` is that
    of BAR 0, bytes; ``vectors`` counts MSI-X vectors. When ``clock_khz`` is not 0, BAR 0 has at
    ``clock_offset`` a free-running 64-bit big-endian counter of that frequency, derived from
    CLOCK_MONOTONIC; front-ends compute it, so a device need not keep it up to date.
    ``vendor_cap_size``, if not 0, is the length of a vendor-specific capability in bytes, header
    included; behind its header it is memory that the guest may read and write, zeros at first.
    """

    vendor_id: int
    device_id: int
    subsystem_vendor_id: int
    subsystem_id: int
    revision: int
    class_code: int
    bar_size: int
    vectors: int
    clock_offset: int = 0
    clock_khz: int = 0
    vendor_cap_size: int = 0

    def __post_init__(self) -> None:
        size = self.bar_size
        if not MIN_BAR_SIZE <= size <= MAX_BAR_SIZE or size & (size - 1):
            raise ValueError(f"BAR size {size:#x} is no power of two within 4 KiB to 64 MiB")
        if not 1 <= self.vectors <= MAX_VECTORS:
            raise ValueError(f"{self.vectors} MSI-X vectors, not 1 to {MAX_VECTORS}")
        if self.clock_khz and (self.clock_offset % 8 or self.clock_offset + 8 > size):
            raise ValueError(f"clock at {self.clock_offset:#x} is unaligned or outside BAR 0")
        if self.vendor_cap_size % 4 or not 0 <= self.vendor_cap_size <= MAX_VENDOR_CAP:
            raise ValueError(f"a vendor-specific capability of {self.vendor_cap_size} bytes")


class Host(Protocol):
    """What an attached front-end offers to the device."""

    @property
    def memory(self) -> GuestMemory:
        """Guest RAM; off limits (DmaFault) while bus mastering is off."""

    @property
    def bar(self) -> memoryview:
        """What the guest reads from BAR 0; zeros at attach, ``bar_size`` bytes, writable."""

    def interrupt(self, vector: int) -> None:
        """Raise MSI-X vector ``vector``; one that the front-end does not have is ignored."""


class Device(Protocol):
    """What the transport drives."""

    @property
    def identity(self) -> Identity:
        """The same for the whole life of the device."""

    def attach(self, host: Host) -> None:
        """A front-end is ready. The device starts fresh: reset, bus mastering off."""

    def detach(self) -> None:
        """The front-end is gone; the host of ``attach`` must not be used any more."""

    def bar_write(self, offset: int, data: bytes) -> None:
        """The guest wrote ``data`` (1 to 8 bytes) to BAR 0; calls come in the guest's order."""

    def flush(self) -> None:
        """A batch of messages has been delivered: do the work that was put off during it."""

    def bus_master(self, enabled: bool) -> None:
        """Bus Master Enable changed; when it is off, no DMA may happen after the return."""

    def reset(self) -> None:
        """PCI reset or FLR: forget everything. No DMA after the return; bus mastering is off."""
