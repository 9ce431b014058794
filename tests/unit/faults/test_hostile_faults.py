# SPDX-License-Identifier: GPL-2.0-or-later
"""Any request about faults, and a guest that writes anything to a NIC that has any of them."""

import json
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nicmodel.entry import Entry
from nicmodel.errors import UserError
from nicmodel.faults.catalogue import CATALOGUE, OBJECT_KINDS
from nicmodel.faults.requests import FaultRequests
from tests.unit.device.machine import Pair
from tests.unit.device.test_hostile import CPU_SECONDS, Step, exchange, steps

pytestmark = pytest.mark.fuzz

names = [
    *("sq", "rq", "completion", "command", "async", *OBJECT_KINDS),
    *("QUERY_VPORT_STATE", "CREATE_CQ", "MODIFY_RQ", "ACCESS_REG", "SET_FLOW_TABLE_ENTRY"),
    *("LOCAL_QP_OP_ERR", "WR_FLUSH_ERR", "NO_RES", "INT_ERR", "FW_ERR"),
]
values = st.one_of(
    st.sampled_from(names),
    st.integers(-1, 12),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.none(),
    st.text(max_size=8),
)
keys = st.sampled_from(
    [
        *("after", "count", "probability", "queue", "number", "syndrome", "delay_ms", "command"),
        *("status", "fatal", "reports", "objects", "limit", "nic", "kind"),
    ]
)
requests = st.builds(
    lambda base, more: {**base, **more},
    st.fixed_dictionaries({"nic": st.just("b"), "kind": st.sampled_from(list(CATALOGUE))}),
    st.dictionaries(keys, values, max_size=4),
)

Request = dict[str, Any]
COMMANDS = ["QUERY_VPORT_STATE", "CREATE_CQ", "DESTROY_SQ", "ACCESS_REG", "MODIFY_RQ", "CREATE_EQ"]
whole = st.fixed_dictionaries(
    {},
    optional={
        "after": st.integers(0, 6),
        "count": st.integers(0, 4),
        "probability": st.sampled_from([0, 0.5, 1]),
    },
)
particular: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "cqe-error": {"queue": st.sampled_from(["sq", "rq"])},
    "late-completion": {"queue": st.sampled_from(["sq", "rq"]), "delay_ms": st.integers(0, 900)},
    "lost-completion": {"queue": st.sampled_from(["sq", "rq"])},
    "command-failure": {"command": st.sampled_from(COMMANDS)},
    "command-timeout": {"command": st.sampled_from(COMMANDS), "delay_ms": st.integers(0, 900)},
    "lost-interrupt": {"reports": st.sampled_from(["completion", "command", "async"])},
    "wedged-eq": {"reports": st.sampled_from(["completion", "command", "async"])},
    "exhaustion": {"objects": st.sampled_from(OBJECT_KINDS), "limit": st.integers(0, 5)},
}
"""What a fault needs, or may well have, to be one; the rest need nothing."""

sensible = st.sampled_from(list(CATALOGUE)).flatmap(
    lambda kind: st.builds(
        lambda base, more: {"nic": "b", "kind": kind, **base, **more},
        whole,
        st.fixed_dictionaries(particular.get(kind, {})),
    )
)


def ask(verbs: FaultRequests, request: Request) -> int | None:
    """The number of the new fault, or None for a request that was refused with a sentence."""
    try:
        number: int = verbs.add(Entry("fault", dict(request)))["number"]
    except UserError:
        return None
    return number


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(requests, max_size=12))
def test_a_request_is_granted_or_refused(todo: list[Request]) -> None:
    pair = Pair(1)
    verbs = FaultRequests({"b": pair.b.nic.faults})
    numbers = [ask(verbs, request) for request in todo]
    listed = verbs.list(Entry("faults", {}))
    json.dumps(listed, allow_nan=False)
    here = {fault["number"] for fault in listed["faults"]["b"]}
    assert here <= {number for number in numbers if number is not None}


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(st.one_of(steps, sensible), min_size=8, max_size=50))
def test_a_broken_device_survives_anything(todo: list[Step | Request]) -> None:
    pair = Pair(1)
    verbs = FaultRequests({"b": pair.b.nic.faults})
    for step in todo:
        before = time.process_time()
        if isinstance(step, dict):
            assert ask(verbs, step) is not None
        else:
            step(pair)
        pair.loop.run()
        assert time.process_time() - before < CPU_SECONDS
    for armed in list(pair.b.nic.faults):
        verbs.remove(Entry("remove", {"nic": "b", "number": armed.number}))
    pair.b.nic.port.enable(True)
    pair.loop.advance(2)
    pair.b.again(1)
    pair.loop.run()
    exchange(pair)
    pair.b.leave()
