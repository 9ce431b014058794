# SPDX-License-Identifier: GPL-2.0-or-later
"""Topology: which NICs, switches, host taps and captures one run has, and how they are cabled.

It comes from a TOML file (or JSON with the same keys) and from flags of the command line; what
exists is valid. Each mistake is a UserError that names file, entry and key.
"""

import json
import os
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from nicmodel.command.caps import CONNECTX6DX, PROFILES, Profile
from nicmodel.entry import Entry, check_known
from nicmodel.errors import UserError
from nicmodel.faults.catalogue import Fault
from nicmodel.faults.words import parse
from nicmodel.listen import PATH_MAX
from nicmodel.pci.init_segment import COMMAND_TIMEOUT_MS, COMMAND_TIMEOUT_MS_MAX
from nicmodel.queues.arbiter import Policy
from nicmodel.sanitizer.options import KEYS as SANITIZER_KEYS
from nicmodel.sanitizer.options import SanitizerOptions, of_flags, options
from nicmodel.wire.rule import KEYS as RULE_KEYS
from nicmodel.wire.rule import Rule, of_words, rule

INTERFACE_NAME_MAX = 15
"""Longest name of a network interface, bytes (IFNAMSIZ without the NUL)."""

DEFAULT_SWITCH = "sw0"
"""The switch that is there when none is declared."""

_MAC = re.compile(r"([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}")


@dataclass(frozen=True, slots=True)
class NicSpec:
    """A NIC: the front-end connects to ``socket``; its cable leads to ``link``, a switch or NIC.

    ``command_timeout_ms``: how long the driver is asked to wait for a command.
    """

    name: str
    socket: Path
    mac: bytes
    link: str
    profile: Profile = CONNECTX6DX
    arbitration: Policy = Policy.FAIR
    command_timeout_ms: int = COMMAND_TIMEOUT_MS


@dataclass(frozen=True, slots=True)
class TapSpec:
    """A port named ``name``, cabled to ``switch``, that is interface ``interface`` of the host.

    ``netns`` is a network namespace by name or path; None is that of the process.
    """

    name: str
    interface: str
    netns: str | None
    switch: str


@dataclass(frozen=True, slots=True)
class CaptureSpec:
    """Both directions of NIC or tap ``port`` go to ``file``, which several captures may share.

    ``clear``: also as they are on the host's side of the NIC's crypto engine. ``keys``: file for
    the NIC's TLS keys, which several captures may share too.
    """

    port: str
    file: Path
    clear: bool = False
    keys: Path | None = None


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """A fault that NIC ``nic`` has from the start."""

    nic: str
    fault: Fault


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """A rule for the cable of NIC or tap ``nic``; those of one cable apply in order."""

    nic: str
    rule: Rule


@dataclass(frozen=True, slots=True)
class RunSpec:
    """Settings of the whole run.

    ``strict``: what is not implemented fails the run. ``events``: file for typed events, JSON
    lines. ``seed`` is for everything random. ``control``: socket that takes requests while it runs.
    """

    strict: bool = False
    events: Path | None = None
    seed: int = 0
    control: Path | None = None


@dataclass(frozen=True, slots=True)
class Topology:
    """One run, checked as a whole."""

    nics: tuple[NicSpec, ...]
    switches: tuple[str, ...]
    taps: tuple[TapSpec, ...]
    captures: tuple[CaptureSpec, ...]
    run: RunSpec
    faults: tuple[FaultSpec, ...] = ()
    links: tuple[LinkSpec, ...] = ()
    sanitizer: SanitizerOptions | None = None

    def cables(self) -> Iterator[tuple[str, str]]:
        """Pairs of names: a NIC or tap, and the switch or NIC at the other end; each cable once."""
        nics = {nic.name for nic in self.nics}
        done = set()
        for nic in self.nics:
            if nic.link not in nics:
                yield nic.name, nic.link
            elif nic.name not in done:
                done.add(nic.link)
                yield nic.name, nic.link
        for tap in self.taps:
            yield tap.name, tap.switch


