# SPDX-License-Identifier: GPL-2.0-or-later
"""Guest memory as windows onto shared file descriptors."""

from nicmodel.memory.guest import MAX_REGIONS, GuestMemory, MemoryRegion

__all__ = ["MAX_REGIONS", "GuestMemory", "MemoryRegion"]
