# SPDX-License-Identifier: GPL-2.0-or-later
"""Guest memory against a plain model of it: a dictionary of bytes."""

import fcntl
import gc
import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nicmodel.errors import DmaFault, ProtocolError
from nicmodel.memory import MAX_REGIONS, GuestMemory, MemoryRegion

PAGE = mmap.PAGESIZE
HIGH = 1 << 32
# Two adjacent regions, a gap, one above 4 GiB, one that ends where 64 bits end.
REGIONS = [
    MemoryRegion(PAGE, PAGE),
    MemoryRegion(2 * PAGE, 2 * PAGE),
    MemoryRegion(HIGH, PAGE),
    MemoryRegion((1 << 64) - PAGE, PAGE),
]


def inside(addr: int, length: int) -> bool:
    """Whether every byte is in some region: the plain, slow answer."""
    return all(
        any(r.guest_addr <= byte < r.guest_addr + r.size for r in REGIONS)
        for byte in range(addr, addr + length)
    )


@pytest.fixture
def memory() -> Iterator[GuestMemory]:
    memory = GuestMemory.anonymous(REGIONS)
    yield memory
    memory.clear()


def memfd(size: int, seals: int = fcntl.F_SEAL_SHRINK) -> int:
    fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


edges = sorted({r.guest_addr + end for r in REGIONS for end in (0, r.size)})
addresses = st.one_of(
    st.builds(lambda e, d: max(0, e + d), st.sampled_from(edges), st.integers(-70, 70)),
    st.integers(0, (1 << 64) + 100),
)


@given(st.lists(st.tuples(addresses, st.binary(min_size=1, max_size=64)), max_size=12))
def test_reads_return_what_was_written_and_nothing_outside(
    accesses: list[tuple[int, bytes]],
) -> None:
    memory = GuestMemory.anonymous(REGIONS)
    model: dict[int, int] = {}
    for addr, data in accesses:
        if inside(addr, len(data)):
            memory.write(addr, data)
            model.update({addr + i: byte for i, byte in enumerate(data)})
        else:
            with pytest.raises(DmaFault) as fault:
                memory.write(addr, data)
            assert (fault.value.addr, fault.value.length) == (addr, len(data))
            assert fault.value.access == "write"
    for addr, data in accesses:
        length = len(data)
        if inside(addr, length):
            expected = bytes(model.get(addr + i, 0) for i in range(length))
            assert memory.read(addr, length) == expected
            target = bytearray(length)
            memory.read_into(addr, memoryview(target))
            assert target == expected
        else:
            with pytest.raises(DmaFault):
                memory.read(addr, length)
            with pytest.raises(DmaFault):
                memory.read_into(addr, memoryview(bytearray(length)))
    # Nothing that was refused has been written in part.
    for region in REGIONS:
        for offset, byte in enumerate(memory.read(region.guest_addr, region.size)):
            assert byte == model.get(region.guest_addr + offset, 0)


def test_an_access_may_cross_into_an_adjacent_region_only(memory: GuestMemory) -> None:
    data = bytes(range(16))
    memory.write(2 * PAGE - 8, data)
    assert memory.read(2 * PAGE - 8, 16) == data
    for addr in (4 * PAGE - 8, HIGH + PAGE - 8, (1 << 64) - 8):
        with pytest.raises(DmaFault):
            memory.read(addr, 16)
        with pytest.raises(DmaFault):
            memory.write(addr, data)
        assert memory.read(addr, 8) == bytes(8)


def test_views_are_the_memory_itself(memory: GuestMemory) -> None:
    view = memory.view(2 * PAGE + 8, 16)
    view[:4] = b"abcd"
    assert memory.read(2 * PAGE + 8, 4) == b"abcd"
    memory.write(2 * PAGE + 20, b"wxyz")
    assert bytes(view[12:]) == b"wxyz"
    # Not across a border, even when the regions are adjacent.
    with pytest.raises(DmaFault):
        memory.view(2 * PAGE - 8, 16)


@given(addresses)
def test_words_and_bytes(addr: int) -> None:
    memory = GuestMemory.anonymous(REGIONS)
    if inside(addr, 4) and addr % 4 == 0:
        memory.store_be32(addr, 0x01020304)
        assert memory.read(addr, 4) == b"\1\2\3\4"
        memory.write(addr, b"\xa1\xb2\xc3\xd4")
        assert memory.load_be32(addr) == 0xA1B2C3D4
    else:
        with pytest.raises(DmaFault):
            memory.load_be32(addr)
        with pytest.raises(DmaFault):
            memory.store_be32(addr, 1)
    if inside(addr, 1):
        memory.store_u8(addr, 0x5A)
        assert memory.read(addr, 1) == b"\x5a"
    else:
        with pytest.raises(DmaFault):
            memory.store_u8(addr, 1)