@dataclass(frozen=True, slots=True)
class Flags:
    """What the command line says, in the words of the user."""

    nics: Sequence[str] = ()
    """NAME=SOCKET[,mac=MAC][,link=NAME]"""
    taps: Sequence[str] = ()
    """INTERFACE[@NETNS]"""
    captures: Sequence[str] = ()
    """PORT=FILE[,clear][,keys=FILE]"""
    links: Sequence[str] = ()
    """NIC,KEY=VALUE[,KEY=VALUE...]"""
    strict: bool = False
    events: Path | None = None
    seed: int | None = None
    control: Path | None = None
    sanitizer: Sequence[str] = ()
    """off, or KEY=VALUE"""


def load(path: Path | None, flags: Flags | None = None) -> Topology:
    """Read ``path`` (None: there is no file) and add what ``flags`` say.

    Relative paths are relative to the folder of the file, in flags to the current one.
    """
    tables = _Tables.empty() if path is None else _Tables.of_file(path)
    tables.add_flags(flags or Flags())
    return tables.topology()


_RUN_KEYS = ("strict", "events", "seed", "control")
_KEYS: dict[str, tuple[str, ...] | None] = {
    "nic": ("name", "socket", "mac", "link", "profile", "arbitration", "command_timeout_ms"),
    "switch": ("name",),
    "tap": ("name", "interface", "netns", "switch"),
    "capture": ("port", "file", "clear", "keys"),
    "link": ("nic", *RULE_KEYS),
    "fault": None,  # each kind has its own
}
_SINGLE = {"run": _RUN_KEYS, "sanitizer": SANITIZER_KEYS}
"""Tables of which there is one."""


@dataclass(slots=True)
class _Tables:
    """The description before it is checked."""

    lists: dict[str, list[Entry]]
    single: dict[str, Entry]

    @classmethod
    def empty(cls) -> "_Tables":
        lists: dict[str, list[Entry]] = {kind: [] for kind in _KEYS}
        return cls(lists, {kind: Entry("command line", {}, Path()) for kind in _SINGLE})

    @classmethod
    def of_file(cls, path: Path) -> "_Tables":
        document = _read(path)
        tables = cls.empty()
        for kind, content in document.items():
            check_known(str(path), kind, [*_KEYS, *_SINGLE])
            if kind in _SINGLE:
                if not isinstance(content, dict):
                    raise UserError(f"{path}: {kind} is one table; write [{kind}]")
                tables.single[kind] = Entry(f"{path}, [{kind}]", content, path.parent)
                tables.single[kind].check_keys(_SINGLE[kind])
                continue
            if not isinstance(content, list) or not all(isinstance(e, dict) for e in content):
                raise UserError(f"{path}: there can be several of {kind}; write [[{kind}]]")
            for number, values in enumerate(content, 1):
                entry = Entry(f"{path}, [[{kind}]] {number}", values, path.parent)
                if keys := _KEYS[kind]:
                    entry.check_keys(keys)
                tables.lists[kind].append(entry)
        return tables

    def add_flags(self, flags: Flags) -> None:
        for text in flags.nics:
            head, *options = text.split(",")
            values = _pair("--nic", text, head, ("name", "socket"), "NAME=SOCKET")
            for option in options:
                key, _, value = option.partition("=")
                check_known(f"--nic {text}", key, ("mac", "link"))
                values[key] = value
            self._add("nic", f"--nic {text}", values)
        for text in flags.taps:
            interface, at, netns = text.partition("@")
            values = {"name": interface, "interface": interface}
            self._add("tap", f"--tap {text}", values | ({"netns": netns} if at else {}))
        for text in flags.captures:
            self._add("capture", f"--capture {text}", capture_values(text))
        for text in flags.links:
            # a comma may stand in an expression too
            nic, *words = re.split(r",(?=[a-z_]+=(?!=))", text)
            self._add("link", f"--link {text}", {"nic": nic} | of_words(f"--link {text}", words))
        self.single["sanitizer"].values.update(of_flags(flags.sanitizer))
        run = self.single["run"].values
        if flags.strict:
            run["strict"] = True
        if flags.events is not None:
            run["events"] = str(flags.events.absolute())
        if flags.seed is not None:
            run["seed"] = flags.seed
        if flags.control is not None:
            run["control"] = str(flags.control.absolute())

    def _add(self, kind: str, place: str, values: dict[str, Any]) -> None:
        self.lists[kind].append(Entry(place, values, Path()))

    def topology(self) -> Topology:
        if not self.lists["nic"]:
            raise UserError("there is no NIC; give --nic NAME=SOCKET or a file with [[nic]]")
        switches = tuple(entry.name() for entry in self.lists["switch"]) or (DEFAULT_SWITCH,)
        names = [entry.name() for entry in chain(self.lists["nic"], self.lists["tap"])]
        _check_unique([*names, *switches], self.lists)
        nics = _nics(self.lists["nic"], switches)
        taps = tuple(_tap(entry, switches) for entry in self.lists["tap"])
        captures = tuple(_capture(entry, names, nics) for entry in self.lists["capture"])
        _check_files(captures, self.lists["capture"], nics)
        faults = tuple(_fault(entry, nics) for entry in self.lists["fault"])
        links = tuple(_link(entry, names) for entry in self.lists["link"])
        return Topology(
            nics,
            switches,
            taps,
            captures,
            _run(self.single["run"], nics),
            faults,
            links,
            options(self.single["sanitizer"]),
        )


