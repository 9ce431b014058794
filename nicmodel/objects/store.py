# SPDX-License-Identifier: GPL-2.0-or-later
"""All objects of one NIC."""

from collections.abc import Iterable
from dataclasses import replace

from nicmodel.errors import CommandError, QueueFault
from nicmodel.objects.flow import Steering
from nicmodel.objects.mkey import MemoryKey, TranslatedKey
from nicmodel.objects.port import L2Table
from nicmodel.objects.queue import CqConfig, EqConfig, PageList, RqConfig, SqConfig
from nicmodel.objects.table import ObjectTable
from nicmodel.objects.tls import Dek
from nicmodel.objects.transport import Rqt, Tir, Tis
from nicmodel.spec.cqe import CqeSyndrome
from nicmodel.spec.status import CommandStatus
from nicmodel.units import (
    CounterSet,
    Cqn,
    Dekn,
    Eqn,
    GuestAddr,
    Mkey,
    Pdn,
    Rqn,
    Rqtn,
    Sqn,
    Tdn,
    Tirn,
    Tisn,
    Uar,
)

_NUMBER = 0xFFFFFF
"""Most object numbers have 24 bits."""

MAX_OBJECTS = 1 << 16
"""Live objects of one kind: more than any driver asks for, few enough to keep."""

MAX_RQTS = 1 << 12
"""Live RQTs: each may hold 2048 numbers."""

MAX_QUEUE_PAGES = 1 << 20
"""Pages of all queues together (4 GiB): bounds what page lists a guest can make us keep."""

MAX_TRANSLATIONS = 1 << 21
"""Translation entries of all memory keys together (16 MiB): 16 receive queues as large as the
driver can make them (``en.h`` MLX5E_MAX_RQ_NUM_MTTS); one with default rings has 576."""


