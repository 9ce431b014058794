# SPDX-License-Identifier: GPL-2.0-or-later
"""Command line: arguments only; what a command does is imported when it is called.

Exit status: 0 it went well, 1 it did not, 4 this machine lacks something (skip), 130 interrupted.
"""

import argparse
import importlib
import json
import os
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from nicmodel.errors import UserError

SKIPPED = 4
INTERRUPTED = 130

Body = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``nicmodel`` and return its exit status; None takes the arguments of the process."""
    try:
        args = _parser().parse_args(arguments)
        body: Body = args.body
        status = body(args)
        sys.stdout.flush()
        return status
    except UserError as error:
        print(f"nicmodel: {error}", file=sys.stderr)
        return _status(error)
    except BrokenPipeError:
        # the reader has seen enough; what is left must not fail again when the interpreter ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("nicmodel: interrupted", file=sys.stderr)
        return INTERRUPTED


def _status(error: UserError) -> int:
    from nicmodel.testbed.errors import Unavailable  # noqa: PLC0415

    return SKIPPED if isinstance(error, Unavailable) else 1


def _serve(args: argparse.Namespace) -> int:
    from nicmodel.serve import serve  # noqa: PLC0415
    from nicmodel.topology import Flags, load  # noqa: PLC0415

    flags = Flags(
        nics=args.nic,
        taps=args.tap,
        captures=args.capture,
        strict=args.strict,
        events=args.events,
        seed=args.seed,
        control=args.control,
        links=args.link,
        sanitizer=args.sanitizer,
    )
    return serve(load(args.topology, flags), verbose=args.verbose)


def _commands(_args: argparse.Namespace) -> int:
    from nicmodel.command.describe import rows  # noqa: PLC0415

    for row in rows():
        print(f"{row.opcode:#06x}  {row.name:<32}  {row.sentence}")
    return 0


def _link(args: argparse.Namespace) -> int:
    from nicmodel.control import Control  # noqa: PLC0415
    from nicmodel.wire.rule import of_words  # noqa: PLC0415

    cable = Control(args.control).link(args.nic)
    match args.words:
        case []:
            print(json.dumps(cable.status(), indent=1))
        case ["down"]:
            cable.down()
        case ["up"]:
            cable.up()
        case ["clear"]:
            cable.clear()
        case ["add", *words]:
            cable.add(**of_words("link", words))
        case words:
            cable.impair(of_words("link", words))
    return 0


def _fault(args: argparse.Namespace) -> int:
    from nicmodel.control import Control  # noqa: PLC0415
    from nicmodel.faults.words import words  # noqa: PLC0415

    if args.remove is not None:
        Control(args.control).remove_fault(args.nic, args.remove)
        return 0
    if args.kind is None:
        raise UserError("which kind? 'nicmodel faults' lists them; or --remove NUMBER")
    values = words(args.values)
    print(f"fault {Control(args.control).fault(args.nic, args.kind, **values)}")
    return 0


def _faults(_args: argparse.Namespace) -> int:
    from nicmodel.faults.words import catalogue  # noqa: PLC0415

    for name, sentence, example in catalogue():
        print(f"{name:<18}  {sentence}\n{'':<18}  nicmodel fault NIC {name} {example}")
    return 0


def _decrypt(args: argparse.Namespace) -> int:
    from nicmodel.decrypt.command import run  # noqa: PLC0415

    return run(args)


def _record(args: argparse.Namespace) -> int:
    from nicmodel.control import Control  # noqa: PLC0415
    from nicmodel.hunt.recorder import HOLD_US  # noqa: PLC0415

    control = Control(args.control)
    if (args.file is None) != args.stop:
        raise UserError("name a file to record into, or write --stop")
    if args.stop:
        control.stop_recording(args.nic)
        return 0
    control.record(args.nic, args.file, hold_us=args.hold or HOLD_US)
    print(f"warning: {args.file} gets keys and texts; who has it can read them", file=sys.stderr)
    return 0


def _hunt(args: argparse.Namespace) -> int:
    if args.config is not None:
        return _testbed("hunt")(args)
    from nicmodel.hunt.command import run  # noqa: PLC0415

    if args.recording is None or args.scenario is not None:
        raise UserError("name a recording, or scenarios to record by --config and --scenario")
    return run(args)


def _explain(args: argparse.Namespace) -> int:
    from nicmodel.explain.command import run  # noqa: PLC0415

    return run(args)


def _status_of_run(args: argparse.Namespace) -> int:
    from nicmodel.control import Control  # noqa: PLC0415

    print(json.dumps(Control(args.control).status(), indent=1))
    return 0


def _thaw(args: argparse.Namespace) -> int:
    from nicmodel.control import Control  # noqa: PLC0415

    Control(args.control).ask("thaw")
    return 0


def _testbed(name: str) -> Body:
    """The function ``name`` of the testbed, whose packages ``serve`` does not need."""

    def body(args: argparse.Namespace) -> int:
        status: int = getattr(importlib.import_module("nicmodel.testbed.commands"), name)(args)
        return status

    return body


class _Parser(argparse.ArgumentParser):
    """A parser for which wrong usage is a mistake like any other."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; try '{self.prog} --help'")


