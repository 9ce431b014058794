# SPDX-License-Identifier: GPL-2.0-or-later
"""What contexts and their resyncs cost, as counters of one life of the device."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

STATIC_OCTETS, PROGRESS_OCTETS = 192, 64
"""Bytes in the ring of the UMR and the SET_PSV (``ktls_txrx.h``, in whole WQEBBs)."""


@dataclass(slots=True)
class Accounts:
    """``contexts`` and ``keys``: those in use; ``most_...``: the most there were at one time.

    ``resyncs``: progress parameters beside the first ones of a context. ``resyncs_per_record``: the
    most that one record had. ``params_octets``: bytes of WQEs with parameters. ``records``: those
    that were encrypted whole. ``software_records``: of offloaded connections, encrypted by the
    driver's kernel, rightly. ``unjudged_octets``: sent without TIS by offloaded connections, where
    no record could be put together of them.
    """

    contexts: int = 0
    most_contexts: int = 0
    keys: int = 0
    most_keys: int = 0
    resyncs: int = 0
    resyncs_per_record: int = 0
    params_octets: int = 0
    dumps: int = 0
    dump_octets: int = 0
    records: int = 0
    software_records: int = 0
    unjudged_octets: int = 0

    def as_dict(self) -> dict[str, int]:
        """All of them by name."""
        return asdict(self)


class Limits:
    """Says once of each limit that it is exceeded."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        self._left = dict(limits)

    def exceeded(self, accounts: Accounts) -> Iterator[tuple[str, int, int]]:
        """Name, limit and count of each that is so for the first time."""
        for name, most in tuple(self._left.items()):
            count: int = getattr(accounts, name)
            if count > most:
                del self._left[name]
                yield name, most, count
