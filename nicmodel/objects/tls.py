# SPDX-License-Identifier: GPL-2.0-or-later
"""Encryption keys that the driver has stored in the device."""

from dataclasses import dataclass, field

from nicmodel.units import Dekn, Pdn


@dataclass(frozen=True, slots=True, eq=False)
class Dek:
    """A TLS key of 16 or 32 bytes, for contexts of its protection domain. It is never printed."""

    dekn: Dekn
    pd: Pdn
    key: bytes = field(repr=False)
