# SPDX-License-Identifier: GPL-2.0-or-later
"""Enumerations against the kernel's headers."""

import re
from enum import IntEnum

import pytest

from nicmodel.spec.cqe import CqeOpcode, CqeSyndrome
from nicmodel.spec.eqe import EventType
from nicmodel.spec.opcodes import CommandOpcode
from nicmodel.spec.registers import RegisterId
from nicmodel.spec.status import CommandStatus
from nicmodel.spec.wqe import WqeOpcode
from tests.oracles.ifc import ENVIRONMENT, find_header

CATALOGUES: list[tuple[type[IntEnum], str, str]] = [
    (CommandOpcode, "mlx5_ifc.h", "MLX5_CMD_OP_"),
    (WqeOpcode, "device.h", "MLX5_OPCODE_"),
    (EventType, "device.h", "MLX5_EVENT_TYPE_"),
    (CommandStatus, "device.h", "MLX5_CMD_STAT_"),
    (CqeSyndrome, "cq.h", "MLX5_CQE_SYNDROME_"),
    (CqeOpcode, "cq.h", "MLX5_CQE_"),
    (RegisterId, "driver.h", "MLX5_REG_"),
]


@pytest.mark.parametrize(("catalogue", "header", "prefix"), CATALOGUES)
def test_members_have_the_kernels_numbers(
    catalogue: type[IntEnum], header: str, prefix: str
) -> None:
    path = find_header()
    if path is None:
        pytest.skip(f"mlx5_ifc.h is missing: run `make setup`, or set {ENVIRONMENT} to its path")
    text = (path.parent / header).read_text()
    known = {
        name: int(value, 0)
        for name, value in re.findall(rf"\b{prefix}(\w+)\s*=\s*(0x[0-9a-fA-F]+|\d+)", text)
    }
    for member in catalogue:
        assert kernel_number(known, member.name) == member, member.name


def kernel_number(known: dict[str, int], name: str) -> int | None:
    """The kernel says LIM_ERR and the like where the specification says LIM."""
    return known.get(name, known.get(f"{name}_ERR"))