def capture_values(text: str) -> dict[str, Any]:
    """What ``[[capture]]`` would have for the flag ``--capture`` with this value.

    Raises UserError.
    """
    # a comma may stand in a path too
    head, *options = re.split(r",(?=clear(?:,|$)|keys=)", text)
    values = _pair("--capture", text, head, ("port", "file"), "PORT=FILE")
    for option in options:
        key, _, value = option.partition("=")
        values[key] = value or True
    return values


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text()
        document = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid: {error}") from error
    if not isinstance(document, dict):
        raise UserError(f"{path} is not valid: it must be one object with the keys of a topology")
    return document


def _pair(flag: str, text: str, pair: str, keys: tuple[str, str], form: str) -> dict[str, Any]:
    left, equals, right = pair.partition("=")
    if not (left and equals and right):
        raise UserError(f"{flag} {text}: write {flag} {form}")
    return dict(zip(keys, (left, right), strict=True))


def _check_unique(names: list[str], lists: dict[str, list[Entry]]) -> None:
    seen: set[str] = set()
    for kind in ("nic", "tap", "switch"):
        for entry in lists[kind]:
            name = entry.name()
            if name in seen:
                raise entry.fault("name", f"{name} is used before; choose another one")
            seen.add(name)
    if len(names) != len(set(names)):
        raise UserError(f"{DEFAULT_SWITCH} is the name of the switch; choose another one")


def _nics(entries: list[Entry], switches: tuple[str, ...]) -> tuple[NicSpec, ...]:
    names = [entry.name() for entry in entries]
    links = _links(entries, names, switches)
    nics: list[NicSpec] = []
    for number, (entry, name) in enumerate(zip(entries, names, strict=True), 1):
        mac = _mac(entry, number)
        socket = _socket(entry, "socket")
        for other in nics:
            if other.mac == mac:
                raise entry.fault("mac", f"{other.name} has the same one; change one of them")
            if other.socket == socket:
                raise entry.fault("socket", f"{other.name} has the same one; change one of them")
        profile = PROFILES[_choice(entry, "profile", CONNECTX6DX.name, PROFILES)]
        policy = Policy(_choice(entry, "arbitration", Policy.FAIR, Policy))
        nics.append(
            NicSpec(name, socket, mac, links[name], profile, policy, _command_timeout(entry))
        )
    return tuple(nics)


def _socket(entry: Entry, key: str) -> Path:
    path = entry.path(key)
    length = len(os.fsencode(path))
    if length > PATH_MAX:
        raise entry.fault(
            key,
            f"the path has {length} bytes and a socket's may have {PATH_MAX}; choose a shorter one",
        )
    return path


def _links(entries: list[Entry], names: list[str], switches: tuple[str, ...]) -> dict[str, str]:
    """Where the cable of each NIC leads; one that others name needs no ``link`` of its own."""
    links: dict[str, str] = {}
    for entry, name in zip(entries, names, strict=True):
        if "link" in entry.values:
            links[name] = entry.text("link")
            check_known(f"{entry.place}, link", links[name], [*switches, *names])
    for name, link in tuple(links.items()):
        if link in names:
            links.setdefault(link, name)
    for entry, name in zip(entries, names, strict=True):
        if name not in links:
            links[name] = _switch(entry, "link", switches)
    for entry, name in zip(entries, names, strict=True):
        link = links[name]
        if link == name:
            raise entry.fault("link", f"{name} cannot be cabled to itself; name another one")
        if link in names and links[link] != name:
            raise entry.fault(
                "link", f"{link} is cabled to {links[link]} and has one port; name another one"
            )
    return links


