# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands of the testbed: ``up``, ``shell``, ``test``, ``hunt`` and ``doctor``."""

import argparse
import json
import os
import shlex
import shutil
import signal
import socket
import sys
import termios
import tty
from dataclasses import replace
from pathlib import Path
from select import select
from string import ascii_lowercase
from typing import Any

from nicmodel.entry import Entry
from nicmodel.errors import UserError
from nicmodel.hunt import command as search
from nicmodel.sanitizer.options import of_flags
from nicmodel.serve import KEYS_WARNING
from nicmodel.testbed import doctor as examination
from nicmodel.testbed import foreign, kernel, lan, leftovers, runs
from nicmodel.testbed.agent import Completed
from nicmodel.testbed.errors import GuestError
from nicmodel.testbed.guest_trace import traced
from nicmodel.testbed.inputs import FLAGS, Inputs, load, matrix
from nicmodel.testbed.lab import Lab, LabOptions
from nicmodel.testbed.paths import BUILD, CHECKOUT, RESULTS
from nicmodel.testbed.scenario import Scenario
from nicmodel.testbed.stage import ScenarioFailed, play
from nicmodel.topology import capture_values

UP_FILE = BUILD / "up.json"
"""What ``shell`` needs to know of a running ``up``: its process and the lab's scratch folder."""

MOST_GUESTS = len(ascii_lowercase)
LEAVE = b"\x1d"  # Ctrl-]
COMMAND_SECONDS = 24 * 3600.0


def up(args: argparse.Namespace) -> int:
    """Boot guests on one switch, with a host tap, until Ctrl-C or SIGTERM."""
    if args.guests > MOST_GUESTS:
        raise UserError(f"{args.guests} guests are too many: {MOST_GUESTS} have a name.")
    _refuse_second()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    given = _inputs(args)
    try:
        with Lab(_options(args, given)) as lab:
            _run_up(lab, args, given)
    except KeyboardInterrupt:
        print("all guests have ended")
    except GuestError as error:
        raise UserError(f"{error}: look at the newest folder in {BUILD / 'runs'}.") from error
    finally:
        if _owner() is None:
            UP_FILE.unlink(missing_ok=True)
    return 0


def shell(args: argparse.Namespace) -> int:
    """Talk to a guest of a running ``up``: its console, or one command (also from stdin)."""
    scratch = _running_up()
    guest: str = args.guest
    console = scratch / f"{guest}.console"
    if not console.exists():
        names = sorted(path.stem for path in scratch.glob("*.console"))
        raise UserError(f"there is no guest {guest}; there are: {', '.join(names)}.")
    if args.command:
        return _ask(scratch, guest, shlex.join(args.command))
    if not sys.stdin.isatty():
        return _ask(scratch, guest, sys.stdin.read())
    return _talk(console, guest)


def test(args: argparse.Namespace) -> int:
    """Run scenarios or the suite in guests; the exit status is 0, 1 or 4 (nothing could run)."""
    flags = _flags(args)
    variants = matrix(args.config, flags)
    jobs: int = args.jobs or (
        # of a choice of tests, and of scenarios, which may be few, one at a time
        1 if args.expression or args.config or args.shard != (1, 1) else runs.jobs_here()
    )
    planned = runs.plan(variants, args.shard, jobs)
    results: Path = (args.results or RESULTS).absolute()
    if args.results is None:
        shutil.rmtree(results, ignore_errors=True)
    if len(planned) != 1:
        # what is the same for all of them
        common = {name: value for name, value in flags.items() if value is not None}
        common |= {"accel": args.accel, "connect": args.connect}
        common |= {"config": args.config and args.config.absolute()}
        command = [sys.executable, "-m", "nicmodel", "test", *runs.words(common)]
        command += ["-k", args.expression] if args.expression else []
        return runs.many(planned, command, results, jobs)
    varied = dict(planned[0].flags)
    shard = varied.pop("shard", "1/1")
    given = load(args.config, flags | varied)
    # a mistake in what is to be built is told at once, and not by every test
    given.prepare()
    options = {
        "accel": args.accel,
        "connect": args.connect,
        "shard": shard,
        "inputs": args.config and args.config.absolute(),
        "run-folder": args.results and results / "run",
        "tap-file": results / "vm.tap",
        "junit-xml": (args.junit or results / runs.REPORT).absolute(),
        **flags,
        **varied,
    }
    suite = args.config.absolute() if given.scenarios else CHECKOUT / "tests/vm"
    command = [
        *(sys.executable, "-m", "pytest", "-p", "nicmodel.testbed.pytest_plugin", "-q"),
        *("-c", str(CHECKOUT / "pyproject.toml"), str(suite), *runs.words(options)),
        *(["-k", args.expression] if args.expression else []),
    ]
    return runs.one(command)


