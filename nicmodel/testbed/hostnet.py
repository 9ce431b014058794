# SPDX-License-Identifier: GPL-2.0-or-later
"""A piece of network on the host: a namespace with a tap device, for host tools to talk to guests.

The tap is persistent: the model opens its end by the names of tap and namespace.
"""

import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pyroute2 import IPRoute, netns

from nicmodel.errors import UserError

_IFA_F_NODAD = 0x02  # linux/if_addr.h


@dataclass(frozen=True)
class HostNetwork:
    """A network namespace with one tap device, up and with addresses (``"192.0.2.1/24"``)."""

    namespace: str
    tap: str = "nicmodel0"
    addresses: tuple[str, ...] = ("10.77.0.254/24", "fd00:77::fe/64")
    mtu: int = 1500

    def create(self) -> None:
        """Make the namespace, the tap and its addresses."""
        done = self._ip("add")
        if done.returncode:
            reason = done.stderr.strip()
            raise UserError(f"cannot make a network namespace ({reason}): run as root.")
        with _inside(self.namespace), IPRoute() as stack:
            stack.link("set", index=stack.link_lookup(ifname="lo")[0], state="up")
            stack.link("add", ifname=self.tap, kind="tuntap", mode="tap")
            index = stack.link_lookup(ifname=self.tap)[0]
            stack.link("set", index=index, mtu=self.mtu, state="up")
            for address in self.addresses:
                host, _, length = address.partition("/")
                # nobody else owns these addresses: no waiting for duplicate address detection
                flags = {"flags": _IFA_F_NODAD} if ":" in host else {}
                stack.addr("add", index=index, address=host, prefixlen=int(length), **flags)

    def remove(self) -> None:
        """Remove the namespace and all in it."""
        self._ip("delete")

    def _ip(self, verb: str) -> "subprocess.CompletedProcess[str]":
        # pyroute2 would fork this process, which has libvirt's threads
        return subprocess.run(
            ["ip", "netns", verb, self.namespace], capture_output=True, text=True, check=False
        )

    def start(self, command: Sequence[str]) -> "subprocess.Popen[str]":
        """Start a host tool in the namespace."""
        return subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def packet_socket(self) -> socket.socket:
        """Return a socket that sends frames by the tap; whoever asks for it closes it."""
        with _inside(self.namespace):
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            made.bind((self.tap, 0))
        return made

    def run(
        self, command: Sequence[str], *, timeout: float = 30.0
    ) -> "subprocess.CompletedProcess[str]":
        """Run a host tool in the namespace and wait for it."""
        return subprocess.run(
            ["ip", "netns", "exec", self.namespace, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


@contextmanager
def _inside(namespace: str) -> Iterator[None]:
    """Let this thread make its sockets in ``namespace``."""
    netns.pushns(namespace)
    try:
        yield
    finally:
        netns.popns()