def _parser() -> _Parser:
    parser = _Parser(
        prog="nicmodel",
        description="An open model of a ConnectX-6 Dx NIC that the stock mlx5_core driver binds to "
        "in QEMU, and virtual machines around it.",
        epilog="'nicmodel COMMAND --help' explains a command. Exit status: 0 success, 1 failure, "
        "4 this machine lacks something, 130 interrupted.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_serve(commands)
    _add_up(commands)
    _add_shell(commands)
    _add_link(commands)
    _add_fault(commands)
    _add_status(commands)
    _add_decrypt(commands)
    _add_explain(commands)
    _add_record(commands)
    _add_hunt(commands)
    _add_test(commands)
    doctor = _add(
        commands, "doctor", _testbed("doctor"), "Say what this machine lacks and what to type."
    )
    _add_kernel(doctor)
    _add(commands, "faults", _faults, "List the kinds of faults that a NIC can have.")
    _add(commands, "commands", _commands, "List the device commands that the model supports.")
    return parser


def _add_serve(commands: Any) -> None:
    serve = _add(
        commands,
        "serve",
        _serve,
        "Serve NICs on vhost-user sockets until Ctrl-C.",
        """\
        NICs hang on one switch unless a topology file says otherwise. A line 'ready: ...' on
        stdout says that all sockets listen; events that matter go to stderr.

        examples:
          nicmodel serve --nic a=/run/a.sock --nic b=/run/b.sock
          nicmodel serve --nic a=/run/a.sock --tap nic0@lab --capture a=a.pcapng
          nicmodel serve --nic a=/run/a.sock --link a,loss=1%,delay=5ms --control run.sock
          nicmodel serve --topology net.toml --strict --events events.jsonl

        net.toml:
          [run]
          strict = true
          [[nic]]
          name = "a"
          socket = "/run/a.sock"
          mac = "02:00:00:00:00:01"
          link = "sw0"
          profile = "connectx6dx"  # or connectx6dx-tcp-lso, connectx6dx-sequence-lso
          arbitration = "fair"  # between send queues; or greedy, reverse, random
          [[switch]]
          name = "sw0"
          [[tap]]
          name = "nic0"
          netns = "lab"
          switch = "sw0"
          [[capture]]
          port = "a"
          file = "a.pcapng"
          clear = true  # a second interface: before encryption, after decryption
          keys = "a.keys"  # TLS keys, for 'nicmodel decrypt'
          [[link]]  # impairs the cable; keys as of 'nicmodel link'
          nic = "a"
          direction = "out"
          loss = 0.01
          [sanitizer]  # keys as of --sanitizer
          nonce = "fail"
          [[fault]]
          nic = "a"
          kind = "lost-interrupt"
          after = 1000
        """,
    )
    serve.add_argument("--topology", type=Path, metavar="FILE", help="TOML description of the run")
    _add_many(serve, "--nic", "NAME=SOCKET[,mac=MAC][,link=PORT]", "add a NIC")
    _add_many(
        serve, "--tap", "NAME[@NETNS]", "add a tap of the host, made if it is not there, to sw0"
    )
    _add_many(serve, "--link", "NIC,KEY=VALUE,...", "a rule as of 'nicmodel link'")
    _add_capture(serve)
    serve.add_argument(
        "--strict", action="store_true", help="exit 1 if the guest used what is not implemented"
    )
    _add_sanitizer(serve)
    serve.add_argument("--events", type=Path, metavar="FILE", help="append events as JSON lines")
    serve.add_argument(
        "--control", type=Path, metavar="PATH", help="socket for 'nicmodel link' and 'status'"
    )
    serve.add_argument("--seed", type=int, metavar="N", help="seed of all that is random")
    serve.add_argument(
        "-v", "--verbose", action="store_true", help="show every event, not only those that matter"
    )


def _add_link(commands: Any) -> None:
    link = _add(
        commands,
        "link",
        _link,
        "Break the cable of a NIC or tap of a running NIC process, or say how it is.",
        """\
        KEY=VALUE ... is a rule that takes the place of all rules before; 'add' keeps them.
        Frames that meet 'match' (names of Wireshark's display filters), of those the
        'nth' ones, in 'direction' (out, in; both if not given) are subject to:

          loss=SHARE [burst=FRAMES], gilbert=SHARE,SHARE    lost, alone or in bursts
          duplicate=SHARE                                   arrive twice
          corrupt=SHARE [corrupt_bits=N] [corrupt_bytes=FIRST-LAST]   some bits flip
          reorder=SHARE [reorder_by=FRAMES] [reorder_time=TIME]       later ones pass first
          delay=TIME [jitter=TIME] [distribution=uniform|normal]      arrive later
          rate=BITS [queue=BYTES|'N frames']                a slow line with a queue

        examples:
          nicmodel link a down
          nicmodel link a up --control run.sock
          nicmodel link a loss=1% delay=5ms
          nicmodel link a add rate=10Mbit direction=out
          nicmodel link a loss=1 nth=3 match='tcp.dstport == 5001 and tcp.len > 0'
          nicmodel link a clear
          nicmodel link a
        """,
    )
    link.add_argument("nic", metavar="NIC", help="name of the NIC or tap")
    link.add_argument(
        "words", nargs="*", metavar="WORD", help="down, up, clear, or [add] KEY=VALUE ..."
    )
    _add_control(link)


def _add_fault(commands: Any) -> None:
    fault = _add(
        commands,
        "fault",
        _fault,
        "Break a NIC of a running NIC process.",
        """\
        'nicmodel faults' lists the kinds. Each takes after=N (occasions that pass first),
        count=N (how often it fires; 0: always) and probability=P besides its own keys.

        examples:
          nicmodel fault a cqe-error queue=sq syndrome=LOCAL_PROT_ERR after=10
          nicmodel fault a command-failure command=CREATE_SQ status=NO_RES
          nicmodel fault a --remove 2
        """,
    )
    fault.add_argument("nic", metavar="NIC", help="name of the NIC")
    fault.add_argument("kind", nargs="?", metavar="KIND", help="what breaks")
    fault.add_argument("values", nargs="*", metavar="KEY=VALUE", help="how, and when")
    fault.add_argument("--remove", type=_positive, metavar="NUMBER", help="take a fault away")
    _add_control(fault)


def _add_status(commands: Any) -> None:
    status = _add(
        commands,
        "status",
        _status_of_run,
        "Say what a running NIC process has done so far, as JSON.",
        """\
        examples:
          nicmodel status
          nicmodel status --control run.sock
        """,
    )
    _add_control(status)
    thaw = _add(
        commands, "thaw", _thaw, "Let the NICs go on that the sanitizer's policy 'freeze' stopped."
    )
    _add_control(thaw)


def _add_sanitizer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sanitizer",
        action="append",
        default=[],
        metavar="off|KEY=VALUE,...",
        help="what becomes of findings: nonce, plaintext, sequence, resync, object, fallback = "
        "ignore, report (default), fail (exit 1), freeze (for a debugger); limits: "
        "resyncs_per_record, params_octets, dump_octets, contexts, keys = N; repeat",
    )