def hunt(args: argparse.Namespace) -> int:
    """Record the scenarios of a file in guests, then hunt in what was recorded."""
    if args.recording is not None or args.replay:
        raise UserError("say where to hunt: in a recording, or by --config in scenarios")
    if matrix(args.config, {}) != [{}]:
        raise UserError(
            f"{args.config} has a [matrix]: run 'nicmodel test' with record = true in its "
            "scenarios, then 'nicmodel hunt' on the results"
        )
    given = _inputs(args)
    names = [one.name for one in given.scenarios]
    if args.scenario is not None:
        Entry(str(args.config), {"scenario": args.scenario}).known("scenario", names)
        names = [args.scenario]
    if not names:
        raise UserError(f"{args.config} has no scenario; add [[scenario]]")
    given.prepare()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Lab(_options(args, given)) as lab:
        for one in given.scenarios:
            if one.name in names:
                print(f"recording {one.name} in guests, seed {lab.seed}", flush=True)
                _record(lab.within(one.name), one, given)
    args.recording = lab.folder
    return search.run(args)


def _record(lab: Lab, scenario: Scenario, given: Inputs) -> None:
    try:
        play(lab, replace(scenario, record=True), given)
    except ScenarioFailed as error:
        raise UserError(
            f"scenario {scenario.name} fails already as it is: {'; '.join(str(error).splitlines())}"
            f" (what was recorded: {lab.folder})"
        ) from error
    except GuestError as error:
        raise UserError(f"{error}: look at {lab.folder}.") from error


def doctor(args: argparse.Namespace) -> int:
    """Print the table of checks; the exit status is 4 if something is missing."""
    fine = True
    given = _inputs(args)
    results = examination.checks(given.kernel or kernel.DEFAULT, given.nic_driver)
    for check in results:
        fine = fine and check.fine
        for line in examination.table(iter([check])):
            print(line, flush=True)
    return 0 if fine else 4


def _flags(args: argparse.Namespace) -> dict[str, Any]:
    """What flags say of the inputs; paths are made absolute, since a child works elsewhere."""
    given: dict[str, Any] = {name: getattr(args, name, None) for name in FLAGS}
    if given["kernel"] and "/" in given["kernel"]:
        given["kernel"] = str(Path(given["kernel"]).absolute())
    for name in ("driver_patch", "smt_kmod"):
        if given[name]:
            given[name] = str(Path(given[name]).absolute())
    return given


def _inputs(args: argparse.Namespace) -> Inputs:
    return load(args.config, _flags(args))


def _options(args: argparse.Namespace, given: Inputs) -> LabOptions:
    chosen: dict[str, Any] = {"acceleration": args.accel}
    if args.connect:
        chosen["connect"] = args.connect
    if given.kernel:
        chosen["kernel"] = given.kernel
    if given.seed is not None:
        chosen["seed"] = given.seed
    return LabOptions(nic_driver=given.nic_driver, nic=given.nic, facts=given.facts(), **chosen)