class Objects:
    """Tables of objects by kind; ``receive_version`` rises with everything that steers frames."""

    def __init__(self) -> None:
        self.receive_version = 0
        self.l2 = L2Table()
        changed = self._receive_changed
        # UAR pages below 5 do not work with the driver (uar.c); 0x1fff is the last in the BAR.
        self.uars: ObjectTable[Uar, Uar] = ObjectTable("UAR", 0x100, 0x1FFF)
        self.pds: ObjectTable[Pdn, Pdn] = ObjectTable("PD", 1, _NUMBER, limit=MAX_OBJECTS)
        self.tds: ObjectTable[Tdn, Tdn] = ObjectTable(
            "transport domain", 1, _NUMBER, limit=MAX_OBJECTS
        )
        # Index 1 with key byte 0 would be lkey 0x100, which ends scatter lists.
        self.mkeys: ObjectTable[Mkey, MemoryKey | TranslatedKey] = ObjectTable(
            "mkey", 2, _NUMBER, limit=MAX_OBJECTS
        )
        self.eqs: ObjectTable[Eqn, EqConfig] = ObjectTable("EQ", 1, 0xFF)
        self.cqs: ObjectTable[Cqn, CqConfig] = ObjectTable("CQ", 1, _NUMBER, limit=MAX_OBJECTS)
        self.sqs: ObjectTable[Sqn, SqConfig] = ObjectTable("SQ", 1, _NUMBER, limit=MAX_OBJECTS)
        self.rqs: ObjectTable[Rqn, RqConfig] = ObjectTable("RQ", 1, _NUMBER, limit=MAX_OBJECTS)
        self.deks: ObjectTable[Dekn, Dek] = ObjectTable("DEK", 1, _NUMBER, limit=MAX_OBJECTS)
        self.tises: ObjectTable[Tisn, Tis] = ObjectTable("TIS", 1, _NUMBER, limit=MAX_OBJECTS)
        self.tirs: ObjectTable[Tirn, Tir] = ObjectTable(
            "TIR", 1, _NUMBER, limit=MAX_OBJECTS, changed=changed
        )
        self.rqts: ObjectTable[Rqtn, Rqt] = ObjectTable(
            "RQT", 1, _NUMBER, limit=MAX_RQTS, changed=changed
        )
        self.counter_sets: ObjectTable[CounterSet, CounterSet] = ObjectTable(
            "queue counter set", 1, 0xFF
        )
        self.steering = Steering(self.tirs, changed)
        self._lkeys: dict[int, MemoryKey] = {}
        self._translated: dict[int, TranslatedKey] = {}
        self._queue_pages = 0
        self._translations = 0

    def tables(self) -> Iterable[ObjectTable[int, object]]:
        """Every table."""
        return [
            table
            for table in (*vars(self).values(), self.steering.tables, self.steering.groups)
            if isinstance(table, ObjectTable)
        ]

    def leaked(self) -> dict[str, int]:
        """How many objects of each kind are alive; empty when nothing is left behind."""
        return {table.kind: len(table) for table in self.tables() if len(table)}

    def clear(self) -> None:
        """Forget everything; all numbers are free again."""
        self.steering.clear()
        self.l2.clear()
        for table in self.tables():
            table.clear()
        self._lkeys.clear()
        self._translated.clear()
        self._queue_pages = 0
        self._translations = 0

    def check_pages(self, count: int) -> None:
        """Is there room for a queue of ``count`` pages? CommandError LIM if not."""
        if self._queue_pages + count > MAX_QUEUE_PAGES:
            raise CommandError(CommandStatus.LIM, f"no more than {MAX_QUEUE_PAGES} queue pages")

    def keep(self, buffer: PageList) -> None:
        """Count the pages of a queue that was created."""
        self._queue_pages += len(buffer.pages)

    def drop(self, buffer: PageList) -> None:
        """Undo ``keep``."""
        self._queue_pages -= len(buffer.pages)

    def check_translations(self, count: int) -> None:
        """Is there room for a memory key of ``count`` entries? CommandError LIM if not."""
        if self._translations + count > MAX_TRANSLATIONS:
            raise CommandError(CommandStatus.LIM, f"no more than {MAX_TRANSLATIONS} translations")

    def create_mkey(self, key: MemoryKey | TranslatedKey) -> Mkey:
        """Keep a memory key; the index is allocated, ``key.lkey`` has its low byte. Its index."""

        def make(index: Mkey) -> MemoryKey | TranslatedKey:
            return replace(key, lkey=Mkey(index << 8 | key.lkey & 0xFF))

        made = self.mkeys.create(make)
        if isinstance(made, TranslatedKey):
            self._translated[made.lkey] = made
            self._translations += len(made.table)
        else:
            self._lkeys[made.lkey] = made
        return Mkey(made.lkey >> 8)

    def destroy_mkey(self, index: Mkey) -> MemoryKey | TranslatedKey:
        """Forget the memory key with ``index``."""
        key = self.mkeys.remove(index)
        if isinstance(key, TranslatedKey):
            del self._translated[key.lkey]
            self._translations -= len(key.table)
        else:
            del self._lkeys[key.lkey]
        return key

    def translated_key(self, lkey: int) -> TranslatedKey | None:
        """The key with translation that ``lkey`` (32 bit) names, or None."""
        return self._translated.get(lkey)

    def lkey_valid(self, lkey: int) -> bool:
        """Is ``lkey`` (32 bit) a memory key?"""
        return lkey in self._lkeys or lkey in self._translated

    def translate(self, lkey: int, addr: int, length: int) -> GuestAddr:
        """Guest address of ``length`` bytes at ``addr`` under ``lkey``.

        Raises QueueFault with the syndrome of the error CQE.
        """
        key = self._lkeys.get(lkey)
        if key is None:
            return self._translate_by_table(lkey, addr, length)
        if key.everything or (key.start <= addr and addr + length <= key.start + key.length):
            return GuestAddr(addr)
        raise QueueFault(
            f"{length} bytes at {addr:#x} are outside lkey {lkey:#x}", CqeSyndrome.LOCAL_PROT_ERR
        )

    def _translate_by_table(self, lkey: int, addr: int, length: int) -> GuestAddr:
        key = self._translated.get(lkey)
        if key is None:
            raise QueueFault(f"there is no lkey {lkey:#x}", CqeSyndrome.LOCAL_PROT_ERR)
        found, room = next(key.pieces(addr, length))
        if room < length:
            raise QueueFault(
                f"{length} bytes at {addr:#x} lie in several pages of lkey {lkey:#x}",
                CqeSyndrome.LOCAL_PROT_ERR,
            )
        return found

    def _receive_changed(self) -> None:
        self.receive_version += 1
