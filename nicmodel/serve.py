# SPDX-License-Identifier: GPL-2.0-or-later
"""Serve NICs: build what a topology describes, run until a signal, say what came of it."""

import asyncio
import os
import signal
import sys
import time
import traceback
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from nicmodel.clock import FineScheduler
from nicmodel.control.server import ControlServer, Verb
from nicmodel.device import Nic
from nicmodel.entry import Entry
from nicmodel.errors import UserError
from nicmodel.faults.requests import FaultRequests
from nicmodel.hunt.recorder import HOLD_US, MAX_HOLD_US
from nicmodel.sanitizer.findings import Finding, Policy
from nicmodel.topology import CaptureSpec, Topology
from nicmodel.trace.events import RunBegan
from nicmodel.trace.limit import Limited
from nicmodel.trace.tracer import JsonlSink, Record, Severity, Sink, TextSink, Tracer
from nicmodel.transport.server import Server
from nicmodel.wire.cables import Cables
from nicmodel.wire.capture import Capture
from nicmodel.wire.fabric import Fabric
from nicmodel.wire.impair import ImpairedLink
from nicmodel.wire.keyfile import KeyFile
from nicmodel.wire.port import Port
from nicmodel.wire.switch import Switch
from nicmodel.wire.tap import HostTap, open_tap

FLUSH_SECONDS = 1.0
"""How long a captured frame may be missing from its file."""

FROZEN, THAWED = "frozen: ", "thawed"
"""How lines on stdout begin that say what the sanitizer's policy ``freeze`` does."""

HOW_TO_DEBUG = (
    "the NICs stand still until 'nicmodel thaw'; in the monitor of a guest's QEMU write 'stop' and "
    "'gdbserver tcp:127.0.0.1:1234', then: gdb vmlinux -ex 'target remote 127.0.0.1:1234'"
)
KEYS_WARNING = "warning: {} gets the TLS keys of all connections; who has it can read them"

REPORTED_FAULTS = 100
"""Different faults that are kept for the report; a guest can make up any number."""


