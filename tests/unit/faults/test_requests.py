# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests of a control socket that act on faults."""

import pytest

from nicmodel.entry import Entry
from nicmodel.errors import UserError
from nicmodel.faults.requests import FaultRequests
from tests.unit.device.machine import Loop, Machine


@pytest.fixture
def requests() -> FaultRequests:
    return FaultRequests({"a": Machine("a", b"\2\0\0\0\0\1", Loop()).nic.faults})


def test_a_fault_is_added_listed_and_removed(requests: FaultRequests) -> None:
    values = {"nic": "a", "kind": "lost-completion", "queue": "rq", "number": 5, "count": 0}
    assert requests.add(Entry("fault", values)) == {"number": 1}
    ((found,),) = requests.list(Entry("faults", {}))["faults"].values()
    assert (found["number"], found["fired"]) == (1, 0)
    assert found["fault"].items() >= {"kind": "lost-completion", "number": 5}.items()
    assert requests.remove(Entry("remove-fault", {"nic": "a", "number": 1})) == {}
    assert requests.list(Entry("faults", {})) == {"faults": {"a": []}}


def test_mistakes(requests: FaultRequests) -> None:
    with pytest.raises(UserError, match="fault, nic: b is unknown; known are a"):
        requests.add(Entry("fault", {"nic": "b", "kind": "cqe-error"}))
    with pytest.raises(UserError, match="NIC a has no fault 3"):
        requests.remove(Entry("remove-fault", {"nic": "a", "number": 3}))
    with pytest.raises(UserError, match="faults: nic is unknown"):
        requests.list(Entry("faults", {"nic": "a"}))