def test_every_access_fails_while_bus_mastering_is_off(memory: GuestMemory) -> None:
    addr = 2 * PAGE
    memory.write(addr, b"before")
    memory.enabled = False
    accesses: list[Callable[[], object]] = [
        lambda: memory.read(addr, 4),
        lambda: memory.read_into(addr, memoryview(bytearray(4))),
        lambda: memory.write(addr, b"1234"),
        lambda: memory.view(addr, 4),
        lambda: memory.load_be32(addr),
        lambda: memory.store_be32(addr, 1),
        lambda: memory.store_u8(addr, 1),
    ]
    for access in accesses:
        with pytest.raises(DmaFault):
            access()
    memory.enabled = True
    assert memory.read(addr, 6) == b"before"


def test_an_unmapped_region_is_gone_at_once(memory: GuestMemory) -> None:
    memory.write(HIGH, b"there")
    memory.unmap(HIGH, PAGE)
    with pytest.raises(DmaFault):
        memory.read(HIGH, 1)
    assert memory.read(PAGE, 1) == b"\0"
    assert len(memory.regions) == len(REGIONS) - 1


def test_regions_are_windows_of_the_file() -> None:
    fd = memfd(4 * PAGE)
    memory = GuestMemory()
    memory.enabled = True
    memory.map(MemoryRegion(8 * PAGE, PAGE, mmap_offset=3 * PAGE), fd)
    memory.map(MemoryRegion(0, 2 * PAGE, mmap_offset=PAGE), fd)
    memory.write(8 * PAGE, b"fourth page")
    memory.write(PAGE, b"third page")
    assert os.pread(fd, 11, 3 * PAGE) == b"fourth page"
    assert os.pread(fd, 10, 2 * PAGE) == b"third page"
    os.close(fd)
    memory.clear()
    assert memory.regions == ()


@pytest.mark.parametrize(
    ("region", "sentence"),
    [
        (MemoryRegion(0, 0), "whole pages"),
        (MemoryRegion(1, PAGE), "whole pages"),
        (MemoryRegion(0, PAGE + 1), "whole pages"),
        (MemoryRegion(0, PAGE, 512), "whole pages"),
        (MemoryRegion(-PAGE, PAGE), "whole pages"),
        (MemoryRegion((1 << 64) - PAGE, 2 * PAGE), "end of 64 bits"),
        (MemoryRegion(0, 3 * PAGE), "larger than its file"),
        (MemoryRegion(0, PAGE, 2 * PAGE), "larger than its file"),
        (MemoryRegion(1 << 62, 1 << 62, 1 << 63), "larger than its file"),
        (MemoryRegion(16 * PAGE, PAGE), "overlaps"),
        (MemoryRegion(15 * PAGE, 2 * PAGE), "overlaps"),
        (MemoryRegion(17 * PAGE, 2 * PAGE), "overlaps"),
    ],
)
def test_bad_regions_are_refused(region: MemoryRegion, sentence: str) -> None:
    fd = memfd(2 * PAGE)
    memory = GuestMemory()
    memory.map(MemoryRegion(16 * PAGE, 2 * PAGE), fd)
    with pytest.raises(ProtocolError, match=sentence):
        memory.map(region, fd)
    assert len(memory.regions) == 1
    memory.clear()
    os.close(fd)


def test_files_that_could_be_cut_are_refused(tmp_path: Path) -> None:
    unsealed = memfd(PAGE, seals=fcntl.F_SEAL_GROW)
    pipe = os.pipe()
    with (tmp_path / "file").open("w+b") as file:
        file.truncate(PAGE)
        for fd in (unsealed, file.fileno(), pipe[0]):
            with pytest.raises(ProtocolError, match="not a sealed memfd"):
                GuestMemory().map(MemoryRegion(0, PAGE), fd)
    read_only = memfd(PAGE, seals=fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_WRITE)
    with pytest.raises(ProtocolError, match="Operation not permitted"):
        GuestMemory().map(MemoryRegion(0, PAGE), read_only)
    for fd in (unsealed, read_only, *pipe):
        os.close(fd)


def test_number_of_regions_is_bounded() -> None:
    fd = memfd(PAGE)
    memory = GuestMemory()
    for index in range(MAX_REGIONS):
        memory.map(MemoryRegion(2 * index * PAGE, PAGE), fd)
    with pytest.raises(ProtocolError, match="more than"):
        memory.map(MemoryRegion(1 << 40, PAGE), fd)
    memory.clear()
    os.close(fd)


@pytest.mark.parametrize(("addr", "size"), [(0, PAGE), (PAGE, 2 * PAGE), (3 * PAGE, PAGE)])
def test_only_whole_regions_are_unmapped(memory: GuestMemory, addr: int, size: int) -> None:
    with pytest.raises(ProtocolError, match="is not mapped"):
        memory.unmap(addr, size)
    assert len(memory.regions) == len(REGIONS)


def mappings() -> int:
    """Mappings of our memfds in this process."""
    return Path("/proc/self/maps").read_text().count("guest-ram")


def test_pages_go_with_the_last_view() -> None:
    gc.collect()
    before = mappings()
    memory = GuestMemory.anonymous(REGIONS)
    assert mappings() > before
    view = memory.view(HIGH, 8)
    memory.clear()
    # Kept for the view alone, which still works; the other pages are unmapped.
    assert mappings() == before + 1
    view[0] = 1
    del view
    assert mappings() == before