def _add_capture(parser: argparse.ArgumentParser) -> None:
    _add_many(
        parser,
        "--capture",
        "PORT=FILE[,clear][,keys=FILE]",
        "write what a NIC or tap sends and gets to a pcapng; clear: also as the host sees it; "
        "keys: TLS keys",
    )


def _add_decrypt(commands: Any) -> None:
    decrypt = _add(
        commands,
        "decrypt",
        _decrypt,
        "Decrypt the TLS records in a capture with the keys that were written beside it.",
        """\
        For each direction of a connection that has a key it says how many records authenticate,
        and one sentence on each that does not. OUT.pcapng has one frame of plain TCP a record.
        Exit status 1: not all is as it should be.

        examples:
          nicmodel serve --nic a=a.sock --capture a=a.pcapng,clear,keys=a.keys
          nicmodel decrypt a.pcapng --keys a.keys -o plain.pcapng
        """,
    )
    decrypt.add_argument("capture", type=Path, metavar="CAPTURE", help="pcapng file")
    decrypt.add_argument("--keys", type=Path, required=True, metavar="FILE", help="its key file")
    decrypt.add_argument(
        "-o", dest="output", type=Path, metavar="OUT.pcapng", help="write the records, decrypted"
    )


def _add_explain(commands: Any) -> None:
    explain = _add(
        commands,
        "explain",
        _explain,
        "Tell the story of one SMT message or TLS record, from the captures and events of a run.",
        """\
        Send queue, WQE, context, resync, records, frames, what became of them on the way, what was
        sent again, and the completion, each with time and place: what the NICs and links saw; and
        what SMT did in guests, from sendmsg to recvmsg, where the run has traces of theirs.
        A message is named by its id as its sender has it, a record by its number; that of a
        resync and of a completion only a NIC says that was captured while it ran.

        examples:
          nicmodel explain build/runs/test_echo          # which messages there are
          nicmodel explain build/runs/test_echo --message 0x6
          nicmodel explain a.pcapng b.pcapng --message 6 --flow '10.77.0.1:4000 >' --html story.html
          nicmodel explain a.pcapng --record 4
        """,
    )
    explain.add_argument(
        "run", nargs="+", type=Path, metavar="RUN", help="folder of a run, or its captures"
    )
    explain.add_argument("--message", type=_index, metavar="ID", help="id of an SMT message")
    explain.add_argument("--record", type=_index, metavar="N", help="number of a TLS record")
    explain.add_argument(
        "--flow", default="", metavar="TEXT", help="which flow, if there are several: a part of it"
    )
    explain.add_argument("--html", type=Path, metavar="FILE", help="write it as a page, too")


