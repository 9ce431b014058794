# SPDX-License-Identifier: GPL-2.0-or-later
"""All commands by opcode."""

from types import ModuleType
from typing import Any

from nicmodel.command.declaration import Command
from nicmodel.command.verbs import (
    access_reg,
    counter,
    cq,
    domain,
    eq,
    flow,
    general_object,
    hca,
    mkey,
    pages,
    rq,
    rqt,
    sq,
    tir,
    tis,
    vport,
)

VERBS: tuple[ModuleType, ...] = (
    hca, pages, domain, mkey, eq, cq, sq, rq, tis, rqt, tir, flow, vport, counter, access_reg,
    general_object,
)  # fmt: skip
"""One module a family."""


def _collect() -> dict[int, Command[Any, Any]]:
    found: dict[int, Command[Any, Any]] = {}
    for module in VERBS:
        for item in vars(module).values():
            if isinstance(item, Command):
                if item.opcode in found:
                    raise TypeError(f"{item.opcode.name} is declared twice")
                found[item.opcode] = item
    return found


REGISTRY = _collect()
"""Opcode to command."""
