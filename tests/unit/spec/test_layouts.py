# SPDX-License-Identifier: GPL-2.0-or-later
"""Every declared layout against the kernel's headers, and against itself."""

import enum
import importlib
import pkgutil
from typing import Any, NewType, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nicmodel.spec
from nicmodel.spec.layout import Layout, Span
from tests.oracles.ifc import ENVIRONMENT, Header, Member, find_header


def declared() -> list[type[Layout]]:
    found: dict[str, type[Layout]] = {}
    for module in pkgutil.iter_modules(nicmodel.spec.__path__):
        name = f"{nicmodel.spec.__name__}.{module.name}"
        for item in vars(importlib.import_module(name)).values():
            if isinstance(item, type) and issubclass(item, Layout) and item is not Layout:
                found[item.__name__] = item
    return list(found.values())


LAYOUTS = declared()


@pytest.fixture(scope="module")
def headers() -> tuple[Header, Header]:
    path = find_header()
    if path is None:
        pytest.skip(f"mlx5_ifc.h is missing: run `make setup`, or set {ENVIRONMENT} to its path")
    return Header.read(path)


def test_there_are_layouts() -> None:
    assert len(LAYOUTS) > 120
    # packets of a protocol are in no header of the kernel
    device = [layout for layout in LAYOUTS if layout.__module__ != "nicmodel.spec.smt"]
    assert all(layout.IFC or layout.C for layout in device)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_size_and_every_field_are_those_of_the_header(
    layout: type[Layout], headers: tuple[Header, Header]
) -> None:
    bitwise, plain = headers
    for name in layout.IFC.split():
        compare(layout, bitwise, f"mlx5_ifc_{name}_bits")
    if layout.C:
        compare(layout, plain, layout.C)


def compare(layout: type[Layout], header: Header, name: str) -> None:
    structure = header.structure(name)
    bits = layout.SIZE * 8
    assert structure.width > bits if layout.PREFIX else structure.width == bits, f"size of {name}"
    for field, span in layout.SPANS.items():
        names = [of for of in span.of.split() if of in structure.members] or [span.of or field]
        where = f"{name}.{names[0]}"
        first, width = member(header, name, structure.members, names[0])
        if span.kind == "nested" and layout.__annotations__[field].PREFIX:
            assert first == span.start, where
            assert span.width < width, where
        elif span.of:  # a part of the member
            assert first <= span.start, where
            assert span.start + span.width <= first + width, where
        elif span.kind == "tail":
            assert (span.start, width) == (first, 0), where
        else:
            assert (span.start, span.width) == (first, width), where


def member(
    header: Header, structure: str, members: dict[str, Member], field: str
) -> tuple[int, int]:
    """Start and width of a member, or of a 64-bit counter that the header has as two halves."""
    if field in members:
        return members[field].start, members[field].width
    high, low = members[f"{field}_high"], members[f"{field}_low"]
    assert (high.width, low.width, low.start) == (32, 32, high.start + 32), structure
    return high.start, 64


def values(layout: type[Layout]) -> st.SearchStrategy[Layout]:
    annotations = layout.__annotations__
    fields: dict[str, Any] = {
        name: value(span, annotations[name]) for name, span in layout.SPANS.items()
    }
    return st.builds(layout, **fields)


def value(span: Span, kind: Any) -> st.SearchStrategy[Any]:
    if span.kind == "nested":
        return values(kind)
    if span.kind == "tail" and kind is bytes:
        return st.binary(max_size=64)
    if span.kind == "tail" and not span.item:
        return st.lists(values(get_args(kind)[0]), max_size=3).map(tuple)
    if span.kind == "raw" and span.width > 512:  # keep examples small
        return st.integers(0, 255).map(lambda byte: bytes([byte]) * (span.width // 8))
    if span.kind == "raw":
        return st.binary(min_size=span.width // 8, max_size=span.width // 8)
    if span.kind in ("ints", "tail"):
        count = span.width // span.item if span.kind == "ints" else None
        numbers = st.integers(0, (1 << span.item) - 1)
        if count is not None and count > 64:  # keep examples small
            return numbers.map(lambda number: (number,) * count)
        return st.lists(numbers, min_size=count or 0, max_size=count or 4).map(tuple)
    if kind is bool:
        return st.booleans()
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return st.sampled_from(kind)
    assert kind is int or isinstance(kind, NewType)
    return st.integers(0, (1 << span.width) - 1)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_round_trip(layout: type[Layout]) -> None:
    @settings(max_examples=10)
    @given(values(layout))
    def check(item: Layout) -> None:
        data = item.encode()
        assert len(data) >= layout.SIZE
        assert layout.decode(data) == item
        assert layout.decode(b"\xff\xff\xff" + data, 3) == item

    check()


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_each_field_lands_on_its_own_bits(layout: type[Layout]) -> None:
    """Set one field at a time to all ones: exactly its span may change."""
    zero = int.from_bytes(layout().encode(), "big")
    total = layout.SIZE * 8
    covered = 0
    for name, span in layout.SPANS.items():
        if span.kind in ("nested", "tail"):
            continue
        ones: Any = (1 << span.width) - 1
        if span.kind == "raw":
            ones = b"\xff" * (span.width // 8)
        elif span.kind == "ints":
            ones = ((1 << span.item) - 1,) * (span.width // span.item)
        elif isinstance(layout.__annotations__[name], type) and issubclass(
            layout.__annotations__[name], enum.Enum
        ):
            continue
        bits = int.from_bytes(layout(**{name: ones}).encode(), "big") ^ zero
        assert bits == ((1 << span.width) - 1) << (total - span.start - span.width), name
        assert not bits & covered, name
        covered |= bits
