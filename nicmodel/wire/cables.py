# SPDX-License-Identifier: GPL-2.0-or-later
"""The cables of a network by the name of what is plugged in, and the requests that act on them."""

from typing import Any

from nicmodel.entry import Entry
from nicmodel.wire.link import Link


class Cables:
    """Each NIC and tap is at one end of a cable."""

    def __init__(self) -> None:
        self._links: dict[str, Link] = {}

    def add(self, near: str, link: Link) -> None:
        """Add a cable under the name of one of its ends."""
        self._links[near] = link

    def control(self, request: Entry) -> dict[str, Any]:
        """``{"do": "link", "nic": NAME, "state": "down" | "up"}`` of a control socket."""
        request.check_keys(("nic", "state"))
        link = self._links[request.known("nic", self._links)]
        link.plug(request.known("state", ("down", "up")) == "up")
        return {}

    def status(self) -> dict[str, Any]:
        """By the name of what is plugged in: is there a carrier?"""
        return {name: {"up": link.up} for name, link in self._links.items()}
