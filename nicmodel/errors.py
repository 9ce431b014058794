# SPDX-License-Identifier: GPL-2.0-or-later
"""Every error that the model raises on purpose.

An error holds data; its message is one sentence for a person. A guest's fault never leaves the
model as an exception: the command interface turns it into a status, a queue into its error state.
"""

from typing import Literal

from nicmodel.spec.status import CommandStatus

Access = Literal["read", "write"]


class ModelError(Exception):
    """Base of all errors of the model."""


class UserError(ModelError):
    """A mistake of the person at the keyboard; the message says what to do (exit status 1)."""


class ProtocolError(ModelError):
    """The vhost-user front-end broke the protocol; the session is closed."""


class GuestFault(ModelError):
    """The guest asked for something that it may not have."""


class DmaFault(GuestFault):
    """An access outside the memory that the guest gave, or while bus mastering is off.

    ``addr`` and ``length`` are in bytes of the guest's DMA space.
    """

    def __init__(self, addr: int, length: int, access: Access) -> None:
        super().__init__(f"DMA {access} of {length} bytes at {addr:#x} is outside guest memory")
        self.addr = addr
        self.length = length
        self.access = access


class QueueFault(GuestFault):
    """A descriptor or a queue state is unusable; ``syndrome`` is that of the error CQE."""

    def __init__(self, message: str, syndrome: int) -> None:
        super().__init__(message)
        self.syndrome = syndrome


class CommandError(GuestFault):
    """A command is refused with ``status`` (PRM, command return status) and a model syndrome.

    The sentence is for the trace; the guest sees status and syndrome only.
    """

    def __init__(self, status: CommandStatus, message: str, syndrome: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.syndrome = syndrome
