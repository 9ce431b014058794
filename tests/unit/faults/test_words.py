# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults as users write them, and the sentence for each way to get them wrong."""

from typing import Any

import pytest

from nicmodel.entry import Entry
from nicmodel.errors import UserError
from nicmodel.faults.catalogue import (
    CATALOGUE,
    CommandFailure,
    CqeError,
    EventQueue,
    Exhaustion,
    Fault,
    LostInterrupt,
    WorkQueue,
)
from nicmodel.faults.words import catalogue, describe, parse, words
from nicmodel.spec.cqe import CqeSyndrome
from nicmodel.spec.opcodes import CommandOpcode
from nicmodel.spec.status import CommandStatus


def said(text: str) -> Fault:
    kind, *pairs = text.split()
    return parse(Entry("fault", {"kind": kind, **words(pairs)}))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("cqe-error", CqeError()),
        (
            "cqe-error queue=rq number=0x13 syndrome=LOCAL_PROT_ERR after=3 count=0",
            CqeError(
                queue=WorkQueue.RQ,
                number=0x13,
                syndrome=CqeSyndrome.LOCAL_PROT_ERR,
                after=3,
                count=0,
            ),
        ),
        ("cqe-error syndrome=0x22", CqeError(syndrome=CqeSyndrome.REMOTE_ABORTED_ERR)),
        ("lost-interrupt reports=async", LostInterrupt(reports=EventQueue.ASYNC)),
        (
            "command-failure command=CREATE_SQ status=LIM syndrome=7 probability=0.5",
            CommandFailure(
                command=CommandOpcode.CREATE_SQ,
                status=CommandStatus.LIM,
                syndrome=7,
                probability=0.5,
            ),
        ),
        ("exhaustion objects=queue-counter-set", Exhaustion(objects="queue-counter-set")),
    ],
)
def test_faults(text: str, fault: Fault) -> None:
    assert said(text) == fault


@pytest.mark.parametrize("name", CATALOGUE)
def test_examples_are_right_and_every_fault_says_what_it_is(name: str) -> None:
    (example,) = (example for kind, _, example in catalogue() if kind == name)
    fault = said(f"{name} {example}")
    assert isinstance(fault, CATALOGUE[name])
    assert parse(Entry("fault", describe(fault))) == fault


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("cqe-eror", "fault, kind: cqe-eror is unknown; did you mean cqe-error?"),
        ("cqe-error qeue=sq", "fault: qeue is unknown; did you mean queue?"),
        ("cqe-error queue=cq", "fault, queue: cq is unknown; known are sq, rq"),
        ("cqe-error number=0", "fault, number: 0 is not from 1 to 16777215"),
        ("cqe-error number=x", 'fault, number: write a whole number instead of "x"'),
        ("cqe-error count=-1", "fault, count: -1 is not from 0 to 4294967296"),
        (
            "cqe-error syndrome=LOCAL_PROT",
            "fault, syndrome: LOCAL_PROT is unknown; did you mean LOCAL_PROT_ERR?",
        ),
        (
            "cqe-error syndrome=3",
            "fault, syndrome: write a name like LOCAL_LENGTH_ERR instead of 3",
        ),
        ("cqe-error probability=2", "fault, probability: write a number from 0 to 1 instead of 2"),
        (
            "cqe-error probability=nan",
            "fault, probability: write a number from 0 to 1 instead of NaN",
        ),
        ("health fatal=1", "fault, fatal: write true or false instead of 1"),
        (
            "command-timeout",
            'fault: command is missing; add command = "QUERY_HCA_CAP"',
        ),
        ("exhaustion", 'fault: objects is missing; add objects = "..."'),
        ("exhaustion objects=SQs", "fault, objects: SQs is unknown; did you mean SQ?"),
        ("cqe-error after", "after: write key=value"),
    ],
)
def test_mistakes(text: str, sentence: str) -> None:
    with pytest.raises(UserError) as error:
        said(text)
    assert str(error.value) == sentence


def test_a_fault_without_kind() -> None:
    values: dict[str, Any] = {}
    with pytest.raises(UserError, match="fault: kind is missing"):
        parse(Entry("fault", values))
