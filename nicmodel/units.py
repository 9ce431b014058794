# SPDX-License-Identifier: GPL-2.0-or-later
"""Types for the numbers that must not be mixed up: addresses and object numbers.

Each object number is the one that the driver sees; its width is the PRM's.
"""

from typing import NewType

GuestAddr = NewType("GuestAddr", int)
"""Address in the guest's DMA space, bytes, 64 bit."""

Uar = NewType("Uar", int)
"""UAR page index, 24 bit; the page lies at BAR 0 offset ``index * 4096``."""

Eqn = NewType("Eqn", int)
"""Event queue number, 8 bit."""

Cqn = NewType("Cqn", int)
"""Completion queue number, 24 bit."""

Sqn = NewType("Sqn", int)
"""Send queue number, 24 bit."""

Rqn = NewType("Rqn", int)
"""Receive queue number, 24 bit."""

Rqtn = NewType("Rqtn", int)
"""Receive queue table number (RSS indirection), 24 bit."""

Tirn = NewType("Tirn", int)
"""Transport interface receive number, 24 bit."""

Tisn = NewType("Tisn", int)
"""Transport interface send number, 24 bit."""

Dekn = NewType("Dekn", int)
"""Data encryption key number, 24 bit."""

Pdn = NewType("Pdn", int)
"""Protection domain number, 24 bit."""

Tdn = NewType("Tdn", int)
"""Transport domain number, 24 bit."""

Mkey = NewType("Mkey", int)
"""Memory key as WQEs carry it: ``mkey_index << 8 | mkey_7_0``, 32 bit."""

TableId = NewType("TableId", int)
"""Flow table number, 24 bit."""

GroupId = NewType("GroupId", int)
"""Flow group number, 24 bit; unique within the device."""

CounterSet = NewType("CounterSet", int)
"""Queue counter set id, 8 bit."""

Nanoseconds = NewType("Nanoseconds", int)
"""Time of the injected clock, ns."""

PAGE_SIZE = 4096
"""Size of a device page, of a UAR page and of the pages in queue page lists, bytes."""
