# SPDX-License-Identifier: GPL-2.0-or-later
"""One declaration per structure, two speeds.

A layout is a frozen, typed dataclass whose fields say where they lie, in the notation of the PRM:
byte offset of a big-endian dword, most and least significant bit::

    @layout(0x40, ifc="cqc")
    class Cqc(Layout):
        c_eqn: Eqn = bits(0x14, 7, 0)

``decode`` and ``encode`` are compiled from the declaration into one ``struct`` format and shifts,
as ``dataclasses`` compiles ``__init__``; ``as_construct`` makes the same declaration part of a
``construct`` message. The size stands at the declaration; fields that overlap or do not fit are
refused at import. Bits that no field names are reserved: ignored by ``decode``, zero by ``encode``.
"""

import dataclasses
import enum
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, TypeVar, dataclass_transform, get_args

import construct

Buffer = bytes | bytearray | memoryview
Kind = Literal["bits", "raw", "ints", "nested", "tail"]


class LayoutError(ValueError):
    """Bytes too short, a value that its field cannot hold, or no member of an enumeration."""


@dataclass(frozen=True, slots=True)
class Span:
    """Where a field lies.

    ``start`` and ``width`` in bits from the start of the structure, most significant bit first; a
    tail has width 0. ``item`` is the width of one element of an array, in bits. ``of`` is the
    member of the C structure of which the field is a part, or its names in several kernels.
    """

    kind: Kind
    start: int
    width: int
    item: int = 0
    of: str = ""


class Layout:
    """Base of all layouts; what ``layout`` fills in."""

    __slots__ = ()
    SIZE: ClassVar[int] = 0
    """Bytes of the fixed part."""
    IFC: ClassVar[str] = ""
    """Name of the structure in ``mlx5_ifc.h``, without ``mlx5_ifc_`` and ``_bits``."""
    C: ClassVar[str] = ""
    """Name of the C structure in ``device.h``, ``qp.h`` or ``driver.h``."""
    SPANS: ClassVar[dict[str, Span]] = {}
    PREFIX: ClassVar[bool] = False
    """Is the structure of the header longer, by what nobody needs and kernels differ in?"""
    TAIL: ClassVar[bool] = False
    """Does an array of variable length follow the fixed part?"""

    @classmethod
    def decode(cls, data: Buffer, offset: int = 0) -> Self:
        """Read one at ``offset`` bytes into ``data``; a tail takes all that follows.

        Raises LayoutError if ``data`` is too short or a field holds no member of its enumeration.
        """
        raise NotImplementedError

    def encode(self) -> bytes:
        """The bytes, ``SIZE`` and the tail. Raises LayoutError if a value does not fit."""
        raise NotImplementedError


L = TypeVar("L", bound=Layout)


def bits(offset: int, msb: int, lsb: int, *, of: str = "", default: int = 0) -> Any:
    """Bits ``msb`` to ``lsb`` of the dword at byte ``offset``."""
    if offset % 4 or not 0 <= lsb <= msb <= 31:
        raise TypeError(f"{offset:#x}[{msb}:{lsb}] is not a field of a dword")
    return _field(Span("bits", offset * 8 + 31 - msb, msb - lsb + 1, of=of), default)


def u8(offset: int, *, of: str = "", default: int = 0) -> Any:
    """The byte at ``offset``."""
    return _field(Span("bits", offset * 8, 8, of=of), default)


def u16(offset: int, *, of: str = "", default: int = 0) -> Any:
    """The 16 bits at byte ``offset``."""
    return _field(Span("bits", offset * 8, 16, of=of), default)


def u32(offset: int, *, of: str = "", default: int = 0) -> Any:
    """The dword at byte ``offset``."""
    return _field(Span("bits", offset * 8, 32, of=of), default)


def u64(offset: int, *, of: str = "", default: int = 0) -> Any:
    """The 64 bits at byte ``offset``."""
    return _field(Span("bits", offset * 8, 64, of=of), default)


def raw(offset: int, length: int, *, of: str = "") -> Any:
    """``length`` bytes at ``offset``, as they are."""
    return _field(Span("raw", offset * 8, length * 8, of=of), bytes(length))


