# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run may choose: a policy for each kind of finding, and limits."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from nicmodel.entry import Entry, check_known
from nicmodel.errors import UserError
from nicmodel.sanitizer.findings import Kind, Policy

LIMITS = (
    "resyncs_per_record",
    "params_octets",
    "dump_octets",
    "contexts",
    "keys",
)
"""Limits that can be set; each is a finding of kind ``resync`` when it is exceeded:

resyncs that began one record of a context; bytes of parameter WQEs, and of data that DUMPs read
again, in one life of the device; contexts and key objects that are in use at one time.
"""

KEYS = ("enabled", *Kind, *LIMITS)
"""Keys of ``[sanitizer]``."""


@dataclass(frozen=True, slots=True)
class SanitizerOptions:
    """``limits`` has those that are set, by name."""

    policies: Mapping[Kind, Policy] = field(
        default_factory=lambda: MappingProxyType(dict.fromkeys(Kind, Policy.REPORT))
    )
    limits: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))


def options(entry: Entry) -> SanitizerOptions | None:
    """Read ``entry``; None if it is not to run. Raises UserError for what makes no sense."""
    entry.check_keys(KEYS)
    if "enabled" in entry.values and not entry.flag("enabled"):
        return None
    policies = {kind: Policy(entry.known(kind, list(Policy), Policy.REPORT.value)) for kind in Kind}
    limits = {}
    for name in LIMITS:
        if name in entry.values:
            limits[name] = entry.whole(name, 0)
            if limits[name] < 0:
                raise entry.fault(name, f"{limits[name]} is less than nothing")
    return SanitizerOptions(MappingProxyType(policies), MappingProxyType(limits))


def of_flags(texts: Iterable[str]) -> dict[str, object]:
    """Values for ``options`` of words like ``off``, ``nonce=fail``, ``keys=100``."""
    values: dict[str, object] = {}
    for text in texts:
        for word in text.split(","):
            key, equals, value = word.partition("=")
            if word in ("on", "off"):
                values["enabled"] = word == "on"
            elif not equals:
                raise UserError(f"--sanitizer {text}: write off, or KEY=VALUE like nonce=fail")
            else:
                check_known(f"--sanitizer {text}", key, KEYS[1:])
                values[key] = int(value) if value.isdecimal() else value
    return values
