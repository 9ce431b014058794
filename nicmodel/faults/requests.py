# SPDX-License-Identifier: GPL-2.0-or-later
"""The requests of a control socket that act on faults."""

from collections.abc import Mapping
from typing import Any

from nicmodel.entry import Entry
from nicmodel.faults.injector import Injector
from nicmodel.faults.words import describe, parse


class FaultRequests:
    """Faults of NICs by the NIC's name."""

    def __init__(self, nics: Mapping[str, Injector]) -> None:
        self._nics = nics

    def add(self, request: Entry) -> dict[str, Any]:
        """``{"do": "fault", "nic": NAME, "kind": KIND, ...}``; answers the fault's ``number``."""
        injector = self._nics[request.known("nic", self._nics)]
        return {"number": injector.add(parse(request, beside=("nic",)))}

    def remove(self, request: Entry) -> dict[str, Any]:
        """``{"do": "remove-fault", "nic": NAME, "number": NUMBER}``."""
        request.check_keys(("nic", "number"))
        self._nics[request.known("nic", self._nics)].remove(request.whole("number", 0))
        return {}

    def list(self, request: Entry) -> dict[str, Any]:
        """``{"do": "faults"}``; by NIC: each ``fault`` in place, and how often it has fired.

        Its ``number`` is the one that ``remove`` takes; a queue's is in ``fault``.
        """
        request.check_keys(())
        return {
            "faults": {
                name: [
                    {"number": armed.number, "fired": armed.fired, "fault": describe(armed.fault)}
                    for armed in injector
                ]
                for name, injector in self._nics.items()
            }
        }