def ints(offset: int, width: int, count: int, *, of: str = "") -> Any:
    """``count`` integers of ``width`` bits (8, 16, 32 or 64) from byte ``offset``."""
    return _field(Span("ints", offset * 8, width * count, width, of), (0,) * count)


def nested(offset: int) -> Any:
    """Another layout at byte ``offset``; its class is the annotation."""
    return _field(Span("nested", offset * 8, 0), None)


def tail(offset: int, width: int = 0, *, of: str = "") -> Any:
    """What follows the fixed part: integers of ``width`` bits, or, if 0, as the annotation says.

    That is ``bytes`` or ``tuple[L, ...]`` with a layout L.
    """
    return _field(Span("tail", offset * 8, 0, width, of), ())


def _field(span: Span, default: object) -> Any:
    return dataclasses.field(default=default, metadata={"span": span})


_CODES = {8: "B", 16: "H", 32: "I", 64: "Q"}


@dataclass_transform(kw_only_default=True, frozen_default=True)
def layout(
    size: int, *, ifc: str = "", c: str = "", prefix: bool = False
) -> Callable[[type[L]], type[L]]:
    """Make the class a frozen dataclass of ``size`` bytes that can decode and encode itself.

    ``ifc`` names the structure in ``mlx5_ifc.h``, ``c`` the plain C structure that it is; tests
    compare the declaration with the kernel's headers by these names. ``prefix``: see
    ``Layout.PREFIX``.
    """

    def decorate(cls: type[L]) -> type[L]:
        annotations = dict(cls.__annotations__)
        spans: dict[str, Span] = {}
        for name, kind in annotations.items():
            field = cls.__dict__.get(name)
            if not isinstance(field, dataclasses.Field):
                raise TypeError(f"{cls.__name__}.{name} does not say where it lies")
            span: Span = field.metadata["span"]
            if span.kind == "nested":
                span = dataclasses.replace(span, width=kind.SIZE * 8)
                field.default = kind()
            elif span.kind == "tail" and kind is bytes:
                field.default = b""
            elif span.kind == "bits":
                field.default = _member(kind, field.default)
            spans[name] = span
        _check(cls.__name__, size, spans, annotations)
        made: Any = dataclass(frozen=True, slots=True, kw_only=True, init=False)(cls)
        made.SIZE = size
        made.IFC = ifc
        made.C = c
        made.PREFIX = prefix
        made.SPANS = spans
        made.TAIL = any(
            span.kind == "tail" or (span.kind == "nested" and annotations[name].TAIL)
            for name, span in spans.items()
        )
        _compile(made, size, spans, annotations)
        return made  # type: ignore[no-any-return]

    return decorate


def _member(kind: Any, value: Any) -> Any:
    """The default of a field as its annotation has it."""
    if kind is bool:
        return bool(value)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        try:
            return kind(value)
        except ValueError:
            return next(iter(kind))
    return value


def _check(name: str, size: int, spans: dict[str, Span], annotations: dict[str, Any]) -> None:
    """Refuse overlaps, fields beyond the end, and tails that do not start there."""
    end, last = 0, ""
    for field, span in sorted(spans.items(), key=lambda item: item[1].start):
        if span.start < end:
            raise TypeError(f"{name}.{field} overlaps {name}.{last}")
        end, last = span.start + span.width, field
        if span.kind == "tail" and span.start != size * 8:
            raise TypeError(f"{name}.{field} does not start at the end of {name}")
        if span.kind == "nested" and annotations[field].TAIL and end != size * 8:
            raise TypeError(f"{name}.{field} has a tail but is not the last of {name}")
    if end > size * 8:
        raise TypeError(f"{name}.{last} ends beyond {size:#x} bytes")


@dataclass(slots=True)
class _Word:
    """One element of the struct format, and the fields in it."""

    start: int
    width: int
    fields: list[tuple[str, Span]]


