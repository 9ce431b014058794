# SPDX-License-Identifier: GPL-2.0-or-later
"""The untouched driver of the distribution binds to the model."""

import hashlib
import re
import time
from pathlib import Path

import pytest

from nicmodel.command.caps import FIRMWARE_VERSION
from nicmodel.testbed import kernel
from tests.vm.pair import Pair
from tests.vm.traffic import IFACE

pytestmark = pytest.mark.matrix


def test_the_driver_is_the_distributions_file(pair: Pair) -> None:
    path = pair.a.run("modinfo -n mlx5_core").stdout.strip()
    inside = pair.a.run(["sha256sum", path]).stdout.split()[0]
    (package,) = pair.lab.kernel.modules.rglob(Path(path).name + "*")
    assert inside == hashlib.sha256(kernel.module_binary(package)).hexdigest()


def test_the_kernel_log_is_clean(pair: Pair) -> None:
    for vm in (pair.a, pair.b):
        vm.run("dmesg -c >/dev/null; modprobe -r mlx5_core && modprobe mlx5_core", timeout=60)
        pair.restore(vm)
        vm.wait_until("dmesg | grep -q 'Link up'")
        said = vm.run("dmesg -r").stdout
        # levels 0 to 4: emergency to warning
        assert not re.findall(r"^<[0-4]>.*mlx5.*$", said, re.MULTILINE)


def test_ethtool_names_driver_and_firmware(pair: Pair) -> None:
    said = dict(
        line.split(": ", 1) for line in pair.a.run(["ethtool", "-i", IFACE]).stdout.splitlines()
    )
    assert said["driver"] == "mlx5_core"
    major, minor, sub = FIRMWARE_VERSION
    assert said["firmware-version"].startswith(f"{major}.{minor}.{sub}")


def test_the_link_comes_up_within_five_seconds_of_guest_time(pair: Pair) -> None:
    said = pair.a.run(
        f"ip link set {IFACE} down; read before _ </proc/uptime; ip link set {IFACE} up; "
        f'while [ "$(cat /sys/class/net/{IFACE}/carrier)" != 1 ]; do :; done; '
        "read after _ </proc/uptime; echo $before $after"
    ).stdout
    before, after = map(float, said.split())
    assert after - before < 5


def test_addresses_come_from_the_topology(pair: Pair) -> None:
    for vm in (pair.a, pair.b):
        assert vm.read_file(f"/sys/class/net/{IFACE}/address").strip() == pair.mac(vm)


def test_a_stalled_model_freezes_no_guest(pair: Pair) -> None:
    with pair.stalled():
        begin = time.monotonic()
        pair.a.run("ping -c 3 -i 0.2 -W 1 10.77.0.2", check=False)
        pair.a.run("cat /proc/uptime")
        assert time.monotonic() - begin < 15
    pair.a.run("ping -c 1 -w 20 10.77.0.2", timeout=30)
