# SPDX-License-Identifier: GPL-2.0-or-later
"""What can go wrong around the model; every message is one sentence for a person."""

from nicmodel.errors import UserError


class Unavailable(UserError):
    """This machine lacks something that the run needs; exit status 4, the message says what."""


class GuestError(Exception):
    """A guest did not do what it was asked to."""


class GuestTimeout(GuestError):
    """A command, or the guest itself, did not answer within its deadline."""


class GuestDied(GuestError):
    """The guest's kernel panicked or its QEMU is gone."""


class CommandFailed(GuestError):
    """A command in a guest ended with a status other than zero."""