def _add_record(commands: Any) -> None:
    record = _add(
        commands,
        "record",
        _record,
        "Record what the send queues of a NIC are given, for 'nicmodel hunt'.",
        """\
        Meanwhile a doorbell waits for others, so that queues have work at one time. The file is
        complete after --stop, or when the device is reset or a queue fails.

        examples:
          nicmodel record a a.hunt
          nicmodel record a --stop
        """,
    )
    record.add_argument("nic", metavar="NIC", help="name of the NIC")
    record.add_argument("file", nargs="?", type=Path, metavar="FILE", help="a new file")
    record.add_argument("--stop", action="store_true", help="end the recording")
    record.add_argument(
        "--hold", type=_positive, metavar="US", help="how long a doorbell waits (5000 us)"
    )
    _add_control(record)


def _add_hunt(commands: Any) -> None:
    hunt = _add(
        commands,
        "hunt",
        _hunt,
        "Find an order between send queues that breaks TLS offload, in a recording of a run.",
        """\
        There is no order between send queues, so a card may serve them in any. Each seed draws
        one, which the model carries out without a guest. One that is wrong (a finding of the
        sanitizer, or a packet with other bytes than in the order in which it was posted) is made
        as short as it can be and written beside the recording, to be replayed.
        Exit status 1: there is one. R4 is a resync to record 4, S4 the packet that needs it.

        examples:
          nicmodel hunt a.hunt --seeds 1000
          nicmodel hunt build/runs/test_echo            # all recordings of a run
          nicmodel hunt --replay a.shortest.hunt
          nicmodel hunt --config mine.toml --scenario echo   # records it in guests first
        """,
    )
    hunt.add_argument(
        "recording", nargs="?", type=Path, metavar="RECORDING", help="a file, or a folder"
    )
    hunt.add_argument("--scenario", metavar="NAME", help="of the file --config; else all of them")
    hunt.add_argument("--seeds", type=_positive, default=1000, metavar="N", help="orders (1000)")
    hunt.add_argument("--replay", action="store_true", help="carry out the order in the file")
    _add_sanitizer(hunt)
    _add_lab(hunt)


def _add_control(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--control",
        type=Path,
        metavar="PATH",
        help="control socket of the process; if one runs, that one",
    )