def _words(spans: dict[str, Span]) -> list[_Word]:
    """Join bit fields that share a dword; whole bytes, halves, dwords and qwords stand alone."""
    words: list[_Word] = []
    dwords: dict[int, list[tuple[str, Span]]] = {}
    for name, span in spans.items():
        if span.kind == "bits" and span.width < 64 and span.start % 32 + span.width <= 32:
            dwords.setdefault(span.start // 32, []).append((name, span))
        elif span.kind in ("bits", "raw", "ints"):
            words.append(_Word(span.start, span.width, [(name, span)]))
    for index, fields in dwords.items():
        if all(span.width in _CODES and span.start % 8 == 0 for _, span in fields):
            words += [_Word(span.start, span.width, [(name, span)]) for name, span in fields]
        else:
            words.append(_narrowest(index * 32, fields))
    return sorted(words, key=lambda word: word.start)


def _narrowest(start: int, fields: list[tuple[str, Span]]) -> _Word:
    """The smallest byte, half or dword of the dword at ``start`` that has all ``fields``."""
    first = min(span.start for _, span in fields)
    last = max(span.start + span.width for _, span in fields) - 1
    for width in (8, 16):
        if first // width == last // width:
            return _Word(first // width * width, width, fields)
    return _Word(start, 32, fields)


def _compile(cls: Any, size: int, spans: dict[str, Span], annotations: dict[str, Any]) -> None:
    """Generate ``__init__``, ``decode`` and ``encode`` of ``cls``."""
    fmt, position, names, sets, values, checks = ">", 0, [], [], [], []
    scope: dict[str, Any] = {"cls": cls, "new": object.__new__, "LayoutError": LayoutError}
    tails: list[str] = []
    patches: list[str] = []
    for number, word in enumerate(_words(spans)):
        fmt += f"{gap}x" if (gap := word.start // 8 - position) else ""
        position = (word.start + word.width) // 8
        first, span = word.fields[0]
        local = f"w{number}"
        if span.kind == "raw":
            fmt += f"{span.width // 8}s"
            names.append(local)
            sets.append(f"set_{first}(self, {local})")
            checks.append(f"len(self.{first}) != {span.width // 8}")
            values.append(f"self.{first}")
            continue
        if span.kind == "ints":
            count = span.width // span.item
            fmt += f"{count}{_CODES[span.item]}"
            items = [f"{local}_{item}" for item in range(count)]
            names += items
            sets.append(f"set_{first}(self, ({', '.join(items)},))")
            checks.append(f"len(self.{first}) != {count}")
            values.append(f"*self.{first}")
            continue
        fmt += _CODES[word.width]
        names.append(local)
        parts = []
        for name, part in word.fields:
            shift = word.start + word.width - part.start - part.width
            text = f"{local} >> {shift}" if shift else local
            if part.start > word.start:
                text = f"{text} & {(1 << part.width) - 1:#x}"
            sets.append(f"set_{name}(self, {_typed(name, annotations[name], text, scope)})")
            checks.append(f"self.{name} >> {part.width}")
            parts.append(f"self.{name} << {shift}" if shift else f"self.{name}")
        values.append(" | ".join(parts))
    fmt += f"{size - position}x" if size > position else ""
    for name, span in spans.items():
        start = span.start // 8
        if span.kind == "nested":
            scope[f"type_{name}"] = annotations[name]
            sets.append(f"set_{name}(self, type_{name}.decode(data, offset + {start}))")
            end = "" if annotations[name].TAIL else start + annotations[name].SIZE
            patches.append(f"out[{start}:{end}] = self.{name}.encode()")
        elif span.kind == "tail":
            read_tail, write_tail = _compile_tail(name, span, annotations[name], scope)
            sets.append(read_tail)
            tails.append(write_tail)
    packed = struct.Struct(fmt)
    assert packed.size == size, (cls.__name__, packed.size, size)
    scope |= {f"set_{name}": getattr(cls, name).__set__ for name in spans}
    scope |= {"unpack_from": packed.unpack_from, "pack": packed.pack, "struct": struct}
    read = f"({', '.join(names)},) = unpack_from(data, offset)" if names else "pass"
    body = "\n    ".join(sets)
    guard = "\n    ".join(
        f"if {check}:\n        raise LayoutError('a field of {cls.__name__} does not fit: ' "
        f"{check.split('.')[1].split()[0].rstrip(')')!r})"
        for check in checks
    )
    short = f"{cls.__name__} needs {size:#x} bytes"
    result = f"pack({', '.join(values)})" + "".join(f" + {text}" for text in tails)
    if patches:
        lines = "\n    ".join(patches)
        result = f"bytearray({result})"
        finish = f"out = {result}\n    {lines}\n    return bytes(out)"
    else:
        finish = f"return {result}"
    # The frozen dataclass's own __init__ goes through object.__setattr__: three times slower.
    scope |= {f"default_{field.name}": field.default for field in dataclasses.fields(cls)}
    arguments = "".join(f", {name}=default_{name}" for name in spans)
    keywords = f", *{arguments}" if spans else ""
    stores = "\n    ".join(f"set_{name}(self, {name})" for name in spans)
    source = (
        f"def __init__(self{keywords}):\n    {stores or 'pass'}\n"
        f"def decode(data, offset=0):\n"
        f"    if len(data) - offset < {size}:\n        raise LayoutError({short!r})\n"
        f"    {read}\n    self = new(cls)\n    {body or 'pass'}\n    return self\n"
        f"def encode(self):\n    {guard or 'pass'}\n    {finish}\n"
    )
    exec(source, scope)  # only names and numbers of the declaration are in it
    cls.__init__ = scope["__init__"]
    cls.decode = staticmethod(scope["decode"])
    cls.encode = scope["encode"]


def _typed(name: str, kind: Any, text: str, scope: dict[str, Any]) -> str:
    """The expression that turns the integer ``text`` into what the annotation says."""
    if kind is bool:
        return f"({text}) != 0"
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        scope[f"type_{name}"] = _converter(kind, name)
        return f"type_{name}({text})"
    return text


def _converter(kind: type[enum.Enum], name: str) -> Callable[[int], enum.Enum]:
    if issubclass(kind, enum.Flag):
        return kind
    members = {member.value: member for member in kind}

    def convert(value: int) -> enum.Enum:
        try:
            return members[value]
        except KeyError:
            raise LayoutError(f"{name} = {value:#x} is no {kind.__name__}") from None

    return convert


def _compile_tail(name: str, span: Span, kind: Any, scope: dict[str, Any]) -> tuple[str, str]:
    """The statement that reads the tail ``name``, and the expression of its bytes."""
    start = span.start // 8
    if span.item:
        code, step = _CODES[span.item], span.item // 8
        read = (
            f"struct.unpack_from("
            f"f'>{{(len(data) - offset - {start}) // {step}}}{code}', data, offset + {start})"
        )
        write = f"struct.pack(f'>{{len(self.{name})}}{code}', *self.{name})"
    elif kind is bytes:
        read = f"bytes(data[offset + {start}:])"
        write = f"self.{name}"
    else:
        element = get_args(kind)[0]
        scope[f"type_{name}"] = element
        stop = f"len(data) - {element.SIZE - 1}"
        read = (
            f"tuple(type_{name}.decode(data, at)"
            f" for at in range(offset + {start}, {stop}, {element.SIZE}))"
        )
        write = f"b''.join(item.encode() for item in self.{name})"
    return f"set_{name}(self, {read})", write


class LayoutConstruct(construct.Construct):  # type: ignore[misc,type-arg,unused-ignore]
    """A layout as a ``construct`` member: parses to, and builds from, the dataclass."""

    def __init__(self, cls: type[Layout]) -> None:
        super().__init__()
        self.layout = cls

    def _parse(self, stream: Any, context: Any, path: str) -> Layout:
        data = construct.stream_read(stream, self.layout.SIZE, path)
        if self.layout.TAIL:
            data += construct.stream_read_entire(stream, path)
        return self.layout.decode(data)

    def _build(self, obj: Layout, stream: Any, context: Any, path: str) -> Any:
        data = obj.encode()
        construct.stream_write(stream, data, len(data), path)
        return obj

    def _sizeof(self, context: Any, path: str) -> int:
        if self.layout.TAIL:
            raise construct.SizeofError(f"{self.layout.__name__} has no fixed size", path=path)
        return self.layout.SIZE


def as_construct(cls: type[Layout]) -> LayoutConstruct:
    """``cls`` as a member of a ``construct.Struct``."""
    return LayoutConstruct(cls)
