# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables of numbered objects: allocation, lookup, references, limits."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar, cast

from nicmodel.errors import CommandError
from nicmodel.spec.status import CommandStatus

K = TypeVar("K", bound=int)
V = TypeVar("V")


class ObjectTable(Generic[K, V]):
    """Objects of one kind by number.

    Numbers run from ``first`` to ``last`` and are reused as late as possible, so that a stale one
    is noticed. ``limit`` objects may live at once. ``changed`` is called after every change.
    """

    def __init__(
        self,
        kind: str,
        first: int,
        last: int,
        *,
        limit: int | None = None,
        changed: Callable[[], None] | None = None,
    ) -> None:
        self.kind = kind
        self._first = first
        self._last = last
        self._limit = min(last - first + 1, limit or last)
        self._next = first
        self._items: dict[K, V] = {}
        self._held: Counter[K] = Counter()
        self._changed = changed

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[K]:
        return iter(self._items)

    def __contains__(self, number: object) -> bool:
        return number in self._items

    def values(self) -> Iterable[V]:
        """All objects."""
        return self._items.values()

    def create(self, make: Callable[[K], V]) -> V:
        """Allocate a number and keep what ``make`` returns for it. CommandError LIM if full."""
        if len(self._items) >= self._limit:
            raise CommandError(CommandStatus.LIM, f"no more than {self._limit} {self.kind}s")
        number = self._next
        while number in self._items:
            number = number + 1 if number < self._last else self._first
        self._next = number + 1 if number < self._last else self._first
        key = cast(K, number)
        item = self._items[key] = make(key)
        self._notify()
        return item

    def put(self, number: K, item: V) -> None:
        """Keep ``item`` under a number that somebody else has allocated."""
        self._items[number] = item
        self._notify()

    def find(self, number: K) -> V | None:
        """The object, or None."""
        return self._items.get(number)

    def get(self, number: K) -> V:
        """The object; CommandError BAD_RES if there is none."""
        try:
            return self._items[number]
        except KeyError:
            raise CommandError(
                CommandStatus.BAD_RES, f"there is no {self.kind} {number:#x}"
            ) from None

    def replace(self, number: K, item: V) -> None:
        """Put ``item`` in the place of an object that exists."""
        self.get(number)
        self._items[number] = item
        self._notify()

    def remove(self, number: K) -> V:
        """Forget the object; CommandError BAD_RES_STATE while something refers to it."""
        self.get(number)
        if users := self._held[number]:
            raise CommandError(
                CommandStatus.BAD_RES_STATE,
                f"{self.kind} {number:#x} is in use by {users} other objects",
            )
        item = self._items.pop(number)
        del self._held[number]
        self._notify()
        return item

    def hold(self, numbers: Iterable[K]) -> None:
        """Note that an object refers to ``numbers``, which exist."""
        self._held.update(numbers)

    def release(self, numbers: Iterable[K]) -> None:
        """Undo ``hold``."""
        self._held.subtract(numbers)

    def clear(self) -> None:
        """Forget everything; all numbers are free again."""
        self._items.clear()
        self._held.clear()
        self._next = self._first
        self._notify()

    def _notify(self) -> None:
        if self._changed is not None:
            self._changed()
