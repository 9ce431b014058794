# SPDX-License-Identifier: GPL-2.0-or-later
"""How a register is declared."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from nicmodel.command.firmware import Firmware
from nicmodel.errors import CommandError
from nicmodel.spec.layout import Layout
from nicmodel.spec.registers import RegisterId
from nicmodel.spec.status import CommandStatus

R = TypeVar("R", bound=Layout)

LOCAL_PORT = 1
"""The only port."""


def bad_param(reason: str) -> CommandError:
    """What a register says of a value that it does not take."""
    return CommandError(CommandStatus.BAD_PARAM, reason)


@dataclass(frozen=True, slots=True)
class Register(Generic[R]):
    """A register: ``read`` gets what the driver sent and returns what the register holds.

    ``write`` changes it before that; None: it can only be read.
    """

    number: RegisterId
    layout: type[R]
    read: Callable[[Firmware, R], Layout]
    write: Callable[[Firmware, R], None] | None = None

    def access(self, firmware: Firmware, data: bytes, *, write: bool) -> bytes:
        """Read or write it with ``data``, padded to its size. Raises CommandError."""
        request = self.layout.decode(data.ljust(self.layout.SIZE, b"\0"))
        if write:
            if self.write is None:
                raise bad_param(f"{self.number.name} can only be read")
            self.write(firmware, request)
        return self.read(firmware, request).encode()