def _add_up(commands: Any) -> None:
    up = _add(
        commands,
        "up",
        _testbed("up"),
        "Boot guests with one NIC each, ready to use, until Ctrl-C.",
        """\
        The guests and a tap of the host are on one switch and have addresses;
        'nicmodel shell' opens one.

        examples:
          nicmodel up
          nicmodel up --guests 3 --memory 1024 --kernel ~/src/linux
          nicmodel up --driver tls --capture a=a.pcapng,clear,keys=a.keys
        """,
    )
    _add_lab(up)
    _add_capture(up)
    up.add_argument("--guests", type=_positive, default=2, metavar="N", help="how many (2)")
    up.add_argument("--memory", type=_positive, default=512, metavar="MIB", help="of each (512)")
    _add_sanitizer(up)
    up.add_argument("--cpus", type=_positive, default=2, metavar="N", help="of each (2)")


def _add_shell(commands: Any) -> None:
    shell = _add(
        commands,
        "shell",
        _testbed("shell"),
        "Open a shell in a guest of 'nicmodel up', or run one command there.",
        """\
        Without a command it is the console of the guest; Ctrl-] leaves it.

        examples:
          nicmodel shell
          nicmodel shell b
          nicmodel shell a -- ethtool -i eth0
        """,
    )
    shell.add_argument("guest", nargs="?", default="a", help="name of the guest (a)")
    shell.add_argument("command", nargs="*", help="command and arguments; its status is returned")


def _add_test(commands: Any) -> None:
    test = _add(
        commands,
        "test",
        _testbed("test"),
        "Boot guests, run the suite or a file's scenarios in them and print a verdict (TAP).",
        """\
        examples:
          nicmodel test
          nicmodel test -k 'ping or link'
          nicmodel test --kernel linux-image-cloud-amd64 --seed 7
          nicmodel test --config mine.toml --results out --shard 1/3
          nicmodel test --jobs 2
        """,
    )
    _add_lab(test)
    test.add_argument(
        "-k", dest="expression", metavar="EXPR", help="only tests that match (pytest -k)"
    )
    test.add_argument("--junit", type=Path, metavar="FILE", help="write a JUnit report")
    test.add_argument(
        "--results", type=Path, metavar="FOLDER", help="put all that the run leaves there"
    )
    test.add_argument(
        "--shard",
        type=_part,
        default=(1, 1),
        metavar="I/N",
        help="part I of N of the runs of a matrix, else of the tests",
    )
    test.add_argument(
        "--jobs",
        type=_positive,
        metavar="N",
        help="so many runs of a matrix at a time, else the tests in so many parts (of the whole "
        "suite, as many as go well here; else 1)",
    )


def _add_lab(parser: argparse.ArgumentParser) -> None:
    """Add what every command that boots guests may be told."""
    _add_kernel(parser)
    parser.add_argument(
        "--smt-kmod", metavar="FOLDER", help="module under test, built with its own Makefile"
    )
    parser.add_argument("--smt-cflags", metavar="WORDS", help="more words for its compiler")
    parser.add_argument("--nic", metavar="PROFILE", help="what the NICs can do; see 'serve --help'")
    parser.add_argument(
        "--accel", choices=["auto", "kvm", "tcg"], default="auto", help="auto tries KVM first"
    )
    parser.add_argument("--connect", metavar="URI", help="libvirt to use; its own one by default")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of all that is random")


def _add_kernel(parser: argparse.ArgumentParser) -> None:
    """Add what decides which kernel and driver guests run."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="TOML file with these and more; see the README"
    )
    parser.add_argument(
        "--kernel", metavar="K", help="package, or path of a kernel tree, built if it was not"
    )
    parser.add_argument("--driver", metavar="D", help="stock, or tls (rebuilt for TLS offload)")
    parser.add_argument(
        "--driver-patch",
        metavar="PATH",
        help="patch file, or folder with *.patch or a quilt series, on top of tls",
    )


def _add(
    commands: Any, name: str, body: Body, sentence: str, examples: str = ""
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=sentence[0].lower() + sentence[1:].rstrip("."),
        description=sentence,
        epilog=textwrap.dedent(examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(body=body)
    return parser


def _add_many(parser: argparse.ArgumentParser, flag: str, form: str, help_text: str) -> None:
    parser.add_argument(
        flag, action="append", default=[], metavar=form, help=f"{help_text}; repeat"
    )


def _index(text: str) -> int:
    """A number, in any base that Python writes."""
    value = int(text, 0)
    if value < 0:
        raise ValueError
    return value


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


_positive.__name__ = "positive number"  # argparse's message names the type


def _part(text: str) -> tuple[int, int]:
    number, _, parts = text.partition("/")
    if not 1 <= int(number) <= int(parts):
        raise ValueError
    return int(number), int(parts)


_part.__name__ = "part"
