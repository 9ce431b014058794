# SPDX-License-Identifier: GPL-2.0-or-later
"""``ethtool`` in a guest says what topology and model say, and changes what it says it changes."""

import re
import statistics

import pytest

from nicmodel.testbed.vm import Vm
from tests.vm.pair import Pair
from tests.vm.traffic import IFACE, driver_statistics, iperf


def _ethtool(vm: Vm, *arguments: str) -> str:
    """Output of a command that works."""
    return vm.run(["ethtool", *arguments[:1], IFACE, *arguments[1:]]).stdout


def _refused(vm: Vm, *arguments: str) -> str:
    """What a command says that does not work."""
    command = " ".join(("ethtool", *arguments[:1], IFACE, *arguments[1:], "2>&1"))
    done = vm.run(command, check=False)
    assert done.status != 0, done.stdout
    return done.stdout


def _field(text: str, name: str) -> str:
    found = re.search(rf"^\s*{re.escape(name)}\s*:\s*(.*)$", text, re.M)
    assert found, f"{name} is missing in:\n{text}"
    return found.group(1).strip()


def _up(vm: Vm) -> None:
    vm.wait_until(f'[ "$(cat /sys/class/net/{IFACE}/carrier)" = 1 ]', timeout=20)


def test_driver_and_address(pair: Pair) -> None:
    assert _field(_ethtool(pair.a, "-i"), "driver") == "mlx5_core"
    assert pair.mac(pair.a) in _ethtool(pair.a, "-P")
    assert "No such" in _refused(pair.a, "-d") or "not supported" in _refused(pair.a, "-d")


def test_link_of_a_direct_attach_cable(pair: Pair) -> None:
    said = pair.a.run(["ethtool", IFACE]).stdout
    assert _field(said, "Speed") == "100000Mb/s"
    assert _field(said, "Duplex") == "Full"
    assert _field(said, "Port") == "Direct Attach Copper"
    assert _field(said, "Link detected") == "yes"
    for mode in ("1000base", "10000base", "25000base", "40000base", "50000base", "100000base"):
        assert mode in said
    assert "200000base" not in said


def test_speed_is_unknown_while_the_port_is_down(pair: Pair) -> None:
    before = driver_statistics(pair.a)["link_down_events_phy"]
    pair.a.run(["ip", "link", "set", IFACE, "down"])
    try:
        said = pair.a.run(["ethtool", IFACE]).stdout
        assert _field(said, "Speed") == "Unknown!"
        assert _field(said, "Link detected") == "no"
    finally:
        pair.restore(pair.a)
    _up(pair.a)
    assert driver_statistics(pair.a)["link_down_events_phy"] == before + 1


def test_speed_can_be_chosen(pair: Pair) -> None:
    try:
        pair.a.run(["ethtool", "-s", IFACE, "speed", "25000", "autoneg", "off"])
        _up(pair.a)
        said = pair.a.run(["ethtool", IFACE]).stdout
        assert (_field(said, "Speed"), _field(said, "Auto-negotiation")) == ("25000Mb/s", "off")
        pair.connected()
        _refused(pair.a, "-s", "speed", "200000", "autoneg", "off")
    finally:
        pair.a.run(["ethtool", "-s", IFACE, "autoneg", "on"])
    _up(pair.a)
    said = pair.a.run(["ethtool", IFACE]).stdout
    assert (_field(said, "Speed"), _field(said, "Auto-negotiation")) == ("100000Mb/s", "on")


def test_pause_is_remembered(pair: Pair) -> None:
    def pause() -> tuple[str, str]:
        said = _ethtool(pair.a, "-a")
        return _field(said, "RX"), _field(said, "TX")

    assert pause() == ("on", "on")
    try:
        _ethtool(pair.a, "-A", "autoneg", "off", "rx", "off")
        assert pause() == ("off", "on")
    finally:
        _ethtool(pair.a, "-A", "autoneg", "off", "rx", "on", "tx", "on")
    _refused(pair.a, "-A", "autoneg", "on")


def test_fec_follows_the_choice(pair: Pair) -> None:
    def active() -> str:
        return _field(_ethtool(pair.a, "--show-fec"), "Active FEC encoding")

    assert active() == "RS"
    try:
        _ethtool(pair.a, "--set-fec", "encoding", "off")
        _up(pair.a)
        assert active() == "Off"
        _refused(pair.a, "--set-fec", "encoding", "llrs")
    finally:
        _ethtool(pair.a, "--set-fec", "encoding", "auto")
    _up(pair.a)
    assert active() == "RS"


def test_module_is_a_passive_cable(pair: Pair) -> None:
    said = _ethtool(pair.a, "-m")
    assert _field(said, "Identifier") == "0x11 (QSFP28)"
    assert "100G Base-CR4" in said
    assert _field(said, "Vendor name") == "nicmodel"
    assert _field(said, "Vendor SN") == pair.mac(pair.a).replace(":", "")
    raw = bytes.fromhex("".join(re.findall(r":\t\t(.*)", _ethtool(pair.a, "-m", "hex", "on"))))
    # SFF-8636, 6.3.21 and 6.3.31: sums of bytes 128 to 190 and 192 to 222
    assert (sum(raw[128:191]) & 0xFF, sum(raw[192:223]) & 0xFF) == (raw[191], raw[223])


def test_self_test_passes_with_its_loopback(pair: Pair) -> None:
    before = driver_statistics(pair.a)
    said = _ethtool(pair.a, "-t")
    assert "The test result is PASS" in said
    results = dict(re.findall(r"^(.* Test)\s+(\d+)", said, re.M))
    assert results == dict.fromkeys(
        ("Link Test", "Speed Test", "Health Test", "Loopback Test"), "0"
    )
    after = driver_statistics(pair.a)
    assert after["rx_vport_unicast_packets"] > before["rx_vport_unicast_packets"]


