# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs a scenario in guests of its own, under the sanitizer and the capture, and judges it."""

import json
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase
from typing import Any

from nicmodel.errors import UserError
from nicmodel.testbed import foreign, lan
from nicmodel.testbed.agent import Completed, GuestProcess
from nicmodel.testbed.errors import GuestDied, GuestError
from nicmodel.testbed.guest_trace import traced
from nicmodel.testbed.inputs import Inputs
from nicmodel.testbed.lab import Lab
from nicmodel.testbed.lan import Lan
from nicmodel.testbed.scenario import HOST, Scenario, Step
from nicmodel.testbed.vm import Vm

STOP_SECONDS = 10.0
BOOT_SECONDS = 180.0
"""What booting, loading and judging may take beside the scenario's own time."""


class ScenarioFailed(Exception):
    """What was to hold does not; the message has a line for each."""


@dataclass(frozen=True)
class _Running:
    """A program that was started and is to run until the end."""

    step: Step
    process: GuestProcess


def play(lab: Lab, scenario: Scenario, inputs: Inputs) -> None:
    """Boot the scenario's guests, load what was put in, take its steps and judge it.

    :raises ScenarioFailed: something that must hold does not
    :raises UserError: a module does not load, or a program is not there
    """
    modules = foreign.build(inputs.module, lab.kernel) if inputs.module else []
    programs = foreign.build_programs(inputs.programs) if inputs.programs else []
    names = ascii_lowercase[: scenario.guests]
    captures = {name: lab.folder / f"{name}.pcapng" for name in names}
    net = lan.boot(
        lab,
        names,
        memory_mib=scenario.memory_mib,
        cpus=scenario.cpus,
        strict=True,
        topology={
            "sanitizer": scenario.sanitizer,
            "link": [dict(values) for values in scenario.links],
            "capture": [
                {"port": name, "file": str(path), "clear": True, "keys": str(_keys(path))}
                for name, path in captures.items()
            ],
        },
    )
    problems: list[str] = []
    try:
        for vm in net.guests:
            if inputs.module:
                foreign.load(vm, inputs.module, lab.kernel, modules)
            foreign.install(vm, programs)
        if scenario.record:
            for name in names:
                net.model.control.record(name, lab.folder / f"{name}.hunt")
        with traced(net.guests, lab.folder):
            problems += _take(scenario, net)
    finally:
        problems += _faults(net.guests)
        status = net.end()
    problems += _events(scenario, net.model.events)
    problems += _frames(scenario, captures)
    if status and not problems:
        words = net.model.errors.read_text().strip().splitlines()
        problems.append(f"the NIC process ended with status {status}: {' '.join(words[-1:])}")
    if problems:
        raise ScenarioFailed("\n".join(problems))


def _keys(capture: Path) -> Path:
    return capture.with_suffix(".keys")


def _take(scenario: Scenario, net: Lan) -> list[str]:
    """Take the steps until one fails; end what runs; return what did not hold."""
    guests = {vm.name: vm for vm in net.guests}
    running: list[_Running] = []
    problems: list[str] = []
    try:
        for step in scenario.steps:
            found = _step(step, guests, net, running)
            if found:
                problems.append(found)
                break
    except GuestDied as error:  # its console says why
        return [str(error)]
    for one in reversed(running):
        with suppress(GuestDied):
            problems += _stop(one, hurry=bool(problems))
    return problems


def _step(step: Step, guests: dict[str, Vm], net: Lan, running: list[_Running]) -> str | None:
    if step.guest == HOST:
        return _host_step(step, net)
    vm = guests[step.guest]
    try:
        if step.background:
            running.append(_Running(step, vm.start(step.command)))
        if step.ready:
            vm.wait_until(f"{{ {step.ready}; }}", timeout=step.seconds)
        if step.background:
            return None
        return _judge(step, vm.run(step.command, timeout=step.seconds, check=False))
    except GuestDied:
        raise
    except GuestError as error:
        return f"{_place(step)}: {error}"


