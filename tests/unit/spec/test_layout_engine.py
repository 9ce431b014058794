# SPDX-License-Identifier: GPL-2.0-or-later
"""The layout engine itself: what it refuses, and that construct sees the same bytes."""

from enum import IntEnum
from typing import Any

import construct
import pytest

from nicmodel.spec.eqe import Eqe
from nicmodel.spec.layout import (
    Layout,
    LayoutError,
    as_construct,
    bits,
    layout,
    nested,
    raw,
    tail,
    u8,
    u16,
    u32,
    u64,
)
from nicmodel.spec.wqe import CtrlSeg, DataSeg
from nicmodel.units import Mkey


class Color(IntEnum):
    RED = 1
    BLUE = 2


@layout(0x10)
class Sample(Layout):
    color: Color = bits(0x0, 31, 28)
    flag: bool = bits(0x0, 0, 0)
    half: int = u16(0x4)
    wide: int = u64(0x8)


@layout(0x18)
class Outer(Layout):
    first: int = u32(0x0)
    inner: Sample = nested(0x8)
    pas: tuple[int, ...] = tail(0x18, 64)


def test_bits_are_counted_from_the_least_significant_of_a_big_endian_dword() -> None:
    item = Sample(color=Color.BLUE, flag=True, half=0x1234, wide=0x0102030405060708)
    assert item.encode().hex() == "20000001" + "12340000" + "0102030405060708"
    assert Sample.decode(item.encode()).color is Color.BLUE


def test_a_value_that_is_no_member_of_its_enumeration_is_refused() -> None:
    with pytest.raises(LayoutError, match=r"color = 0x3 is no Color"):
        Sample.decode(b"\x30" + bytes(15))


@pytest.mark.parametrize("length", [0, 1, 15])
def test_too_few_bytes_are_refused(length: int) -> None:
    with pytest.raises(LayoutError, match="Sample needs 0x10 bytes"):
        Sample.decode(bytes(length))
    with pytest.raises(LayoutError):
        Sample.decode(bytes(20), 5)


@pytest.mark.parametrize("field", [{"half": 1 << 16}, {"half": -1}, {"wide": 1 << 64}])
def test_a_value_that_does_not_fit_is_refused(field: dict[str, int]) -> None:
    arguments: Any = field
    with pytest.raises(LayoutError, match=f"does not fit: {next(iter(field))}"):
        Sample(**arguments).encode()


def test_layouts_are_frozen() -> None:
    item: Any = Sample()
    with pytest.raises(AttributeError):
        item.half = 3


def test_overlapping_fields_are_refused_at_import() -> None:
    with pytest.raises(TypeError, match=r"Bad\.b overlaps Bad\.a"):

        @layout(0x4)
        class Bad(Layout):
            a: int = bits(0x0, 15, 8)
            b: int = bits(0x0, 8, 0)


def test_a_field_beyond_the_stated_size_is_refused_at_import() -> None:
    with pytest.raises(TypeError, match=r"Bad\.a ends beyond 0x4 bytes"):

        @layout(0x4)
        class Bad(Layout):
            a: int = u8(0x4)


def test_a_tail_that_is_not_at_the_end_is_refused_at_import() -> None:
    with pytest.raises(TypeError, match="does not start at the end"):

        @layout(0x8)
        class Bad(Layout):
            a: tuple[int, ...] = tail(0x4, 64)


def test_a_field_without_a_place_is_refused_at_import() -> None:
    with pytest.raises(TypeError, match="does not say where it lies"):

        @layout(0x8)
        class Bad(Layout):
            a: int = 3


def test_tails_take_whole_elements_only() -> None:
    data = Outer(first=7, pas=(1, 2)).encode()
    assert len(data) == 0x28
    assert Outer.decode(data + b"\xff" * 7).pas == (1, 2)


def test_construct_composes_layouts_with_its_own_parts() -> None:
    message = construct.Struct(
        "kind" / construct.Int16ub,
        "segments" / construct.Array(2, as_construct(DataSeg)),
        "rest" / as_construct(Outer),
    )
    first, second = DataSeg(byte_count=60), DataSeg(lkey=Mkey(0x200))
    outer = Outer(first=1, inner=Sample(half=2), pas=(3,))
    data = message.build({"kind": 5, "segments": [first, second], "rest": outer})
    assert data == b"\0\5" + first.encode() + second.encode() + outer.encode()
    parsed = message.parse(data)
    assert list(parsed.segments) == [first, second]
    assert parsed.rest == outer
    assert as_construct(Eqe).sizeof() == 64
    with pytest.raises(construct.SizeofError):
        as_construct(Outer).sizeof()


def test_raw_bytes_keep_their_length() -> None:
    @layout(0x8)
    class Mac(Layout):
        mac: bytes = raw(0x2, 6)

    assert Mac(mac=b"abcdef").encode() == b"\0\0abcdef"
    with pytest.raises(LayoutError):
        Mac(mac=b"abc").encode()


def test_ctrl_segment_as_the_driver_writes_it() -> None:
    # A SEND of 3 DS in SQ 0x1234 at index 0xfff0 that asks for a CQE (qp.h, en/txrx.h).
    seg = CtrlSeg.decode(bytes.fromhex("00fff00a" + "00123403" + "00000008" + "00000000"))
    assert (seg.opcode, seg.wqe_index, seg.sqn, seg.ds, seg.fm_ce_se) == (
        0x0A,
        0xFFF0,
        0x1234,
        3,
        8,
    )
