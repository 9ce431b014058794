# SPDX-License-Identifier: GPL-2.0-or-later
"""The initialization segment: BAR 0 from offset 0 (``device.h`` mlx5_init_seg).

Reads never reach the model: it keeps these bytes in the pages that QEMU answers reads from.
"""

from collections.abc import Callable
from struct import Struct

from nicmodel.spec.mailbox import LOG_CMDQ_SIZE, LOG_CMDQ_STRIDE
from nicmodel.units import GuestAddr

SIZE = 0x2010
"""Bytes that the driver maps."""

CMDIF_REV = 5
"""``cmdif_rev``: the only revision that the driver takes (``cmd.c`` CMD_IF_REV)."""

CLOCK_AT = 0x1000
"""``internal_timer_h``: a 64-bit counter that the plug-in computes at each read."""

_FW_REV, _CMDIF_REV, _CMDQ_H, _CMDQ_L, _CMD_DBELL = 0x000, 0x004, 0x010, 0x014, 0x018
_INITIALIZING, _HEALTH, _FW_VER, _HW_ID = 0x1FC, 0x200, 0x230, 0x234
_HEALTH_COUNTER = 0x1010

_U32 = Struct(">I")


class InitSegment:
    """Keeps the segment's bytes in ``bar`` and decodes the writes to it.

    ``firmware``: (major, minor, sub-minor) as ``ethtool -i`` shows it. ``set_queue`` is told the
    address of the command queue, ``doorbell`` the bit mask of slots to execute.
    """

    def __init__(
        self,
        bar: memoryview,
        firmware: tuple[int, int, int],
        set_queue: Callable[[GuestAddr], None],
        doorbell: Callable[[int], None],
    ) -> None:
        self._bar = bar
        self._set_queue = set_queue
        self._doorbell = doorbell
        self._address_h = 0
        self._beats = 0
        bar[:SIZE] = bytes(SIZE)
        major, minor, sub = firmware
        self._put(_FW_REV, minor << 16 | major)
        self._put(_CMDIF_REV, CMDIF_REV << 16 | sub)
        self._put(_CMDQ_L, LOG_CMDQ_SIZE << 4 | LOG_CMDQ_STRIDE)
        self._put(_FW_VER, major << 24 | minor << 16 | sub)
        self._put(_HW_ID, 0x212)
        self.beat()

    def beat(self) -> None:
        """Raise the health counter: the driver takes a counter that stands still for a dead NIC."""
        self._beats = self._beats % 0x7FFFFFFF + 1
        self._put(_HEALTH_COUNTER, self._beats)

    def write(self, offset: int, data: bytes) -> bool:
        """Take a write below ``SIZE``; false if it means nothing."""
        if len(data) != 4:
            return False
        (value,) = _U32.unpack(data)
        if offset == _CMDQ_H:
            self._address_h = value
        elif offset == _CMDQ_L:
            if value & 0xFFF == 0:
                self._set_queue(GuestAddr(self._address_h << 32 | value))
        elif offset == _CMD_DBELL:
            self._doorbell(value)
        else:
            return False
        return True

    def _put(self, offset: int, value: int) -> None:
        _U32.pack_into(self._bar, offset, value)