def _host_step(step: Step, net: Lan) -> str | None:
    if step.background or step.ready:
        raise UserError(f"{step.place}: the host takes no start or ready; write run")
    try:
        done = net.host.run(["sh", "-c", step.command], timeout=step.seconds)
    except subprocess.TimeoutExpired:
        return f"{_place(step)}: it did not end within {step.seconds} s"
    return _judge(step, Completed(step.command, done.returncode, done.stdout, done.stderr))


def _stop(one: _Running, *, hurry: bool) -> list[str]:
    """End a program that was started, or wait for it if its status is asked for; judge it."""
    step, process = one.step, one.process
    try:
        if step.status is not None and not hurry:
            found = _judge(step, process.wait(step.seconds, check=False))
            return [found] if found else []
        done = process.poll()
        if done is not None and done.status:
            return [f"{_place(step)}: it ended by itself {_how(done)}"]
        process.kill("TERM")
        deadline = time.monotonic() + STOP_SECONDS
        while (done := process.poll()) is None and time.monotonic() < deadline:
            time.sleep(0.05)
        if done is None:
            process.kill()
        found = None if hurry else _judge(step, process.wait(STOP_SECONDS, check=False))
        return [found] if found else []
    except GuestDied:
        raise
    except GuestError as error:
        return [f"{_place(step)}: {error}"]


def _judge(step: Step, done: Completed) -> str | None:
    if step.status is not None and done.status != step.status:
        return f"{_place(step)}: it ended {_how(done)}, and status {step.status} was expected"
    text = done.stdout + done.stderr
    if step.output is not None and step.output.search(text) is None:
        return f"{_place(step)}: {step.output.pattern!r} is not in what it wrote: {_short(text)}"
    if step.absent is not None and (found := step.absent.search(text)) is not None:
        return f"{_place(step)}: {step.absent.pattern!r} is in what it wrote: {_short(found[0])}"
    return None


def _place(step: Step) -> str:
    return f"{step.place} ({step.guest}: {_short(step.command)})"


def _how(done: Completed) -> str:
    said = (done.stderr or done.stdout).strip().splitlines()
    return f"with status {done.status}" + (f" ({said[-1]})" if said else "")


def _short(text: str, most: int = 200) -> str:
    words = " ".join(text.split())
    return (words if len(words) <= most else f"{words[:most]}...") or "nothing"


def _faults(guests: Sequence[Vm]) -> list[str]:
    return [
        f"the kernel of guest {vm.name}: {fault.kind}\n{fault.text}"
        for vm in guests
        for fault in vm.faults()
    ]


def _events(scenario: Scenario, path: Path) -> list[str]:
    """Count events by name; findings of kinds that are not expected are problems."""
    seen: dict[str, int] = {}
    problems = []
    for line in path.read_text().splitlines():
        event: dict[str, Any] = json.loads(line)
        seen[event["event"]] = seen.get(event["event"], 0) + 1
        kind = event["sentence"].partition(":")[0]
        if event["severity"] == "finding" and kind not in scenario.findings:
            problems.append(f"the sanitizer, NIC {event['nic']}: {event['sentence']}")
    judged = (count.problem(seen.get(count.what, 0)) for count in scenario.events)
    return problems + [problem for problem in judged if problem is not None]


def _frames(scenario: Scenario, captures: dict[str, Path]) -> list[str]:
    """Count frames by a display filter; tshark judges, which shares no code with the NIC."""
    problems = []
    for count in scenario.frames:
        wire = f'({count.what}) && !(frame.interface_name matches " clear$")'
        done = subprocess.run(
            [
                "tshark",
                "-r",
                str(captures[count.port]),
                "-Y",
                wire,
                "-T",
                "fields",
                "-e",
                "frame.number",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            words = done.stderr.strip().splitlines() or ["it says nothing"]
            problems.append(f"{count.place}: tshark does not understand {count.what}: {words[-1]}")
        elif (found := count.problem(len(done.stdout.split()))) is not None:
            problems.append(found)
    return problems
