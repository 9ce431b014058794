# SPDX-License-Identifier: GPL-2.0-or-later
"""How a command is declared: opcode, request, reply, handler and one sentence, in one place."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from nicmodel.command.firmware import Firmware, HcaState
from nicmodel.errors import CommandError
from nicmodel.spec.layout import Layout
from nicmodel.spec.opcodes import CommandOpcode
from nicmodel.spec.status import CommandStatus

Q = TypeVar("Q", bound=Layout)
R = TypeVar("R", bound=Layout)


@dataclass(frozen=True, slots=True)
class Command(Generic[Q, R]):
    """A command. ``requires``: the least state of the function in which it is legal."""

    opcode: CommandOpcode
    request: type[Q]
    reply: type[R]
    requires: HcaState
    sentence: str
    handler: Callable[[Firmware, Q], R]

    def run(self, firmware: Firmware, data: bytes) -> bytes:
        """Execute the request ``data``; the reply's bytes, its status 0.

        Raises CommandError, or LayoutError for a field that holds no member of its enumeration.
        """
        if firmware.state < self.requires:
            raise CommandError(
                CommandStatus.BAD_SYS_STATE,
                f"{self.opcode.name} needs a function that is {self.requires.name}",
            )
        if len(data) < self.request.SIZE:
            raise CommandError(
                CommandStatus.BAD_INP_LEN,
                f"{self.opcode.name} needs {self.request.SIZE} bytes of input, not {len(data)}",
            )
        return self.handler(firmware, self.request.decode(data)).encode()


def command(
    opcode: CommandOpcode,
    *,
    request: type[Q],
    reply: type[R],
    requires: HcaState = HcaState.READY,
) -> Callable[[Callable[[Firmware, Q], R]], Command[Q, R]]:
    """Declare the decorated handler as the command ``opcode``; its docstring is the sentence."""

    def declare(handler: Callable[[Firmware, Q], R]) -> Command[Q, R]:
        sentence = (handler.__doc__ or "").strip()
        if not sentence:
            raise TypeError(f"the handler of {opcode.name} has no docstring")
        return Command(opcode, request, reply, requires, sentence, handler)

    return declare
