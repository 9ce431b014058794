# SPDX-License-Identifier: GPL-2.0-or-later
"""The command ``nicmodel hunt``: what it says."""

import argparse
import shlex
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from random import Random

from nicmodel.entry import Entry
from nicmodel.errors import UserError
from nicmodel.hunt.recording import Posted, Recording, load, save
from nicmodel.hunt.replay import Wrong
from nicmodel.hunt.search import Found, Hunt, packets_of, replay
from nicmodel.sanitizer.findings import number
from nicmodel.sanitizer.options import SanitizerOptions, of_flags, options
from nicmodel.spec.wqe import WqeOpcode

SUFFIX = ".hunt"
SHORTEST = ".shortest"
COSTLY: dict[str, object] = {"resync": "ignore", "fallback": "ignore"}
"""Kinds of findings that do not make an order wrong, unless they are asked for."""

_VERBS = {
    WqeOpcode.UMR: "static parameters",
    WqeOpcode.SET_PSV: "progress parameters",
    WqeOpcode.NOP: "NOP",
    WqeOpcode.DUMP: "DUMP",
    WqeOpcode.SEND: "SEND",
    WqeOpcode.LSO: "LSO",
}


def run(args: argparse.Namespace) -> int:
    """Hunt in a recording or replay one; 1 if an order is wrong, 0 if none was found."""
    chosen = options(Entry("--sanitizer", COSTLY | of_flags(args.sanitizer)))
    if chosen is None:
        raise UserError("the hunt needs the sanitizer; 'KIND=ignore' leaves out a kind of finding")
    if args.replay:
        return _replay(args.recording, chosen)
    found = [_hunt(path, chosen, args) for path in _recordings(args.recording)]
    statuses = [status for status in found if status is not None]
    if not statuses:
        raise UserError(
            f"{args.recording} has no round in which two queues had work, so there is but one "
            "order; record while both are busy, or let doorbells wait longer (--hold)"
        )
    return max(statuses)


def _recordings(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(one for one in path.rglob(f"*{SUFFIX}") if not one.stem.endswith(SHORTEST))
    if not found:
        raise UserError(f"{path} has no recording; 'nicmodel record' makes them")
    return found


def _hunt(path: Path, chosen: SanitizerOptions, args: argparse.Namespace) -> int | None:
    """Hunt in one recording; None if it has but one order, which is right."""
    recording = load(path)
    first = 1 if args.seed is None else args.seed
    hunt = Hunt(recording, chosen, lambda seed: Random(f"{first}/hunt/{seed}"))
    wqes = sum(len(part.posted) for part in recording.rounds)
    print(
        f"{path}: NIC {recording.nic}, {wqes} WQEs in {len(recording.rounds)} rounds, "
        f"{hunt.choices} of them with a choice between queues; {recording.ended}"
    )
    found = hunt.try_posted()
    if found is None and not hunt.choices:
        return None
    if found is None:
        for seed in range(args.seeds):
            found = hunt.try_seed(seed)
            if found is not None:
                break
    if found is None:
        print(f"{args.seeds} orders, and none is wrong")
        return 0
    short = path.with_name(f"{path.name.removesuffix(SUFFIX)}{SHORTEST}{SUFFIX}")
    save(found.recording, short)
    _say(found)
    print(f"replay: nicmodel hunt --replay {shlex.quote(str(short))}")
    return 1


def _say(found: Found) -> None:
    if found.seed is None:
        print("wrong already as it was posted:")
        print(f"  {found.wrong.sentence}")
        print(f"it takes the {len(list(found.recording.posted))} WQEs up to there")
        return
    print(f"seed {found.seed} is wrong; the shortest order that is, right as it was posted:")
    _tell(found.recording, found.records, found.wrong)


def _replay(path: Path, chosen: SanitizerOptions) -> int:
    recording = load(path)
    outcome = replay(recording, chosen)
    if recording.order is not None and outcome.wrong is not None:
        _tell(recording, outcome.records, outcome.wrong)
        return 1
    if outcome.wrong is not None:
        print(outcome.wrong.sentence)
        return 1
    print("nothing is wrong")
    return 0


def _tell(recording: Recording, records: dict[int, int], wrong: Wrong) -> None:
    """The steps of the order with a short name for each, then what is wrong."""
    place = {n: at for at, n in enumerate(recording.order or ())}
    posted = sorted(
        (one for one in recording.posted if one.number in place), key=lambda one: place[one.number]
    )
    steps = steps_of(posted, recording, records)
    for name, step in steps:
        what = ", ".join(_VERBS.get(WqeOpcode(one.opcode), "?") for one in step)
        first = step[0]
        tis = f"TIS {first.tisn:#x}" if first.tisn else "no TIS"
        print(f"  {name:<6}  SQ {first.sqn:#x}, WQE {first.index:#x}, {tis}: {what}")
    print(f"  {' '.join(name for name, _ in steps)}")
    print(f"  {wrong.sentence}")


def steps_of(
    posted: Sequence[Posted], recording: Recording, records: dict[int, int]
) -> list[tuple[str, list[Posted]]]:
    """What was executed, with names as R4 (a resync for record 4), S4 (the packet), P (others)."""
    owner = {n: packet for packet in packets_of(recording) for n in packet}

    def name(one: Posted) -> str:
        record = next((records[n] for n in sorted(owner[one.number]) if n in records), None)
        if record is None:
            return "P"
        return f"{'S' if one.sends else 'R'}{number(record)}"

    return [
        (name(group[0]), group)
        for _, part in groupby(posted, lambda one: (one.sqn, owner[one.number], one.sends))
        for group in [list(part)]
    ]
