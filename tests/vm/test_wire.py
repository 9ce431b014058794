# SPDX-License-Identifier: GPL-2.0-or-later
"""A wire that misbehaves on demand: the guests notice what they should, and nothing else."""

from tests.vm.pair import Pair
from tests.vm.traffic import IFACE

CARRIER = f"/sys/class/net/{IFACE}/carrier"
CARRIER_CHANGES = f"/sys/class/net/{IFACE}/carrier_changes"


def test_pulled_cable(pair: Pair) -> None:
    """The guest's kernel sees the carrier go and come, the other guest's does not."""
    cable = pair.model.control.link(pair.b.name)
    changes = int(pair.b.read_file(CARRIER_CHANGES))
    said = len(pair.b.kernel_log())
    cable.down()
    try:
        pair.b.wait_until(f"grep -q 0 {CARRIER}", timeout=20)
        assert pair.a.read_file(CARRIER).strip() == "1"
        assert pair.a.run(f"ping -c 1 -W 1 {pair.v4(pair.b)}", check=False).status
    finally:
        cable.up()
    pair.b.wait_until(f"grep -q 1 {CARRIER}", timeout=20)
    pair.connected()
    assert int(pair.b.read_file(CARRIER_CHANGES)) == changes + 2
    log = pair.b.kernel_log()[said:]
    assert 0 < log.find("Link down") < log.find("Link up")