def test_self_test_fails_without_a_link(pair: Pair) -> None:
    pair.a.run(["ip", "link", "set", IFACE, "down"])
    try:
        said = pair.a.run(f"ethtool -t {IFACE} 2>&1", check=False).stdout
        assert "The test result is FAIL" in said
    finally:
        pair.restore(pair.a)


def test_coalescing_reaches_the_completion_queues(pair: Pair) -> None:
    """An answer is noticed when the period of the receive queue is over, not before."""

    def answers(period: str, count: int) -> list[float]:
        # an event of a send completion has the driver look at the receive queue too
        both = ("tx-usecs", period, "tx-frames", "200")
        _ethtool(pair.a, "-C", "rx-usecs", period, "rx-frames", "200", *both)
        assert _field(_ethtool(pair.a, "-c"), "rx-usecs") == period
        pair.connected()
        said = pair.a.run(f"ping -c {count} -i 0.1 -w 20 {pair.v4(pair.b)}", timeout=30).stdout
        return [float(t) for t in re.findall(r"time=([\d.]+) ms", said)]

    # switching it off brings the usual period, whatever else is asked for
    _ethtool(pair.a, "-C", "adaptive-rx", "off", "adaptive-tx", "off")
    try:
        # any other frame begins a period too, so a single answer may be early
        assert statistics.median(answers("4000", 5)) >= 3.9
        # a busy machine makes most of them late
        assert min(answers("0", 30)) < 3.9
    finally:
        sends = ("tx-usecs", "16", "tx-frames", "32")
        _ethtool(pair.a, "-C", "rx-usecs", "8", "rx-frames", "256", *sends)
        _ethtool(pair.a, "-C", "adaptive-rx", "on", "adaptive-tx", "on")


@pytest.mark.timeout(300)
def test_rings_and_channels_are_resized_under_traffic(pair: Pair) -> None:
    with pair.iperf_server(pair.b):
        traffic = pair.a.start(f"iperf3 -c {pair.v4(pair.b)} -t 60 >/dev/null")
        try:
            for size in ("64", "4096", "1024"):
                _ethtool(pair.a, "-G", "rx", size, "tx", size)
                said = _ethtool(pair.a, "-g").partition("Current hardware settings:")[2]
                assert (_field(said, "RX"), _field(said, "TX")) == (size, size)
            for channels in ("1", "2"):
                _ethtool(pair.a, "-L", "combined", channels)
                said = _ethtool(pair.a, "-l").partition("Current hardware settings:")[2]
                assert _field(said, "Combined") == channels
        finally:
            traffic.kill()
            traffic.wait(30, check=False)
    with pair.iperf_server(pair.b, port=5202):
        assert iperf(pair.a, pair.v4(pair.b), "-n", "1M", port=5202).sent >= 1 << 20


def test_hash_key_and_indirection_table(pair: Pair) -> None:
    """All flows go to the queue that the table names."""
    key = ":".join(f"{byte:02x}" for byte in range(1, 41))
    for queue, weights in ((0, ("1", "0")), (1, ("0", "1"))):
        try:
            _ethtool(pair.a, "-X", "hkey", key, "weight", *weights)
            said = _ethtool(pair.a, "-x")
            assert key in said
            entries = re.findall(r"^\s*\d+:\s+([\d ]+)$", said, re.M)
            assert {int(word) for line in entries for word in line.split()} == {queue}
            before = driver_statistics(pair.a)
            with pair.iperf_server(pair.a):
                iperf(pair.b, pair.v4(pair.a), "-n", "1M", "-P", "4")
            after = driver_statistics(pair.a)
            got = [after[f"rx{n}_packets"] - before[f"rx{n}_packets"] for n in (0, 1)]
            assert got[queue] > 20
            assert got[1 - queue] <= 10  # what is no IP is not hashed
        finally:
            _ethtool(pair.a, "-X", "default")


def test_private_flags_say_what_is_not_there(pair: Pair) -> None:
    said = _ethtool(pair.a, "--show-priv-flags")
    assert _field(said, "rx_cqe_compress") == "off"
    _refused(pair.a, "--set-priv-flags", "rx_cqe_compress", "on")


def test_features_that_are_not_there_cannot_be_switched_on(pair: Pair) -> None:
    said = _ethtool(pair.a, "-k")
    for feature, wanted in (
        ("tx-tcp-segmentation", "on"),
        ("receive-hashing", "on"),
        ("tls-hw-tx-offload", "off [fixed]"),
        ("hw-tc-offload", "off"),
    ):
        assert _field(said, feature).startswith(wanted)


def test_the_kernel_complained_of_nothing(pair: Pair) -> None:
    """Loading the driver with this profile warns of nothing, nor does the model of the driver."""
    assert pair.events("UnknownRegister") == []
    assert pair.events("UnknownCommand") == []


@pytest.mark.timeout(300)
def test_sr_iov_is_not_offered_and_the_switch_stays_legacy(pair: Pair) -> None:
    device = pair.a.run(["readlink", "-f", f"/sys/class/net/{IFACE}/device"]).stdout.strip()
    assert "sriov_totalvfs" not in pair.a.run(["ls", device]).stdout
    slot = device.rsplit("/", 1)[1]
    assert "mode legacy" in pair.a.run(["devlink", "dev", "eswitch", "show", f"pci/{slot}"]).stdout
    said = pair.a.run(["devlink", "dev", "info", f"pci/{slot}"]).stdout
    assert "22.32.2004" in said
