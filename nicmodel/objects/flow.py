# SPDX-License-Identifier: GPL-2.0-or-later
"""Flow tables, groups and entries of NIC receive, kept ready for lookup.

A key, a mask and a value are ``fte_match_set_lyr_2_4`` as one integer of 512 bits. The entries of
a group share its mask, so a group is a dictionary from value to entries, and a table with 64K
entries costs one look per group.
"""

from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntFlag

from nicmodel.errors import CommandError
from nicmodel.objects.table import ObjectTable
from nicmodel.objects.transport import Tir
from nicmodel.spec.status import CommandStatus
from nicmodel.spec.steering import MissAction
from nicmodel.units import GroupId, TableId, Tirn

__all__ = [
    "MAX_ENTRIES",
    "MAX_GROUPS",
    "MAX_TABLES",
    "Destinations",
    "FlowAction",
    "FlowEntry",
    "FlowGroup",
    "FlowTable",
    "MissAction",
    "Steering",
    "TableConfig",
]

MAX_TABLES = 1 << 12
"""Live flow tables; the driver needs fewer than 100."""

MAX_GROUPS = 1 << 14
"""Live flow groups."""

MAX_ENTRIES = 1 << 18
"""Live entries over all tables (``log_max_flow`` 18): bounds what a guest can make us keep."""


class FlowAction(IntFlag):
    """``flow_context.action`` (MLX5_FLOW_CONTEXT_ACTION_*): what the model executes."""

    ALLOW = 0x1
    """Nothing against it."""
    DROP = 0x2
    """Drop the frame."""
    FWD_DEST = 0x4
    """Hand the frame to all destinations."""


@dataclass(frozen=True, slots=True)
class Destinations:
    """Where an entry forwards to: first the TIRs, then the tables."""

    tirs: tuple[Tirn, ...] = ()
    tables: tuple[TableId, ...] = ()


@dataclass(frozen=True, slots=True)
class FlowEntry:
    """One entry; ``value`` is masked by its group."""

    index: int
    group_id: GroupId
    value: int
    action: FlowAction
    flow_tag: int
    destinations: Destinations


@dataclass(slots=True)
class FlowGroup:
    """Entries ``start`` to ``end`` (inclusive) of a table share ``mask``."""

    group_id: GroupId
    table_id: TableId
    start: int
    end: int
    mask: int
    entries: int = 0
    matches: dict[int, list[FlowEntry]] = field(default_factory=dict)
    """Entries by value, lowest index first."""


@dataclass(frozen=True, slots=True)
class TableConfig:
    """``flow_table_context``."""

    level: int
    log_size: int
    miss_action: MissAction
    miss_id: TableId


@dataclass(slots=True)
class FlowTable:
    """A table; ``groups`` are in the order of their indices."""

    table_id: TableId
    config: TableConfig
    groups: list[FlowGroup] = field(default_factory=list)
    entries: dict[int, FlowEntry] = field(default_factory=dict)


