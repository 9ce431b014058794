# SPDX-License-Identifier: GPL-2.0-or-later
"""How QEMU reaches a device: the vhost-user back-end of ``qemu-plugin/README.md``."""

from nicmodel.transport.inmemory import InMemoryFrontend
from nicmodel.transport.seam import Device, Host, Identity
from nicmodel.transport.server import Server

__all__ = ["Device", "Host", "Identity", "InMemoryFrontend", "Server"]