def _switch(entry: Entry, key: str, switches: tuple[str, ...]) -> str:
    if key not in entry.values and len(switches) > 1:
        raise UserError(f"{entry.place}: {key} is missing; name one of {', '.join(switches)}")
    switch = entry.text(key, switches[0])
    check_known(f"{entry.place}, {key}", switch, switches)
    return switch


def _choice(entry: Entry, key: str, default: str, known: Iterable[str]) -> str:
    value = entry.text(key, default)
    check_known(f"{entry.place}, {key}", value, known)
    return value


def _mac(entry: Entry, number: int) -> bytes:
    text = entry.text("mac", f"02:00:00:00:00:{number:02x}" if number < 256 else None)
    if not _MAC.fullmatch(text):
        raise entry.fault("mac", f"{text!r} is no MAC address; write it like 02:00:00:00:00:01")
    mac = bytes.fromhex(text.replace(":", ""))
    if mac[0] & 1 or not any(mac):
        raise entry.fault(
            "mac", f"{text} cannot be that of a NIC; write one like 02:00:00:00:00:01"
        )
    return mac


def _command_timeout(entry: Entry) -> int:
    value = entry.whole("command_timeout_ms", COMMAND_TIMEOUT_MS)
    if not 1 <= value <= COMMAND_TIMEOUT_MS_MAX:
        raise entry.fault(
            "command_timeout_ms", f"{value} is not from 1 to {COMMAND_TIMEOUT_MS_MAX}"
        )
    return value


def _tap(entry: Entry, switches: tuple[str, ...]) -> TapSpec:
    name = entry.name()
    interface = entry.text("interface", name)
    if len(os.fsencode(interface)) > INTERFACE_NAME_MAX or re.search(r"[/\s:]", interface):
        raise entry.fault(
            "interface",
            f"{interface!r} is no name of an interface; use at most {INTERFACE_NAME_MAX} bytes "
            "without '/', ':' and blanks",
        )
    netns = entry.text("netns") if "netns" in entry.values else None
    return TapSpec(name, interface, netns, _switch(entry, "switch", switches))


def _capture(entry: Entry, ports: list[str], nics: tuple[NicSpec, ...]) -> CaptureSpec:
    port = entry.text("port")
    check_known(f"{entry.place}, port", port, ports)
    clear = entry.flag("clear")
    keys = entry.path("keys") if "keys" in entry.values else None
    if port not in [nic.name for nic in nics]:
        for key, wanted in (("clear", clear), ("keys", keys)):
            if wanted:
                raise entry.fault(key, f"{port} is a tap, it has no crypto engine; remove it")
    return CaptureSpec(port, entry.path("file"), clear, keys)


def _fault(entry: Entry, nics: tuple[NicSpec, ...]) -> FaultSpec:
    nic = entry.known("nic", [nic.name for nic in nics])
    return FaultSpec(nic, parse(entry, beside=("nic",)))


def _link(entry: Entry, ports: list[str]) -> LinkSpec:
    return LinkSpec(entry.known("nic", ports), rule(entry, also=("nic",)))


def _check_files(
    captures: tuple[CaptureSpec, ...], entries: list[Entry], nics: tuple[NicSpec, ...]
) -> None:
    sockets = {nic.socket for nic in nics}
    files = {capture.file for capture in captures}
    times = Counter((capture.port, capture.file) for capture in captures)
    for entry, capture in zip(entries, captures, strict=True):
        if capture.keys in sockets | files:
            raise entry.fault(
                "keys", f"{capture.keys} is that of a capture or NIC; choose another one"
            )
        if times[capture.port, capture.file] > 1:
            raise entry.fault("port", f"{capture.port} is captured twice into one file; remove one")
        if capture.file in sockets:
            raise entry.fault("file", f"{capture.file} is the socket of a NIC; choose another one")


def _run(entry: Entry, nics: tuple[NicSpec, ...]) -> RunSpec:
    events = entry.path("events") if "events" in entry.values else None
    control = _socket(entry, "control") if "control" in entry.values else None
    if control in {nic.socket for nic in nics}:
        raise entry.fault("control", f"{control} is the socket of a NIC; choose another one")
    return RunSpec(entry.flag("strict"), events, entry.whole("seed", 0), control)
