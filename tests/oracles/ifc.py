# SPDX-License-Identifier: GPL-2.0-or-later
"""Read structures from the kernel's headers, so that declared layouts can be compared with them.

``mlx5_ifc.h`` describes each structure as an array of bits: a member's length is its width in
bits. The plain C structures of ``device.h``, ``qp.h`` and ``driver.h`` have no padding beyond
natural alignment. One small parser serves both.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ENVIRONMENT = "NICMODEL_MLX5_IFC"
"""Environment variable with the path of ``mlx5_ifc.h``."""


def find_header() -> Path | None:
    """``mlx5_ifc.h`` from the environment or from the cache that ``make setup`` fills."""
    if given := os.environ.get(ENVIRONMENT):
        return Path(given)
    cache = os.environ.get("NICMODEL_CACHE")
    if not cache:
        cache = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")) + "/nicmodel"
    return next(iter(sorted(Path(cache).glob("**/mlx5_ifc.h"), reverse=True)), None)


@dataclass(frozen=True, slots=True)
class Member:
    """A member: ``start`` and ``width`` in bits; ``item`` the width of one element (0: no array).

    An array of unknown length has width 0.
    """

    start: int
    width: int
    item: int = 0


@dataclass(frozen=True, slots=True)
class Structure:
    """A structure's size in bits and its members; those of inner ones without a type name are
    named ``outer.inner``, or just ``inner`` if the outer has no name.
    """

    width: int
    members: dict[str, Member]


@dataclass(frozen=True, slots=True)
class _Declaration:
    """One parsed member: a type name or an inline body, a name, and array lengths."""

    type: str
    body: "tuple[_Declaration, ...] | None"
    union: bool
    name: str
    lengths: tuple[str, ...]
    packed: bool


_TOKEN = re.compile(r"[A-Za-z_]\w*|0[xX][0-9a-fA-F]+|\d+|[{}\[\];:(),+*\-/]")
_PLAIN = {
    "u8": 8, "__u8": 8, "u16": 16, "__be16": 16, "u32": 32, "__be32": 32, "u64": 64, "__be64": 64,
}  # fmt: skip


class Header:
    """The structures of one or more header files."""

    def __init__(self, text: str, *, bitwise: bool) -> None:
        """``bitwise``: the text is that of ``mlx5_ifc.h``; else members are plain integers."""
        self.bitwise = bitwise
        text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.S)
        self._numbers = {
            name: int(value, 0)
            for name, value in re.findall(
                r"^#define\s+(\w+)\s+(0x[0-9a-fA-F]+|\d+)\s*$", text, re.M
            )
        }
        self._numbers |= {
            name: int(value, 0)
            for name, value in re.findall(r"\b(MLX5_\w+)\s*=\s*(0x[0-9a-fA-F]+|\d+)\b", text)
        }
        text = re.sub(r"^\s*#(?:[^\n]*\\\n)*[^\n]*$", " ", text, flags=re.M)
        text = re.sub(r"struct_group\(\w+,(.*?)\);", r"struct { \1 };", text, flags=re.S)
        text = re.sub(r"DECLARE_FLEX_ARRAY\((\w+),\s*(\w+)\)", r"\1 \2[0]", text)
        self._bodies: dict[str, _Declaration] = {}
        for match in re.finditer(r"^(struct|union)\s+(\w+)\s*\{", text, re.M):
            tokens = (found.group() for found in _TOKEN.finditer(text, match.end()))
            body, union = tuple(_members(tokens)), match.group(1) == "union"
            packed = next(tokens, "") == "__packed"
            self._bodies[match.group(2)] = _Declaration("", body, union, "", (), packed)
        self._known: dict[str, Structure] = {}

    @classmethod
    def read(cls, ifc: Path) -> tuple["Header", "Header"]:
        """The structures of ``mlx5_ifc.h`` at ``ifc``, and the plain ones of its neighbours."""

        def text(*names: str) -> str:
            return "\n".join((ifc.parent / name).read_text() for name in names)

        bitwise = cls(text("mlx5_ifc.h", "mlx5_ifc_fpga.h"), bitwise=True)
        return bitwise, cls(text("device.h", "qp.h", "driver.h"), bitwise=False)

    def names(self) -> list[str]:
        """Names of all structures and unions."""
        return list(self._bodies)

    def structure(self, name: str) -> Structure:
        """The structure ``name``, for example ``mlx5_ifc_cqc_bits``. Raises KeyError."""
        if name not in self._known:
            self._known[name], _ = self._lay_out(self._bodies[name])
        return self._known[name]

    def _lay_out(self, whole: _Declaration) -> tuple[Structure, int]:
        """Size and members of ``whole``, and the alignment that C gives it, in bits."""
        members: dict[str, Member] = {}
        end, largest, strictest = 0, 0, 8
        for entry in whole.body or ():
            inner: Structure | None = None
            if entry.body is not None:
                inner, align = self._lay_out(entry)
                width = inner.width
            elif entry.type in _PLAIN or (self.bitwise and entry.type == "u8"):
                width = align = 1 if self.bitwise else _PLAIN[entry.type]
            else:
                width = self.structure(entry.type).width
                _, align = self._lay_out(self._bodies[entry.type])
            if not self.bitwise and not whole.packed:
                end = -(-end // align) * align
                strictest = max(strictest, align)
            start = 0 if whole.union else end
            lengths = [self._number(length) for length in entry.lengths]
            item = 0
            if self.bitwise and entry.type == "u8" and lengths:
                width *= lengths.pop()
            for length in reversed(lengths):
                item = item or width
                width *= length
            if entry.name:
                members[entry.name] = Member(start, width, item)
            if inner is not None:
                prefix = f"{entry.name}." if entry.name else ""
                members |= {
                    prefix + name: Member(start + member.start, member.width, member.item)
                    for name, member in inner.members.items()
                }
            end = start + width
            largest = max(largest, end)
        if not self.bitwise:
            largest = -(-largest // strictest) * strictest
        return Structure(largest, members), strictest

    def _number(self, text: str) -> int:
        return int(text, 0) if text[:1].isdigit() else self._numbers[text] if text else 0


def _members(tokens: Iterator[str]) -> Iterator[_Declaration]:
    """Members up to the closing brace."""
    for token in tokens:
        if token == "}":
            return
        if token == ";":
            continue
        kind, union, body = token, False, None
        if token in ("struct", "union"):
            union = token == "union"
            kind = next(tokens)
            if kind == "{":
                kind, body = "", tuple(_members(tokens))
        name, lengths, bitfield, packed = "", [], "", False
        for token in tokens:  # noqa: PLW2901
            if token == ";":
                break
            if token == "[":
                length = ""
                for token in tokens:  # noqa: PLW2901
                    if token == "]":
                        break
                    length += token
                lengths.append(length)
            elif token == ":":
                bitfield = next(tokens)
            elif token == "__packed":
                packed = True
            else:
                name = token
        if not bitfield:  # C bit fields have no place here: reserved bits of unused unions
            yield _Declaration(kind, body, union, name, tuple(lengths), packed)
