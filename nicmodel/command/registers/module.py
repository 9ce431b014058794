# SPDX-License-Identifier: GPL-2.0-or-later
"""The cable's module: a passive QSFP28 direct-attach cable (``port.c`` mlx5_query_module_eeprom).

Its memory is laid out as SFF-8636 rev 2.10 says; vendor, part and serial number are the model's own
and say so.
"""

from nicmodel.command.firmware import Firmware
from nicmodel.command.registers.declaration import LOCAL_PORT, Register, bad_param
from nicmodel.spec.registers import Lane2ModuleMapping, MciaReg, PmlpReg, RegisterId

LANES = 4
"""Lanes of the port."""

I2C_LOW = 0x50
"""The only address of the module on its bus (``port.h`` MLX5_I2C_ADDR_LOW)."""

PAGE = 128
"""Bytes of each half of the memory that is seen at one time: the lower one, and a page above it."""

BAD_ADDRESS = 1
"""``status`` of MCIA: nothing is there; *assumption*, the driver looks for 0 only."""

QSFP28 = 0x11
"""Identifier (SFF-8024 table 4-1)."""


def _check(data: bytes) -> int:
    """CC_BASE and CC_EXT: low 8 bits of the sum."""
    return sum(data) & 0xFF


def _lower() -> bytes:
    page = bytearray(PAGE)
    page[0] = QSFP28
    page[1] = 0x07  # SFF-8636 rev 2.5 to 2.7
    page[2] = 0b100  # flat memory: no pages but 0
    return bytes(page)


def _upper(serial: str) -> bytes:
    """Page 0; offsets in the comments count from the start of the lower half."""

    def text(value: str, length: int) -> bytes:
        return value.encode("ascii", "replace")[:length].ljust(length)

    base = bytes([QSFP28, 0x00, 0x23])  # 128: identifier, power class 1, no separable connector
    base += bytes([0x80, 0, 0, 0, 0, 0, 0, 0])  # 131: see the extended compliance code
    base += bytes([0x05, 0xFF, 0, 0, 0, 0, 0, 1])  # 139: 64B/66B, over 25.4 Gbit/s a lane, 1 m
    base += bytes([0xA0])  # 147: copper, not equalized
    base += text("nicmodel", 16) + bytes([0]) + bytes(3)  # 148: vendor, 164, 165: no OUI
    base += text("MODEL-OF-A-DAC", 16) + text("01", 2)  # 168: part number and revision
    base += bytes([3, 5, 7, 10])  # 186: attenuation at 2.5, 5, 7, 12.9 GHz, dB
    base += bytes([0])  # 190: case temperature: 70 degrees
    extended = bytes([0x0B, 0, 0, 0])  # 192: 100GBASE-CR4, 25GBASE-CR CA-L; no options
    extended += text(serial, 16) + text("260101", 8)  # 196: serial number, 212: date code
    extended += bytes([0, 0, 0x67])  # 220: no diagnostics; 222: 103 * 250 MBd
    page = base + bytes([_check(base)]) + extended + bytes([_check(extended)])
    return page.ljust(PAGE, b"\0")


def memory(serial: str) -> bytes:
    """Both halves, 256 bytes, of a module with a serial number."""
    return _lower() + _upper(serial)


def _pmlp(_firmware: Firmware, _request: PmlpReg) -> PmlpReg:
    lanes = [
        int.from_bytes(Lane2ModuleMapping(rx_lane=lane, tx_lane=lane).encode(), "big")
        for lane in range(LANES)
    ]
    return PmlpReg(
        local_port=LOCAL_PORT,
        width=LANES,
        lane0_module_mapping=lanes[0],
        lane1_module_mapping=lanes[1],
        lane2_module_mapping=lanes[2],
        lane3_module_mapping=lanes[3],
    )


def _mcia(firmware: Firmware, request: MciaReg) -> MciaReg:
    if request.module:
        raise bad_param(f"there is no module {request.module}")
    room = len(request.dwords)
    if request.size > room:
        raise bad_param(f"{request.size} bytes of a module do not fit the register")
    # flat memory has page 0 whatever page is asked for (SFF-8636: page select has no effect)
    everything = memory(firmware.mac.hex())
    found = everything[request.device_address :][: request.size]
    there = request.i2c_device_address == I2C_LOW and len(found) == request.size
    return MciaReg(
        status=0 if there else BAD_ADDRESS,
        i2c_device_address=request.i2c_device_address,
        page_number=request.page_number,
        device_address=request.device_address,
        size=request.size,
        dwords=(found if there else b"").ljust(room, b"\0"),
    )


REGISTERS = (
    Register(RegisterId.PMLP, PmlpReg, _pmlp),
    Register(RegisterId.MCIA, MciaReg, _mcia),
)
