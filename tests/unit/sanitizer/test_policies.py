# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run may choose: policies, limits, their words, and what it is told in the end."""

from types import MappingProxyType

import pytest

from nicmodel.entry import Entry
from nicmodel.errors import UserError
from nicmodel.faults.events import FaultInjected
from nicmodel.sanitizer.findings import BadUse, Kind, LimitExceeded, Policy
from nicmodel.sanitizer.options import SanitizerOptions, of_flags, options
from nicmodel.serve import Faults
from nicmodel.trace.events import DoorbellIgnored, QueueError
from nicmodel.trace.tracer import Record
from tests.unit.sanitizer.rig import Sender, Watched


def wrong(rig: Watched) -> None:
    """A connection that jumps."""
    sender = Sender(rig)
    for number in range(3):
        sender.write(bytes([number]) * 100)
    sender.packet(0, 129)
    sender.send(rig, sender.tisn, 258, 387, 1258)
    sender.ring()


def test_ignored_findings_are_counted() -> None:
    rig = Watched(sequence=Policy.IGNORE)
    wrong(rig)
    assert rig.findings == []
    assert rig.sanitizer.findings[Kind.SEQUENCE] == 1
    assert rig.sanitizer.status()["findings"]["sequence"] == 1


def test_freezing_is_told_once() -> None:
    rig = Watched(sequence=Policy.FREEZE)
    wrong(rig)
    wrong(rig)
    assert [found.policy for found in rig.frozen] == [Policy.FREEZE]


@pytest.mark.parametrize(
    ("policy", "status"), [("report", 0), ("ignore", 0), ("fail", 1), ("freeze", 1)]
)
def test_exit_status(policy: str, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    rig = Watched(sequence=Policy(policy))
    faults = Faults(strict=True)
    rig.tracer.add(faults)
    wrong(rig)
    assert faults.report() == status
    assert ("findings" in capsys.readouterr().err) == bool(status)


def test_limits() -> None:
    limits = {"resyncs_per_record": 1, "dump_octets": 50, "contexts": 1, "keys": 5}
    rig = Watched(SanitizerOptions(limits=MappingProxyType(limits)))
    sender = Sender(rig)
    sender.write(b"x" * 300)
    for begin in (0, 0, 40, 20):
        sender.packet(begin, begin + 100)
    sender.ring()
    other = Sender(rig, start=9999, iv=1000)
    other.write(b"y" * 10)
    other.packet(0, 39)
    other.ring()
    found = [f for f in rig.findings if isinstance(f, LimitExceeded)]
    assert found == rig.findings
    assert [(f.limit, f.most, f.count) for f in found] == [
        ("resyncs per record", 1, 2),
        ("dump octets", 50, 60),
        ("contexts", 1, 2),
    ]


def test_summary() -> None:
    rig = Watched()
    assert rig.sanitizer.summary() is None
    wrong(rig)
    summary = rig.sanitizer.summary()
    assert summary is not None
    assert "1 sequence" in summary
    assert "2 records" in summary


def test_what_the_model_refuses_is_a_finding_unless_it_was_injected() -> None:
    rig = Watched()
    rig.tracer.emit(QueueError("CQ", 5, 9, "overrun: a completion had no room"))
    rig.tracer.emit(DoorbellIgnored("SQ", 0x77, "no such queue"))
    rig.tracer.emit(FaultInjected(1, "cqe-error", 1, "a WQE fails"))
    rig.tracer.emit(QueueError("SQ", 7, 9, "the injected fault"))
    rig.tracer.emit(QueueError("SQ", 7, 9, "the doorbell record says 9, behind the ring's end"))
    assert [type(found) for found in rig.findings] == [BadUse] * 3
    assert "overrun" in rig.findings[0].sentence()
    assert rig.findings[2].wqe == 9
    assert isinstance(rig.sink.records[0], Record)


def test_words() -> None:
    values = of_flags(["nonce=fail,keys=100", "resync=ignore"])
    chosen = options(Entry("x", values))
    assert chosen is not None
    assert chosen.policies[Kind.NONCE] is Policy.FAIL
    assert chosen.policies[Kind.RESYNC] is Policy.IGNORE
    assert chosen.policies[Kind.PLAINTEXT] is Policy.REPORT
    assert chosen.limits == {"keys": 100}
    assert options(Entry("x", of_flags(["off"]))) is None
    assert options(Entry("x", {})) == SanitizerOptions()


@pytest.mark.parametrize(
    ("text", "word"),
    [("nonce", "KEY=VALUE"), ("nonse=fail", "nonce"), ("nonce=fial", "fail"), ("keys=x", "whole")],
)
def test_mistakes(text: str, word: str) -> None:
    with pytest.raises(UserError, match=word):
        options(Entry("--sanitizer", of_flags([text])))


def test_a_limit_below_nothing() -> None:
    with pytest.raises(UserError, match="less than nothing"):
        options(Entry("x", {"keys": -1}))
