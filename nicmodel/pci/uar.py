# SPDX-License-Identifier: GPL-2.0-or-later
"""UAR pages: what a write to a doorbell register means (``uar.c``, ``eq.h``, ``doorbell.h``)."""

from struct import Struct
from typing import Protocol

from nicmodel.units import Cqn, Eqn, Sqn

CQ_DOORBELL = 0x20
"""8 bytes: sn, cmd and consumer index; CQN."""
EQ_ARM = 0x40
"""4 bytes: EQN and consumer index; arms the queue."""
EQ_UPDATE = 0x48
"""4 bytes: the same without arming."""
BLUEFLAME = 0x800
"""From here to the end of the page: send doorbells, 8 bytes, the start of a control segment."""

_PAIR = Struct(">II")
_ONE = Struct(">I")
_INDEX = 0xFFFFFF


class Doorbells(Protocol):
    """Who answers the doorbells."""

    def update_eq(self, eqn: Eqn, consumer: int, *, arm: bool) -> None:
        """EQ consumer index, with or without arming."""
        ...

    def arm_cq(self, cqn: Cqn, consumer: int) -> None:
        """CQ consumer index; the next completion shall raise an event."""
        ...

    def ring_sq(self, sqn: Sqn) -> None:
        """There are new WQEs."""
        ...


class UarDecoder:
    """Turns writes to UAR pages into doorbells.

    The 8-byte registers may be written at once or as two halves; the second half acts.
    """

    def __init__(self, doorbells: Doorbells) -> None:
        self._doorbells = doorbells
        self._half: tuple[int, bytes] = (-1, b"")

    def write(self, offset: int, data: bytes) -> bool:
        """Take a write at BAR offset ``offset``; false if it means nothing."""
        at = offset & 0xFFF
        if len(data) == 4 and at not in (EQ_ARM, EQ_UPDATE):
            if not at & 4:
                self._half = (offset, data)
                return at == CQ_DOORBELL or at >= BLUEFLAME
            start, first = self._half
            if start != offset - 4:
                return False
            self._half = (-1, b"")
            data = first + data
            at -= 4
        if at == CQ_DOORBELL and len(data) == 8:
            word, cqn = _PAIR.unpack(data)
            self._doorbells.arm_cq(cqn & _INDEX, word & _INDEX)
        elif at in (EQ_ARM, EQ_UPDATE) and len(data) == 4:
            (word,) = _ONE.unpack(data)
            self._doorbells.update_eq(Eqn(word >> 24), word & _INDEX, arm=at == EQ_ARM)
        elif at >= BLUEFLAME and len(data) == 8 and not at & 7:
            _, qpn_ds = _PAIR.unpack(data)
            self._doorbells.ring_sq(Sqn(qpn_ds >> 8))
        else:
            return False
        return True
