# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel TLS by the device beside the same guests' software, in the same run.

``vm_ktls_tx``: guest a encrypts, guest b decrypts in software whoever has encrypted.
``vm_ktls_tx_alone``: guest b only counts what comes, so that the sender is the limit.
``vm_ktls``: both ends by their devices, against both in software.

Guests have the cipher that udev loads for their CPU, as an installed distribution does. The data is
compared with what was sent, but where nobody decrypts it; silent software is an error.
"""

import statistics
from collections.abc import Callable

from nicmodel.testbed import driver
from nicmodel.testbed.lab import Lab
from tests.bench.report import ROUNDS, Result
from tests.vm.ktls import no_software, offload, talk
from tests.vm.pair import Pair, boot_pair

OCTETS = 24 << 20
DEVICE, SOFTWARE = True, False


def run(lab: Lab) -> list[Result]:
    """Boot two guests whose driver has TLS, measure; print each round."""
    pair = boot_pair(lab.on(nic_driver=driver.TLS), "ktls", capture=False)
    for vm in (pair.a, pair.b):
        vm.run("modprobe -a -q $(cat /sys/devices/system/cpu/modalias); modprobe gcm")
    print(f"guests with TLS are up ({lab.acceleration.name}); {ROUNDS} rounds", flush=True)
    return [
        _compare("vm_ktls_tx", lambda by: _stream(pair, by, SOFTWARE)),
        _compare("vm_ktls_tx_alone", lambda by: _stream(pair, by, SOFTWARE, discard=True)),
        _compare("vm_ktls", lambda by: _stream(pair, by, by)),
    ]


def _compare(name: str, measure: Callable[[bool], float]) -> Result:
    rounds: list[tuple[float, float]] = []
    for number in range(ROUNDS):
        # the order alternates, so that none has the other's aftermath every time
        order = (DEVICE, SOFTWARE) if number % 2 == 0 else (SOFTWARE, DEVICE)
        found = {by: measure(by) for by in order}
        rounds.append((found[DEVICE], found[SOFTWARE]))
        said = f"{found[DEVICE]:.1f}, software {found[SOFTWARE]:.1f} Mbit/s"
        print(f"  {name} {number + 1}/{ROUNDS}: {said}", flush=True)
    ours, theirs = (statistics.median(column) for column in zip(*rounds, strict=True))
    return Result(name, ours, "Mbit/s", "software kTLS", theirs, ours / theirs, tuple(rounds))


def _stream(pair: Pair, transmit: bool, receive: bool, *, discard: bool = False) -> float:
    """Mbit/s that arrive at guest b."""
    offload(pair.a, transmit=transmit)
    offload(pair.b, receive=receive)
    with (
        no_software(pair.a, *(["Tx"] if transmit else [])),
        no_software(pair.b, *(["Rx"] if receive else [])),
    ):
        return talk(pair, send=OCTETS, discard=int(discard))[1].mbits
