# SPDX-License-Identifier: GPL-2.0-or-later
"""The initialization segment: BAR 0 from offset 0 (``device.h`` mlx5_init_seg).

Reads never reach the model: it keeps these bytes in the pages that QEMU answers reads from.
"""

from collections.abc import Callable
from enum import IntEnum
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
_INITIALIZING, _FW_VER, _HW_ID = 0x1FC, 0x230, 0x234
_RFR_SEVERITY, _SYND = 0x238, 0x23D
_CMD_EXEC_TO, _CMD_Q_INIT_TO, _HEALTH_COUNTER = 0xFF8, 0xFFC, 0x1010

_STATE_AT = 8
"""Lowest bit of ``nic_interface`` in ``cmdq_addr_l_sz``."""
_NOT_READY = 1 << 31
"""``initializing``: the firmware has not started yet."""
_FW_RESET_SUPPORTED = 1 << 30
"""``initializing``: the driver may ask for a restart (``health.c`` reset_fw_if_needed)."""
_RFR = 0x80
"""``rfr_severity``: the firmware requests a restart."""
_SEVERITY_VALID = 0x08
"""``rfr_severity``: bits 2..0 are a log level."""

QUEUE_TIMEOUT_MS = 2000
COMMAND_TIMEOUT_MS = 60_000
"""How long the driver shall wait for the command queue and for a command (``lib/tout.c``)."""

COMMAND_TIMEOUT_MS_MAX = 0xFFFFF
"""``to_value`` has 20 bits."""

_U32 = Struct(">I")


class NicInterface(IntEnum):
    """``nic_interface`` (``driver.h`` MLX5_NIC_IFC_*)."""

    FULL = 0
    """A driver has set a command queue."""
    DISABLED = 1
    """No driver is served. One that believes it is takes the device for dead (``health.c``)."""
    SW_RESET = 7
    """Written by the driver: the firmware shall restart."""


class HealthSyndrome(IntEnum):
    """``synd`` of the health buffer (``health.c`` MLX5_HEALTH_SYNDR_*)."""

    NONE = 0x0
    FW_ERR = 0x1
    IRISC_ERR = 0x7
    HW_UNRECOVERABLE_ERR = 0x8
    CRC_ERR = 0x9
    FETCH_PCI_ERR = 0xA
    HW_FTL_ERR = 0xB
    ASYNC_EQ_OVERRUN_ERR = 0xC
    EQ_ERR = 0xD
    EQ_INV = 0xE
    FFSER_ERR = 0xF
    HIGH_TEMP = 0x10


class InitSegment:
    """Keeps the segment's bytes in ``bar`` and decodes the writes to it.

    ``firmware``: (major, minor, sub-minor) as ``ethtool -i`` shows it. ``set_queue`` is told the
    address of the command queue, ``doorbell`` the bit mask of slots to execute, ``restart`` that
    the driver wants the firmware to start anew. ``command_timeout_ms``: how long the driver shall
    wait for a command.
    """

    def __init__(
        self,
        bar: memoryview,
        firmware: tuple[int, int, int],
        set_queue: Callable[[GuestAddr], None],
        doorbell: Callable[[int], None],
        restart: Callable[[], None],
        command_timeout_ms: int = COMMAND_TIMEOUT_MS,
    ) -> None:
        self.state = NicInterface.DISABLED
        self._bar = bar
        self._set_queue = set_queue
        self._doorbell = doorbell
        self._restart = restart
        self._address_h = self._address_l = 0
        self._beats = 0
        bar[:SIZE] = bytes(SIZE)
        major, minor, sub = firmware
        self._put(_FW_REV, minor << 16 | major)
        self._put(_CMDIF_REV, CMDIF_REV << 16 | sub)
        self._put(_INITIALIZING, _FW_RESET_SUPPORTED)
        self._put(_FW_VER, major << 24 | minor << 16 | sub)
        self._put(_HW_ID, 0x212)
        self._put(_CMD_EXEC_TO, command_timeout_ms)
        self._put(_CMD_Q_INIT_TO, QUEUE_TIMEOUT_MS)
        self.set_state(NicInterface.DISABLED)
        self.beat()

    def beat(self) -> None:
        """Raise the health counter: the driver takes a counter that stands still for a dead NIC."""
        self._beats = self._beats % 0x7FFFFFFF + 1
        self._put(_HEALTH_COUNTER, self._beats)

    def set_state(self, state: NicInterface) -> None:
        """Show ``state``, beside the address and the size of the command queue."""
        self.state = state
        size = LOG_CMDQ_SIZE << 4 | LOG_CMDQ_STRIDE
        self._put(_CMDQ_L, self._address_l | state << _STATE_AT | size)

    def set_health(self, syndrome: HealthSyndrome, severity: int, *, restart: bool) -> None:
        """Show ``syndrome`` with a log level; ``restart``: nothing but that will help."""
        self._bar[_RFR_SEVERITY] = (_RFR if restart else 0) | _SEVERITY_VALID | severity & 7
        self._bar[_SYND] = syndrome

    def stop(self) -> None:
        """The firmware goes down: no driver is served until ``start`` and a new queue."""
        self._put(_INITIALIZING, _NOT_READY | _FW_RESET_SUPPORTED)
        self._address_h = self._address_l = 0
        self.set_state(NicInterface.DISABLED)

    def start(self) -> None:
        """The firmware is up, in good health."""
        self._bar[_RFR_SEVERITY] = 0
        self._bar[_SYND] = HealthSyndrome.NONE
        self._put(_INITIALIZING, _FW_RESET_SUPPORTED)

    def write(self, offset: int, data: bytes) -> bool:
        """Take a write below ``SIZE``; false if it means nothing."""
        if len(data) != 4:
            return False
        (value,) = _U32.unpack(data)
        if offset == _CMDQ_H:
            self._address_h = value
        elif offset == _CMDQ_L and value & 0xFFF == 0:
            self._address_l = value
            self.set_state(NicInterface.FULL)
            self._set_queue(GuestAddr(self._address_h << 32 | value))
        elif offset == _CMDQ_L and value & 0xFFF == NicInterface.SW_RESET << _STATE_AT:
            self._restart()
        elif offset == _CMD_DBELL:
            self._doorbell(value)
        else:
            return False
        return True

    def _put(self, offset: int, value: int) -> None:
        _U32.pack_into(self._bar, offset, value)