class Steering:
    """All tables of NIC receive and which one is first. ``changed`` is called on every change."""

    def __init__(self, tirs: ObjectTable[Tirn, Tir], changed: Callable[[], None]) -> None:
        self.root: TableId | None = None
        self.version = 0
        self.tables: ObjectTable[TableId, FlowTable] = ObjectTable(
            "flow table", 1, 0xFFFFFF, limit=MAX_TABLES
        )
        self.groups: ObjectTable[GroupId, FlowGroup] = ObjectTable(
            "flow group", 1, 0xFFFFFF, limit=MAX_GROUPS
        )
        self.entries = 0
        self._tirs = tirs
        self._changed = changed

    def create_table(self, config: TableConfig) -> FlowTable:
        """Add an empty table."""
        self._check_miss(config)
        table = self.tables.create(lambda number: FlowTable(number, config))
        self._touch()
        return table

    def modify_table(self, table_id: TableId, config: TableConfig) -> None:
        """Change what a table does on a miss."""
        self._check_miss(config)
        self.tables.get(table_id).config = config
        self._touch()

    def destroy_table(self, table_id: TableId) -> None:
        """Remove a table without groups; the root may go (``fs_core.c`` does it last)."""
        self.tables.remove(table_id)
        if self.root == table_id:
            self.root = None
        self._touch()

    def set_root(self, table_id: TableId | None) -> None:
        """Say where every frame starts; None drops all."""
        if table_id is not None:
            self.tables.get(table_id)
        self.root = table_id
        self._touch()

    def create_group(self, table_id: TableId, start: int, end: int, mask: int) -> FlowGroup:
        """Add a group for the entries ``start`` to ``end``."""
        table = self.tables.get(table_id)
        if not start <= end < 1 << table.config.log_size:
            raise CommandError(
                CommandStatus.BAD_PARAM,
                f"group {start}..{end} is outside table {table_id:#x}",
            )
        if any(start <= group.end and group.start <= end for group in table.groups):
            raise CommandError(
                CommandStatus.BAD_PARAM,
                f"group {start}..{end} overlaps another one of table {table_id:#x}",
            )
        group = self.groups.create(lambda number: FlowGroup(number, table_id, start, end, mask))
        insort(table.groups, group, key=lambda item: item.start)
        self.tables.hold([table_id])
        self._touch()
        return group

    def destroy_group(self, table_id: TableId, group_id: GroupId) -> None:
        """Remove a group without entries."""
        group = self._group(table_id, group_id)
        if group.entries:
            raise CommandError(
                CommandStatus.BAD_RES_STATE, f"flow group {group_id:#x} still has entries"
            )
        self.groups.remove(group_id)
        self.tables.get(table_id).groups.remove(group)
        self.tables.release([table_id])
        self._touch()

    def set_entry(self, table_id: TableId, entry: FlowEntry, *, modify: bool) -> None:
        """Add an entry, or with ``modify`` replace the one at its index."""
        table = self.tables.get(table_id)
        group = self._group(table_id, entry.group_id)
        if not group.start <= entry.index <= group.end:
            raise CommandError(
                CommandStatus.BAD_PARAM,
                f"flow index {entry.index} is outside group {entry.group_id:#x}",
            )
        if modify and entry.index not in table.entries:
            raise CommandError(CommandStatus.BAD_RES, f"there is no entry {entry.index} to modify")
        if not modify and entry.index in table.entries:
            raise CommandError(CommandStatus.BAD_RES_STATE, f"entry {entry.index} exists already")
        if not modify and self.entries >= MAX_ENTRIES:
            raise CommandError(CommandStatus.LIM, f"no more than {MAX_ENTRIES} flow entries")
        for tirn in entry.destinations.tirs:
            self._tirs.get(tirn)
        for number in entry.destinations.tables:
            self.tables.get(number)
        if modify:
            self._drop(table, entry.index)
        self._tirs.hold(entry.destinations.tirs)
        self.tables.hold(entry.destinations.tables)
        table.entries[entry.index] = entry
        insort(
            group.matches.setdefault(entry.value & group.mask, []),
            entry,
            key=lambda item: item.index,
        )
        group.entries += 1
        self.entries += 1
        self._touch()

    def entry(self, table_id: TableId, index: int) -> FlowEntry:
        """The entry at ``index``; CommandError BAD_RES if there is none."""
        try:
            return self.tables.get(table_id).entries[index]
        except KeyError:
            raise CommandError(
                CommandStatus.BAD_RES, f"there is no entry {index} in table {table_id:#x}"
            ) from None

    def delete_entry(self, table_id: TableId, index: int) -> None:
        """Remove the entry at ``index``."""
        self.entry(table_id, index)
        self._drop(self.tables.get(table_id), index)
        self._touch()

    def clear(self) -> None:
        """Forget everything."""
        self.root = None
        self.tables.clear()
        self.groups.clear()
        self.entries = 0
        self._touch()

    def _drop(self, table: FlowTable, index: int) -> None:
        entry = table.entries.pop(index)
        group = self.groups.get(entry.group_id)
        value = entry.value & group.mask
        group.matches[value].remove(entry)
        if not group.matches[value]:
            del group.matches[value]
        group.entries -= 1
        self.entries -= 1
        self._tirs.release(entry.destinations.tirs)
        self.tables.release(entry.destinations.tables)

    def _group(self, table_id: TableId, group_id: GroupId) -> FlowGroup:
        self.tables.get(table_id)
        group = self.groups.get(group_id)
        if group.table_id != table_id:
            raise CommandError(
                CommandStatus.BAD_RES, f"table {table_id:#x} has no group {group_id:#x}"
            )
        return group

    def _check_miss(self, config: TableConfig) -> None:
        if config.miss_action is MissAction.FORWARD:
            self.tables.get(config.miss_id)

    def _touch(self) -> None:
        self.version += 1
        self._changed()
