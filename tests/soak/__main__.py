# SPDX-License-Identifier: GPL-2.0-or-later
"""``make soak``: SMT both ways between two guests for half an hour, over cables that misbehave.

It goes in rounds, each with its own weather, servers, keys and loads. Nothing may be wrong: an RPC
that fails or comes back otherwise, a record that the oracle refuses (one key and nonce for two
texts, too), a word of a guest's kernel, a finding of the sanitizer, memory that is not given back.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from nicmodel.errors import UserError
from nicmodel.testbed.errors import GuestError, Unavailable
from nicmodel.testbed.lab import Lab
from nicmodel.testbed.vm import Vm
from tests.oracles import smt
from tests.oracles.capture import Follower
from tests.vm.pair import Pair, boot_pair
from tests.vm.smt import CORRUPTION, SMT, SmtPair

SMALL = 100_000
"""RPCs of 64 bytes in half an hour, at least, with 1 to 200 under way."""
PATIENCE = 300.0
"""Seconds that the loads of a round may take."""
WEATHER: tuple[dict[str, Any], ...] = (
    {},
    {"loss": 0.01},
    {"reorder": 0.05},
    {"loss": 0.02, "burst": 3},
    {"duplicate": 0.05},
    {"corrupt": 0.01, **CORRUPTION},
)
CONCURRENCY = (200, 1, 50, 10, 100)
EDGES = (0, 1, 1391, 1392, 1408, 16_211, 16_212, 100_000)
"""Bytes at which something is different: a packet, a tag that spills, a record."""


@dataclass
class Soak:
    """Two guests, and what there was so far; ``wrong`` are sentences."""

    smt_pair: SmtPair
    wires: list[Follower]
    known: int = 0
    """Keys of the round before."""
    good: int = 0
    small: int = 0
    records: int = 0
    resent: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def pair(self) -> Pair:
        return self.smt_pair.pair

    def round(self, number: int) -> None:
        """Let clients in both guests talk at once, secure and plain, and judge all of it.

        Nothing finds out what becomes corrupt in plain messages, so then there are none.
        """
        weather = WEATHER[number % len(WEATHER)]
        concurrency = CONCURRENCY[number % len(CONCURRENCY)]
        cable = self.pair.model.control.link(self.pair.b.name)
        if weather:
            cable.impair({"match": SMT, **weather})
        begun, good = time.monotonic(), self.good
        # a capture is up to a second late: what was said last in a round is read in the next one
        del self.smt_pair.keys[: self.known]
        self.known = len(self.smt_pair.keys)
        with ExitStack() as stack:
            running = [
                self.client(stack, client, server, secure, concurrency)
                for client, server in ((self.pair.a, self.pair.b), (self.pair.b, self.pair.a))
                for secure in ((True,) if "corrupt" in weather else (True, False))
            ]
            for process in running:
                self.hear(json.loads(process.wait(PATIENCE + 30, check=False).stdout))
        cable.clear()
        words = [f"{name}={value}" for name, value in weather.items() if name != "match"]
        sky = " ".join(words) or "clear"
        print(
            f"round {number}: {sky}, {concurrency} at once: {self.good - good} RPCs"
            f" in {time.monotonic() - begun:.0f} s",
            flush=True,
        )
        self.judge()
        self.look()

    def client(
        self, stack: ExitStack, client: Vm, server: Vm, secure: bool, concurrency: int
    ) -> Any:
        small = 1500 if concurrency > 1 else 600
        loads = [(64, concurrency, small if secure else small // 3), (1_000_000, 1, 2)]
        loads += [(size, 1, 3) for size in EDGES]
        port = next(PORTS)
        words = ""
        if secure:
            words = f"--secure --keys {self.smt_pair.new_keys(client, server, port).path}"
        stack.enter_context(self.smt_pair.server(server, words, port=port))
        said = " ".join(f"--load {size}:{number}:{total}" for size, number, total in loads)
        return client.start(
            f"/tmp/smt_echo {self.smt_pair.v4(server)}:{port} {said} {words}"
            f" --seed {port} --timeout {PATIENCE:g}"
        )

    def hear(self, said: dict[str, Any]) -> None:
        """Count what a client says."""
        self.good += sum(load["good"] for load in said["loads"])
        self.small += said["loads"][0]["good"]
        if said["errors"] or not said["finished"]:
            self.wrong.append(f"a client says: {json.dumps(said)}")

    def judge(self) -> None:
        """Let the oracle read what both NICs have sent, and give the disk back."""
        for wire in self.wires:
            frames = [one.data for one in wire.new() if one.outbound]
            found = smt.judge_frames(enumerate(frames, 1), self.smt_pair.all_keys())
            self.records += found.records
            self.resent += found.resent
            self.wrong += found.wrong[:5]
            if found.unread:
                self.wrong.append(f"{found.unread} records have no key")
            if not self.wrong:
                wire.forget()

    def look(self) -> None:
        """What kernels and sanitizer say."""
        for vm in (self.pair.a, self.pair.b):
            self.wrong += [f"kernel of {vm.name}: {fault.text}" for fault in vm.faults()]
            vm.console.mark()
        self.wrong += [one["sentence"] for one in self.pair.new_findings()]


PORTS = count(5000)


def soak(pair: Pair, minutes: float) -> Soak:
    """Go round until the time is over, or something is wrong."""
    made = SmtPair(pair, pair.lab.folder)
    for vm in (pair.a, pair.b):
        made.load(vm)
    state = Soak(made, [Follower(path) for path in pair.captures])
    print(f"guests are up; seed {pair.lab.seed}, all is in {pair.lab.folder}", flush=True)
    # the first round also fills what is kept for good
    state.round(0)
    begun, held = time.monotonic(), made.held()
    for number in count(1):
        if state.wrong or time.monotonic() > begun + minutes * 60:
            break
        state.round(number)
    state.wrong += made.leaked(held)
    return state


def main(words: Sequence[str] | None = None) -> int:
    """Soak; the exit status."""
    parser = argparse.ArgumentParser(prog="make soak")
    parser.add_argument("minutes", nargs="?", type=float, default=30)
    minutes = parser.parse_args(words).minutes
    try:
        with Lab() as lab:
            state = soak(boot_pair(lab, "soak"), minutes)
    except Unavailable as error:
        print(error, file=sys.stderr)
        return 4
    except (UserError, GuestError) as error:
        print(error, file=sys.stderr)
        return 1
    least = int(SMALL * minutes / 30)
    if state.small < least and not state.wrong:
        state.wrong.append(f"only {state.small} small RPCs of the {least} that were meant")
    print(
        f"{state.good} RPCs, {state.small} of them small; {state.records} records decrypted,"
        f" {state.resent} packets were sent again"
    )
    for sentence in state.wrong[:20]:
        print(f"wrong: {sentence}")
    print("all was well" if not state.wrong else "not all was well")
    return 1 if state.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
