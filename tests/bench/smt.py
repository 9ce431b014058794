# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests and responses by TCP, by kernel TLS, by messages in clear, and by SMT.

The same guests, the same run, over our NIC; sizes and concurrency are those of figures 6 and 7 of
"Designing Transport-Level Encryption for Datacenter Networks". Each round measures all stacks, in
an order that alternates. Nothing is measured but how they compare: absolute times are those of an
emulated processor. Who was to encrypt has encrypted, or there is no figure.
"""

import json
import statistics
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count

from nicmodel.testbed import driver
from nicmodel.testbed.lab import Lab
from tests.bench import report
from tests.bench.report import Panel, Result, plot_lines
from tests.vm import build
from tests.vm.ktls import moved, offload, tls_stat
from tests.vm.msgtx import PATCHES
from tests.vm.pair import Pair, boot_pair
from tests.vm.smt import SmtPair
from tests.vm.traffic import driver_statistics

ROUNDS = 3
SIZES = (64, 256, 1024, 4096, 16_384, 65_536)
"""Bytes of request and response, one at a time."""
CONCURRENT = (64, 1024, 8192)
"""Bytes, with ``AT_ONCE`` under way."""
AT_ONCE = (10, 50, 150)
ALONE = 60
"""RPCs of which a median is taken."""
TOGETHER = 1000
"""RPCs of which a rate is taken."""
BULK = (65_536, 8, 200)
"""Size, RPCs at once and in all, of ``vm_smt_tx_hw``."""

SOFTWARE, HARDWARE = "SMT software", "SMT hardware"

EMULATED = "guests are emulated: only compare, absolute values mean nothing"

_PORTS = count(7800)


@dataclass(frozen=True)
class Load:
    """RPCs of ``size`` bytes, so many at once, so many in all."""

    size: int
    concurrency: int
    number: int

    @property
    def name(self) -> str:
        return f"smt {self.size} B" + (f" x {self.concurrency}" if self.concurrency > 1 else "")

    @property
    def unit(self) -> str:
        """Alone it is the median round trip, else a rate."""
        return "us" if self.concurrency == 1 else "RPCs/s"

    def value(self, median: float, seconds: float) -> float:
        return median if self.concurrency == 1 else self.number / seconds


Stack = Callable[[Load], float]


def run(lab: Lab) -> list[Result]:
    """Boot two guests, measure; print each round, plot."""
    chosen = lab.on(nic_driver=driver.Choice(tls=True, patches=PATCHES))
    pair = boot_pair(chosen, "smtbench", capture=False)
    print(f"guests are up ({lab.acceleration.name}); {ROUNDS} rounds", flush=True)
    results = measure(pair)
    for vm in (pair.a, pair.b):
        vm.destroy()  # whoever measures next has the machine alone
    pair.model.stop()
    return results


def measure(pair: Pair) -> list[Result]:
    """Measure all loads on all stacks."""
    smt_pair = SmtPair(pair, pair.lab.folder)
    for vm in (pair.a, pair.b):
        vm.run("modprobe -a -q $(cat /sys/devices/system/cpu/modalias); modprobe -a gcm tls")
        smt_pair.load(vm)
    loads = [Load(size, 1, ALONE) for size in SIZES]
    loads += [Load(size, number, TOGETHER) for size in CONCURRENT for number in AT_ONCE]
    with ExitStack() as stack:
        stacks = _stacks(stack, smt_pair)
        found = {load: _rounds(load, stacks) for load in loads}
        bulk = _bulk(smt_pair, {name: stacks[name] for name in (HARDWARE, SOFTWARE)})
    median = {
        load: {name: statistics.median(values) for name, values in rounds.items()}
        for load, rounds in found.items()
    }
    note = EMULATED if pair.lab.acceleration.name == "tcg" else ""
    _table(median, note)
    plot_lines(_panels(median), "smt", note=note)
    return [bulk, *(_result(load, rounds, median[load]) for load, rounds in found.items())]


def _bulk(smt_pair: SmtPair, stacks: Mapping[str, Stack]) -> Result:
    """What both guests send when their devices encrypt it, beside their software: Mbit/s each way.

    Whoever has encrypted, software decrypts. Prints what the driver did for it in guest a.
    """
    a = smt_pair.a
    before = driver_statistics(a), smt_pair.stats(a)
    load = Load(*BULK)
    found = _rounds(load, stacks, report.ROUNDS)
    after = driver_statistics(a), smt_pair.stats(a)
    messages, resyncs, contexts = (
        late[name] - early.get(name, 0)
        for early, late, name in (
            (before[1], after[1], "tx_hw_messages"),
            (before[0], after[0], "tx_tls_ooo"),
            (before[0], after[0], "tx_tls_ctx"),
        )
    )
    print(
        f"  in {messages} messages that the device encrypted: {resyncs / messages:.2f} resyncs a "
        f"message, {contexts} contexts for {report.ROUNDS} sessions",
        flush=True,
    )
    mbits = {name: [rate * load.size * 8 / 1e6 for rate in rates] for name, rates in found.items()}
    ours, theirs = (statistics.median(mbits[name]) for name in (HARDWARE, SOFTWARE))
    rounds = tuple(zip(mbits[HARDWARE], mbits[SOFTWARE], strict=True))
    return Result("vm_smt_tx_hw", ours, "Mbit/s", "vm_smt_tx_sw", theirs, ours / theirs, rounds)


def _rounds(load: Load, stacks: Mapping[str, Stack], times: int = ROUNDS) -> dict[str, list[float]]:
    """Measure a load on all stacks ``times`` times; values by stack."""
    found: dict[str, list[float]] = {name: [] for name in stacks}
    for number in range(times):
        # the order alternates, so that none has another's aftermath every time
        for name in list(stacks) if number % 2 == 0 else reversed(list(stacks)):
            found[name].append(stacks[name](load))
    said = ", ".join(f"{name} {statistics.median(each):,.0f}" for name, each in found.items())
    print(f"  {load.name}: {said} {load.unit}", flush=True)
    return found


def _table(median: Mapping[Load, Mapping[str, float]], note: str) -> None:
    names = list(next(iter(median.values())))
    print(f"\n{'':24}{''.join(f'{name:>16}' for name in names)}")
    for load, values in median.items():
        cells = "".join(f"{values[name]:16,.0f}" for name in names)
        print(f"{load.name:24}{cells}  {load.unit}")
    print(f"{note}\n")


def _panels(median: Mapping[Load, Mapping[str, float]]) -> list[Panel]:
    """Figure 6 is the first panel, figure 7 the others."""

    def lines(chosen: Mapping[Load, float]) -> dict[str, list[tuple[float, float]]]:
        names = list(next(iter(median.values())))
        return {name: [(x, median[load][name]) for load, x in chosen.items()] for name in names}

    alone = {load: float(load.size) for load in median if load.concurrency == 1}
    panels = [Panel("one RPC at a time", "bytes", "round trip, us", lines(alone), log=True)]
    for size in CONCURRENT:
        chosen = {
            load: float(load.concurrency)
            for load in median
            if load.size == size and load.concurrency > 1
        }
        panels.append(Panel(f"{size} bytes", "RPCs at once", "RPCs/s", lines(chosen)))
    return panels


def _result(load: Load, rounds: Mapping[str, list[float]], median: Mapping[str, float]) -> Result:
    ours, theirs = HARDWARE, "kTLS hardware"
    return Result(
        load.name.replace(" ", "_"),
        median[ours],
        load.unit,
        theirs,
        median[theirs],
        median[ours] / median[theirs],
        tuple(zip(rounds[ours], rounds[theirs], strict=True)),
    )


def _stacks(stack: ExitStack, smt_pair: SmtPair) -> dict[str, Stack]:
    pair = smt_pair.pair
    return {
        "TCP": _tcp(stack, pair),
        "kTLS software": _checked(pair, False, _tcp(stack, pair, "tls"), "TlsTxSw"),
        "kTLS hardware": _checked(pair, True, _tcp(stack, pair, "tls"), "TlsTxDevice"),
        "messages": _smt(stack, smt_pair, secure=False),
        SOFTWARE: _smt(stack, smt_pair, "--offload off"),
        HARDWARE: _checked(pair, True, _smt(stack, smt_pair, "--offload required")),
    }


def _checked(pair: Pair, device: bool, measure: Stack, *counters: str) -> Stack:
    """Let devices encrypt, or not; of the kernel's TLS only these ``counters`` of sockets move.

    What comes in is decrypted by software.
    """

    def measured(load: Load) -> float:
        for vm in (pair.a, pair.b):
            offload(vm, transmit=device)
        before = tls_stat(pair.a)
        found = measure(load)
        who = {key for key in moved(before, tls_stat(pair.a)) if key in ("TlsTxSw", "TlsTxDevice")}
        assert who == set(counters), who
        return found

    return measured


def _tcp(stack: ExitStack, pair: Pair, *words: str) -> Stack:
    port = next(_PORTS)
    paths = [build.install(vm, build.own("rpc")) for vm in (pair.a, pair.b)]
    server = pair.b.start([paths[1], "serve", str(port)])
    stack.callback(server.kill)
    pair.b.wait_until(f"ss -Hltn | grep -q :{port}")

    def measure(load: Load) -> float:
        numbers = [str(n) for n in (port, load.size, load.concurrency, load.number)]
        command = [paths[0], pair.v4(pair.b), *numbers, *words]
        said = json.loads(pair.a.run(command, timeout=120).stdout)
        return load.value(said["us"]["p50"], said["seconds"])

    return measure


def _smt(stack: ExitStack, smt_pair: SmtPair, words: str = "", *, secure: bool = True) -> Stack:
    a, b = smt_pair.a, smt_pair.b

    def measure(load: Load) -> float:
        port = next(_PORTS)
        options = words
        if secure:
            options += f" --secure --keys {smt_pair.new_keys(a, b, port).path}"
        with smt_pair.server(b, options, port=port):
            address = f"{smt_pair.v4(b)}:{port}"
            wanted = (load.size, load.concurrency, load.number)
            answer = smt_pair.ask(a, address, wanted, options=[options], timeout=120)
        return load.value(answer.loads[0]["us"]["p50"], answer.seconds)

    return measure