class Faults:
    """What fails a run: errors of the model always, what is not implemented if ``strict``.

    Also what the sanitizer finds, if its policy says so.
    """

    def __init__(self, strict: bool) -> None:
        self._strict = strict
        self._unimplemented: Counter[str] = Counter()
        self._errors = 0
        self._findings = 0

    def write(self, record: Record) -> None:
        """See ``Sink.write``."""
        event = record.event
        if isinstance(event, Finding) and event.policy in (Policy.FAIL, Policy.FREEZE):
            self._findings += 1
        elif event.severity is Severity.UNIMPLEMENTED:
            sentence = f"{record.nic}: {event.sentence()}"
            if sentence in self._unimplemented or len(self._unimplemented) < REPORTED_FAULTS:
                self._unimplemented[sentence] += 1

    def model_error(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handle an exception that nothing in the model expected (an event loop's handler)."""
        self._errors += 1
        error = context.get("exception")
        print(f"error of the model: {context['message']}", file=sys.stderr)
        if error is not None:
            traceback.print_exception(error)

    def report(self) -> int:
        """Print what failed the run on stderr; return the exit status."""
        if self._strict:
            for sentence, times in self._unimplemented.items():
                print(f"strict: {sentence} ({times} times)", file=sys.stderr)
        if self._findings:
            print(f"findings that fail the run: {self._findings}", file=sys.stderr)
        if self._errors:
            print(f"errors of the model: {self._errors}; please report them", file=sys.stderr)
        failed = self._errors or self._findings or (self._strict and self._unimplemented)
        return 1 if failed else 0


class Steadfast:
    """A sink that loses its file or pipe without harm to the model, and says so once."""

    def __init__(self, sink: Sink, name: str) -> None:
        self._sink: Sink | None = sink
        self._name = name

    def write(self, record: Record) -> None:
        """See ``Sink.write``."""
        if self._sink is not None:
            try:
                self._sink.write(record)
            except OSError as error:
                self._sink = None
                with suppress(OSError):
                    print(f"{self._name} is lost: {error.strerror}", file=sys.stderr)


class Network:
    """All parts of one run. Whatever happens, ``stack`` takes them apart again."""

    def __init__(
        self,
        topology: Topology,
        loop: asyncio.AbstractEventLoop,
        sinks: tuple[Sink, ...],
        stack: ExitStack,
    ) -> None:
        self._loop = loop
        self._seed = topology.run.seed
        self.frozen: str | None = None
        clock = time.monotonic_ns
        scheduler = FineScheduler(loop)
        stack.callback(scheduler.close)
        tracer = self._tracer = Tracer("wire", clock, sinks)
        tracer.emit(RunBegan(time.time_ns(), topology.run.seed))
        self.fabric = Fabric(tracer)
        self.switches = {name: Switch(name, clock) for name in topology.switches}
        self.nics = {
            spec.name: Nic(
                spec.name,
                spec.mac,
                loop,
                clock,
                Tracer(spec.name, clock, sinks),
                seed=topology.run.seed,
                profile=spec.profile,
                arbitration=spec.arbitration,
                command_timeout_ms=spec.command_timeout_ms,
                sanitizer=topology.sanitizer,
                frozen=partial(self._freeze, spec.name),
            )
            for spec in topology.nics
        }
        for wish in topology.faults:
            self.nics[wish.nic].faults.add(wish.fault)
        self.taps: dict[str, HostTap] = {}
        for tap in topology.taps:
            fd = open_tap(tap.interface, tap.netns)
            self.taps[tap.name] = HostTap(tap.name, fd, loop, tracer)
            stack.callback(self.taps[tap.name].close)
        self.cables = Cables()
        self.captures: dict[Path, Capture] = {}
        self._key_files: dict[Path, KeyFile] = {}
        for wanted in topology.captures:
            if wanted.file not in self.captures:
                capture = Capture(wanted.file, time.time_ns, tracer)
                self.captures[wanted.file] = capture
                stack.callback(capture.close)
            self._capture(wanted, stack)
        for near, far in topology.cables():
            switch = self.switches.get(far)
            other = switch.add_port(near) if switch else self._port(far)
            link = ImpairedLink(
                self.fabric,
                self._port(near),
                other,
                name=near,
                seed=topology.run.seed,
                scheduler=scheduler,
                clock=clock,
                tracer=tracer,
            )
            self.cables.add(link, near, far if switch is None else None)
        for wanted_rule in topology.links:
            self.cables.rule(wanted_rule.nic, [wanted_rule.rule], add=True)
        for spec in topology.nics:
            nic = self.nics[spec.name]
            stack.callback(Server(loop, spec.socket, nic, nic.tracer).close)
        self._flush()

    def _capture(self, wanted: CaptureSpec, stack: ExitStack) -> None:
        """Begin the capture of one port."""
        capture, port = self.captures[wanted.file], self._port(wanted.port)
        nic = self.nics.get(wanted.port)
        if nic is None:
            capture.attach(port)
            return
        exposure = nic.exposure
        exposure.origins = True
        if wanted.clear:
            exposure.handed += (capture.attach_both(port).handed,)
        else:
            capture.attach(port)
        if wanted.keys is not None:
            if wanted.keys not in self._key_files:
                file = KeyFile(wanted.keys, time.time_ns, self._tracer)
                self._key_files[wanted.keys] = file
                stack.callback(file.close)
                print(KEYS_WARNING.format(wanted.keys), file=sys.stderr)
            exposure.keys += (self._key_files[wanted.keys].add,)

    def _port(self, name: str) -> Port:
        return self.nics[name].port if name in self.nics else self.taps[name].port

    def _flush(self) -> None:
        for capture in self.captures.values():
            capture.push()
        if self.captures:
            self._loop.call_later(FLUSH_SECONDS, self._flush)

    def _freeze(self, name: str, finding: Finding) -> None:
        """A finding is to be looked at with a debugger: nothing moves from here on."""
        for nic in self.nics.values():
            nic.freeze()
        self.frozen = f"{name}: {finding.sentence()}"
        _say(f"{FROZEN}{self.frozen}")
        _say(HOW_TO_DEBUG)

    def _thaw(self, request: Entry) -> dict[str, Any]:
        """``{"do": "thaw"}``."""
        request.check_keys(())
        self.frozen = None
        for nic in self.nics.values():
            nic.thaw()
        _say(THAWED)
        return {}

    def verbs(self) -> dict[str, Verb]:
        """What the control socket can be asked for."""
        faults = FaultRequests({name: nic.faults for name, nic in self.nics.items()})
        return {
            "status": self._status,
            "link": self.cables.control,
            "fault": faults.add,
            "faults": faults.list,
            "remove-fault": faults.remove,
            "thaw": self._thaw,
            "record": self._record,
        }

    def _record(self, request: Entry) -> dict[str, Any]:
        """``{"do": "record", "nic": NAME, "file": PATH, "hold_us": TIME}``; no file: stop."""
        request.check_keys(("nic", "file", "hold_us"))
        nic = self.nics[request.known("nic", self.nics)]
        if "file" in request.values:
            hold_us = request.whole("hold_us", HOLD_US)
            if not 0 < hold_us <= MAX_HOLD_US:
                raise request.fault("hold_us", f"write a number from 1 to {MAX_HOLD_US}")
            nic.record(request.path("file"), hold_us / 1e6)
            return {}
        if nic.recorder is None:
            raise UserError(f"NIC {nic.name} is not being recorded (any more); its event says why")
        nic.recorder.end()
        return {}

    def _status(self, request: Entry) -> dict[str, Any]:
        """``{"do": "status"}``."""
        request.check_keys(())
        ports = {name: asdict(self._port(name).counts) for name in (*self.nics, *self.taps)}
        watched = {name: nic.sanitizer.status() for name, nic in self.nics.items() if nic.sanitizer}
        return {
            "seed": self._seed,
            "ports": ports,
            "links": self.cables.status(),
            "sanitizer": watched,
            "frozen": self.frozen,
        }

    def summary(self) -> list[str]:
        """One line for each port and capture, and for what was lost on the way."""
        lines = []
        for name in (*self.nics, *self.taps):
            counts = self._port(name).counts
            lost = f", {counts.dropped} lost without carrier" if counts.dropped else ""
            lines.append(
                f"{name}: sent {counts.sent} frames ({counts.sent_octets} bytes), "
                f"received {counts.received} ({counts.received_octets}){lost}"
            )
        for name, tap in self.taps.items():
            if tap.refused:
                lines.append(f"{name}: the host did not take {tap.refused} frames")
        for name, nic in self.nics.items():
            if nic.sanitizer is not None and (line := nic.sanitizer.summary()):
                lines.append(f"{name}: {line}")
        lines += self.cables.summary()
        if self.fabric.looped:
            lines.append(f"{self.fabric.looped} frames dropped that looped")
        lines += [f"{path}: {capture.frames} frames" for path, capture in self.captures.items()]
        return lines


def serve(topology: Topology, *, verbose: bool = False) -> int:
    """Serve until SIGINT or SIGTERM; return the exit status.

    0: all went well. 1: something made the run fail, it stands on stderr. Stdout gets a line that
    begins with ``ready`` once every socket listens, and a summary at the end. Raises UserError when
    the network cannot be built; then nothing of it is left.
    """
    faults = Faults(topology.run.strict)
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        runner.run(_run(topology, faults, verbose))
    return faults.report()


async def _run(topology: Topology, faults: Faults, verbose: bool) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(faults.model_error)
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    least = Severity.INFO if verbose else Severity.GUEST_FAULT
    sinks: list[Sink] = [faults]
    with ExitStack() as stack:
        log = Steadfast(TextSink(sys.stderr, least), "the log on stderr")
        sinks.append(_limited(log, stack))
        if topology.run.events is not None:
            sinks.append(_events(topology.run.events, stack))
        network = Network(topology, loop, tuple(sinks), stack)
        if topology.run.control is not None:
            server = await ControlServer.start(topology.run.control, network.verbs())
            stack.callback(server.close)
        sockets = ", ".join(f"nic {nic.name} {nic.socket}" for nic in topology.nics)
        _say(f"ready: {sockets}, seed {topology.run.seed}")
        await ended.wait()
    for line in network.summary():
        _say(line)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop  # noqa: PLC0415 -- the model works without it, more slowly
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def _events(path: Path, stack: ExitStack) -> Sink:
    try:
        stream = stack.enter_context(path.open("a"))
    except OSError as error:
        raise UserError(f"cannot write the file of events {path}: {error.strerror}") from error
    return _limited(Steadfast(JsonlSink(stream), f"the file of events {path}"), stack)


def _limited(sink: Sink, stack: ExitStack) -> Sink:
    limited = Limited(sink)
    stack.callback(limited.close)
    return limited


def _say(line: str) -> None:
    """Print to stdout; nobody need listen there."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        # what is left in the buffer must not fail again when the interpreter ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