def _run_up(lab: Lab, args: argparse.Namespace, given: Inputs) -> None:
    names = ascii_lowercase[: args.guests]
    captures = [capture_values(text) for text in args.capture]
    for values in captures:
        for key in ("file", "keys"):
            if isinstance(values.get(key), str):
                values[key] = str(Path(values[key]).absolute())
    modules = foreign.build(given.module, lab.kernel) if given.module else []
    programs = foreign.build_programs(given.programs) if given.programs else []
    print(f"booting {len(names)} guests ({lab.acceleration.name}), seed {lab.seed}", flush=True)
    net = lan.boot(
        lab,
        names,
        memory_mib=args.memory,
        cpus=args.cpus,
        topology={"sanitizer": of_flags(args.sanitizer), "capture": captures},
    )
    host = net.host
    for number, vm in enumerate(net.guests, 1):
        if given.module:
            foreign.load(vm, given.module, lab.kernel, modules)
        foreign.install(vm, programs)
        print(f"guest {vm.name}: {lan.v4(number)} {lan.v6(number)}, nicmodel shell {vm.name}")
    print(f"host:    {' '.join(host.addresses)}, ip netns exec {host.namespace} COMMAND")
    print(f"driver:  {lab.driver.description}, build id {lab.driver.build_id}")
    print(f"cables:  nicmodel link a down, --control {net.model.control.path}")
    print(f"consoles and events: {lab.folder}")
    for values in captures:
        print(f"capture: {values['file']}")
        if "keys" in values:
            print(KEYS_WARNING.format(values["keys"]), file=sys.stderr)
    with traced(net.guests, lab.folder):
        print("Ctrl-C ends it", flush=True)
        _answer(lab)


def _answer(lab: Lab) -> None:
    """Run commands for ``shell`` until a signal comes."""
    guests = {vm.name: vm for vm in lab.guests()}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(lab.scratch / "control"))
        listener.listen()
        me = leftovers.process(os.getpid())
        assert me is not None
        UP_FILE.write_text(json.dumps({"pid": me.pid, "start": me.start, "at": str(lab.scratch)}))
        while True:
            peer, _ = listener.accept()
            with peer, peer.makefile("rw") as lines:
                try:
                    request = json.loads(lines.readline())
                    done = guests[request["guest"]].run(
                        request["command"], timeout=COMMAND_SECONDS, check=False
                    )
                except GuestError as error:
                    done = Completed("", 1, "", f"nicmodel: {error}\n")
                except (ValueError, KeyError, ConnectionError):
                    continue  # whoever that was is no shell of ours
                try:
                    lines.write(json.dumps([done.status, done.stdout, done.stderr]) + "\n")
                    lines.flush()
                except ConnectionError:
                    continue  # the shell was interrupted


def _ask(scratch: Path, guest: str, command: str) -> int:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(scratch / "control"))
        with connection.makefile("rw") as lines:
            lines.write(json.dumps({"guest": guest, "command": command}) + "\n")
            lines.flush()
            answer = lines.readline()
    if not answer:
        raise UserError("nicmodel up has ended.")
    status, out, err = json.loads(answer)
    sys.stdout.write(out)
    sys.stderr.write(err)
    return int(status)


def _talk(console: Path, guest: str) -> int:
    """Connect the terminal with a serial console until Ctrl-] or its end."""
    print(f"console of {guest}; Ctrl-] leaves it", flush=True)
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(console))
        tty.setraw(keyboard)
        try:
            columns, rows = os.get_terminal_size(keyboard)
            line.sendall(f"\nstty rows {rows} cols {columns}\n".encode())
            while True:
                ready, _, _ = select([keyboard, line], [], [])
                if line in ready:
                    text = line.recv(4096)
                    if not text:
                        break
                    os.write(sys.stdout.fileno(), text)
                if keyboard in ready:
                    keys = os.read(keyboard, 4096)
                    if LEAVE in keys or not keys:
                        break
                    line.sendall(keys)
        finally:
            termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
    print()
    return 0


def _owner() -> dict[str, Any] | None:
    """Return what UP_FILE says, if the process that wrote it still runs."""
    try:
        found: dict[str, Any] = json.loads(UP_FILE.read_text())
        alive = leftovers.Process(found["pid"], found["start"]).alive()
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return found if alive and found["pid"] != os.getpid() else None


def _refuse_second() -> None:
    if (running := _owner()) is not None:
        raise UserError(f"nicmodel up runs already (process {running['pid']}): end it first.")


def _running_up() -> Path:
    running = _owner()
    if running is None:
        raise UserError("no guests are up here: start them with nicmodel up.")
    return Path(running["at"])
