# SPDX-License-Identifier: GPL-2.0-or-later
"""Ask a running NIC process: ``Control("run.sock").link("a").down()``."""

import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nicmodel.control import runs
from nicmodel.errors import UserError

TIMEOUT = 10.0
"""Seconds that an answer may take; the process answers between two batches of work."""


class Control:
    """The control socket at ``path``; None is that of the only run there is.

    Every method raises UserError when nobody listens or the request is refused. A connection lasts
    for one request, so it does not matter if the process was started anew in between.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None = None, *, timeout: float = TIMEOUT
    ) -> None:
        self.path = runs.only() if path is None else Path(path)
        self._timeout = timeout

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Send one request and return the answer, without its ``ok``."""
        line = json.dumps({"do": do, **request}).encode() + b"\n"
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(self._timeout)
                sock.connect(os.fspath(self.path))
                sock.sendall(line)
                with sock.makefile("rb") as answers:
                    answer = answers.readline()
        except TimeoutError as error:
            raise UserError(f"the NIC process at {self.path} does not answer") from error
        except OSError as error:
            raise UserError(
                f"cannot ask the NIC process at {self.path} ({error.strerror or error}): "
                "start it with --control, or name the socket of another one"
            ) from error
        if not answer.endswith(b"\n"):
            raise UserError(f"the NIC process at {self.path} ended before it answered")
        reply: dict[str, Any] = json.loads(answer)
        if "error" in reply:
            raise UserError(reply["error"])
        del reply["ok"]
        return reply

    def status(self) -> dict[str, Any]:
        """What there is, and what it has done so far."""
        return self.ask("status")

    def link(self, nic: str) -> "Cable":
        """The cable of a NIC or tap."""
        return Cable(self, nic)

    def fault(self, nic: str, kind: str, **values: Any) -> int:
        """Break a NIC: ``fault("a", "cqe-error", queue="sq")``; the number of the fault."""
        number: int = self.ask("fault", nic=nic, kind=kind, **values)["number"]
        return number

    def record(self, nic: str, file: str | os.PathLike[str], *, hold_us: int = 5000) -> None:
        """Record what the send queues of a NIC are given, for ``nicmodel hunt``, until ``stop``.

        A doorbell waits ``hold_us`` microseconds for others.
        """
        self.ask("record", nic=nic, file=os.path.abspath(file), hold_us=hold_us)

    def stop_recording(self, nic: str) -> None:
        """End the recording; the file is complete."""
        self.ask("record", nic=nic)

    def remove_fault(self, nic: str, number: int) -> None:
        """Take a fault away."""
        self.ask("remove-fault", nic=nic, number=number)

    def faults(self) -> dict[str, list[dict[str, Any]]]:
        """The faults in place by NIC, with how often each has fired."""
        found: dict[str, list[dict[str, Any]]] = self.ask("faults")["faults"]
        return found


@dataclass(frozen=True)
class Cable:
    """The cable that NIC or tap ``nic`` is at one end of."""

    control: Control
    nic: str

    def down(self) -> None:
        """Pull it: both ends lose the carrier, and what is on its way is lost."""
        self._ask(state="down")

    def up(self) -> None:
        """Plug it in again."""
        self._ask(state="up")

    def impair(self, *rules: dict[str, Any], **rule: Any) -> None:
        """Let it have these rules and no other: ``impair(loss=0.01, delay="5ms")``.

        The keys are those of ``[[link]]`` in a topology. Frames are counted from here on, and the
        same frames meet the same fate as after any other ``impair`` with these rules in this run.
        """
        self._ask(rules=[*rules, rule] if rule else [*rules])

    def add(self, **rule: Any) -> None:
        """Add a rule behind those that it has."""
        self._ask(rules=[rule], add=True)

    def clear(self) -> None:
        """Let it be an ideal cable again; what it has held back arrives at once."""
        self._ask(rules=[])

    def status(self) -> dict[str, Any]:
        """Carrier, rules, and frames by what became of them."""
        found: dict[str, Any] = self.control.status()["links"].get(self.nic, {})
        return found

    def _ask(self, **request: Any) -> dict[str, Any]:
        return self.control.ask("link", nic=self.nic, **request)
