# SPDX-License-Identifier: GPL-2.0-or-later
"""ACCESS_REG (``port.c`` mlx5_core_access_reg)."""

from typing import Any

from nicmodel.command.declaration import command
from nicmodel.command.firmware import Firmware, HcaState
from nicmodel.command.registers import counters, management, module, port
from nicmodel.command.registers.declaration import Register, bad_param
from nicmodel.spec.commands import AccessRegisterIn, AccessRegisterOut
from nicmodel.spec.opcodes import CommandOpcode
from nicmodel.trace.events import UnknownRegister

WRITE = 0
"""``op_mod`` of a write."""

READ = 1
"""``op_mod`` of a read."""

REGISTERS: dict[int, Register[Any]] = {
    register.number: register
    for family in (port, counters, module, management)
    for register in family.REGISTERS
}


@command(
    CommandOpcode.ACCESS_REG,
    request=AccessRegisterIn,
    reply=AccessRegisterOut,
    requires=HcaState.ENABLED,
)
def access_register(firmware: Firmware, request: AccessRegisterIn) -> AccessRegisterOut:
    """Read or write a register of port or management."""
    write = request.op_mod == WRITE
    if request.op_mod not in (READ, WRITE):
        raise bad_param(f"ACCESS_REG has no op_mod {request.op_mod}")
    register = REGISTERS.get(request.register_id)
    if register is None:
        firmware.tracer.emit(UnknownRegister(request.register_id, write))
        raise bad_param(f"there is no register {request.register_id:#x}")
    return AccessRegisterOut(
        register_data=register.access(firmware, request.register_data, write=write)
    )
