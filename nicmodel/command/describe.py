# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of supported commands, for ``nicmodel commands`` and the documentation."""

from dataclasses import dataclass

from nicmodel.command.registry import REGISTRY


@dataclass(frozen=True, slots=True)
class Row:
    """One command: its number and name, what it does here, and the fields that are used."""

    opcode: int
    name: str
    sentence: str
    request: tuple[str, ...]
    reply: tuple[str, ...]


def rows() -> list[Row]:
    """All commands by opcode."""
    return [
        Row(
            int(command.opcode),
            command.opcode.name,
            " ".join(command.sentence.split()),
            tuple(command.request.SPANS),
            tuple(command.reply.SPANS),
        )
        for _, command in sorted(REGISTRY.items())
    ]
