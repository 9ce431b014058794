# SPDX-License-Identifier: GPL-2.0-or-later
"""The plug-in in the distribution's QEMU, against the real server with a toy device.

The test plays the guest's CPU through qtest, and reads from the toy device's log what arrived.
"""

import os
import random
import re
import signal
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nicmodel.transport.messages import Request
from tests.qemu import toy as regs
from tests.qemu.machine import BAR0, BAR2, REPOSITORY, Machine, ToyProcess, toy_machine

pytestmark = pytest.mark.qemu

MIB = 1 << 20
GIB = 1 << 30
VENDOR, PCIE, MSIX = 0x09, 0x10, 0x11
SLACK = 1.5
"""How much longer than the bound a busy machine may take, s."""


def start(toy: ToyProcess, machine: Machine) -> None:
    """What a guest does first: BARs, memory decoding and bus mastering on."""
    toy.expect("attach 0x0+0x10000000", "reset")
    machine.program_bars()
    toy.expect("bus_master True")


def register(machine: Machine, offset: int, value: int) -> None:
    machine.store(BAR0 + offset, 8, value)


def dma_load(toy: ToyProcess, machine: Machine, addr: int) -> bytes:
    """Eight bytes of guest memory as the device sees them."""
    register(machine, regs.ADDRESS, addr)
    register(machine, regs.LOAD, 0)
    toy.log.line()
    assert toy.log.line() == f"write {regs.LOAD:#x} {'00' * 8}"
    return machine.read(BAR0 + regs.RESULT, 8)


def dma_fault(toy: ToyProcess, machine: Machine, addr: int) -> None:
    """The device cannot read there."""
    register(machine, regs.ADDRESS, addr)
    register(machine, regs.LOAD, 0)
    toy.log.line()
    assert toy.log.line() == f"fault read {addr:#x}"


def dma_store(toy: ToyProcess, machine: Machine, addr: int, value: int) -> None:
    register(machine, regs.ADDRESS, addr)
    register(machine, regs.STORE, value)
    toy.log.line()
    toy.log.line()


def test_a_second_build_does_nothing(plugin: Path) -> None:
    before = plugin.stat()
    done = subprocess.run(
        [REPOSITORY / "qemu-plugin" / "build.sh"], capture_output=True, text=True, check=True
    )
    assert done.stderr == f"qemu-plugin: ready: {plugin}\n"
    assert plugin.stat().st_mtime_ns == before.st_mtime_ns


def test_configuration_space(tmp_path: Path, plugin: Path) -> None:
    with toy_machine(tmp_path, plugin, vectors=5) as (_, machine):
        assert machine.config_read(0x00, 4) == 0x101D15B3
        assert machine.config_read(0x08, 4) == 0x0200019A
        assert machine.config_read(0x2C, 4) == 0x56781234
        machine.config_write(0x10, 4, 0xFFFFFFFF)
        machine.config_write(0x14, 4, 0xFFFFFFFF)
        assert machine.config_read(0x10, 4) == (0xFFFFFFFF & ~(regs.BAR_SIZE - 1)) | 0xC
        assert machine.config_read(0x14, 4) == 0xFFFFFFFF
        msix = machine.capability(MSIX)
        assert machine.config_read(msix + 2, 2) & 0x7FF == 5 - 1
        assert machine.config_read(msix + 4, 4) & 7 == 2
        pcie = machine.capability(PCIE)
        assert machine.config_read(pcie + 4, 4) & 1 << 28, "no function level reset"
        vendor = machine.capability(VENDOR)
        assert machine.config_read(vendor + 2, 1) == 24
        for offset in range(4, 24, 4):
            assert machine.config_read(vendor + offset, 4) == 0
            machine.config_write(vendor + offset, 4, 0xA5000000 + offset)
            assert machine.config_read(vendor + offset, 4) == 0xA5000000 + offset
        assert machine.capability(VENDOR) == vendor


def test_reads_come_from_the_shadow(tmp_path: Path, plugin: Path) -> None:
    with toy_machine(tmp_path, plugin) as (toy, machine):
        start(toy, machine)
        shadow = regs.GREETING.ljust(32, b"\0")
        for size in (1, 2, 4, 8):
            for offset in range(16):
                expected = int.from_bytes(shadow[offset : offset + size], "little")
                assert machine.load(BAR0 + offset, size) == expected
        assert machine.load(BAR0 + regs.BAR_SIZE - 8, 8) == 0


def test_writes_arrive_in_order_byte_for_byte(tmp_path: Path, plugin: Path) -> None:
    dice = random.Random(1)
    with toy_machine(tmp_path, plugin) as (toy, machine):
        start(toy, machine)
        for _ in range(200):
            size = dice.choice((1, 2, 4, 8))
            offset = 0x20 + dice.randrange(0x700)
            data = dice.randbytes(size)
            machine.store(BAR0 + offset, size, int.from_bytes(data, "little"))
            toy.expect(f"write {offset:#x} {data.hex()}")
            assert machine.read(BAR0 + offset, size) == data


def test_clock_is_big_endian_and_monotonic_time(tmp_path: Path, plugin: Path) -> None:
    def ticks() -> int:
        return time.monotonic_ns() * regs.CLOCK_KHZ // 1_000_000

    with toy_machine(tmp_path, plugin) as (toy, machine):
        start(toy, machine)
        clock = BAR0 + regs.CLOCK_OFFSET
        before = ticks()
        whole = int.from_bytes(machine.load(clock, 8).to_bytes(8, "little"))
        high = int.from_bytes(machine.load(clock, 4).to_bytes(4, "little"))
        low = int.from_bytes(machine.load(clock + 4, 4).to_bytes(4, "little"))
        top = machine.load(clock, 1)
        assert before <= whole <= high << 32 | low <= ticks()
        assert top == high >> 24
        # An access that covers only a part of it, and its neighbours.
        assert machine.load(clock - 4, 4) == 0
        assert machine.load(clock - 4, 8) >> 32 == machine.load(clock, 4)
        assert machine.load(clock + 8, 8) == 0


def test_interrupts(tmp_path: Path, plugin: Path) -> None:
    with toy_machine(tmp_path, plugin, vectors=3) as (toy, machine):
        start(toy, machine)
        msix = machine.capability(MSIX)
        machine.config_write(msix + 2, 2, 1 << 15)
        for vector in range(3):
            entry = BAR2 + 16 * vector
            machine.store(entry, 8, 0x200000 + 4 * vector)
            machine.store(entry + 8, 4, 0xABC0 + vector)
            machine.store(entry + 12, 4, 0)

        def message(vector: int) -> int:
            return machine.load(0x200000 + 4 * vector, 4)

        def wait_for(vector: int) -> None:
            end = time.monotonic() + 10
            while message(vector) != 0xABC0 + vector:
                assert time.monotonic() < end, f"vector {vector} never came"

        for vector in (1, 0, 2):
            assert message(vector) == 0
            register(machine, regs.INTERRUPT, vector)
            wait_for(vector)
        # Again on the same vector: each write of the eventfd must count.
        for _ in range(5):
            machine.store(0x200004, 4, 0)
            register(machine, regs.INTERRUPT, 1)
            wait_for(1)
        # Masked: pending, and delivered when unmasked.
        machine.store(BAR2 + 12, 4, 1)
        machine.store(0x200000, 4, 0)
        register(machine, regs.INTERRUPT, 0)
        end = time.monotonic() + 10
        while not machine.load(BAR2 + 2048, 8):
            assert time.monotonic() < end, "vector 0 never became pending"
        assert message(0) == 0
        machine.store(BAR2 + 12, 4, 0)
        wait_for(0)
        assert machine.load(BAR2 + 2048, 8) == 0


def test_256_vectors(tmp_path: Path, plugin: Path) -> None:
    with toy_machine(tmp_path, plugin, vectors=256) as (toy, machine):
        start(toy, machine)
        msix = machine.capability(MSIX)
        machine.config_write(msix + 2, 2, 1 << 15)
        entry = BAR2 + 16 * 255
        machine.store(entry, 8, 0x200000)
        machine.store(entry + 8, 4, 77)
        machine.store(entry + 12, 4, 0)
        register(machine, regs.INTERRUPT, 255)
        end = time.monotonic() + 10
        while machine.load(0x200000, 4) != 77:
            assert time.monotonic() < end, "vector 255 never came"


@pytest.mark.parametrize(
    ("size", "edges"),
    [
        # q35 splits RAM at 2 GiB when it has to; the rest lies above 4 GiB.
        ("256M", [0, 256 * MIB]),
        ("4G", [0, 2 * GIB, 4 * GIB, 6 * GIB]),
    ],
)
def test_guest_memory(tmp_path: Path, plugin: Path, size: str, edges: list[int]) -> None:
    options: dict[str, Any] = {"size": size}
    options["ram"] = f"memory-backend-memfd,id=ram,size={size},share=on"
    with toy_machine(tmp_path, plugin, **options) as (toy, machine):
        pairs = list(zip(edges[::2], edges[1::2], strict=True))
        expected = " ".join(f"{first:#x}+{last - first:#x}" for first, last in pairs)
        toy.expect(f"attach {expected}", "reset")
        machine.program_bars()
        toy.expect("bus_master True")
        for first, last in pairs:
            for addr in (first, (first + last) // 2 + 5, last - 8):
                pattern = struct.pack("<Q", addr ^ 0x1122334455667788)
                machine.write(addr, pattern)
                assert dma_load(toy, machine, addr) == pattern
                dma_store(toy, machine, addr, ~addr & 2**64 - 1)
                assert machine.load(addr, 8) == ~addr & 2**64 - 1
            dma_fault(toy, machine, last - 7)
            dma_fault(toy, machine, last)


def test_memory_map_changes(tmp_path: Path, plugin: Path) -> None:
    """Firmware turns RAM below 1 MiB into ROM and back with the host bridge's PAM registers."""

    def pam(machine: Machine, value: int) -> None:
        machine.config_address(0x90, devfn=0)
        machine.command(f"outb 0xcfc {value:#x}")

    with toy_machine(tmp_path, plugin) as (toy, machine):
        start(toy, machine)
        machine.write(0xFFFF8, b"low  end")
        machine.write(0x100000, b"behind 1")
        pam(machine, 0x30)
        machine.write(0xFFFF8, b"shadowed")
        assert dma_load(toy, machine, 0xFFFF8) == b"shadowed"
        for _ in range(3):
            pam(machine, 0x10)  # RAM, but read only
            dma_fault(toy, machine, 0xFFFF8)
            assert dma_load(toy, machine, 0x100000) == b"behind 1"
            pam(machine, 0x30)
            assert dma_load(toy, machine, 0xFFFF8) == b"shadowed"
        assert dma_load(toy, machine, 0x100000) == b"behind 1"


def test_memory_is_hot_added(tmp_path: Path, plugin: Path) -> None:
    with toy_machine(tmp_path, plugin, size="256M,maxmem=1G,slots=2") as (toy, machine):
        start(toy, machine)
        dma_fault(toy, machine, 4 * GIB)
        machine.qmp("object-add", id="more", size=128 * MIB, share=True, **{"qom-type": MEMFD})
        machine.qmp("device_add", driver="pc-dimm", id="dimm", memdev="more")
        (dimm,) = machine.qmp("query-memory-devices")
        addr = dimm["data"]["addr"]
        machine.write(addr, b"hot RAM!")
        assert dma_load(toy, machine, addr) == b"hot RAM!"
        dma_fault(toy, machine, addr + 128 * MIB)


MEMFD = "memory-backend-memfd"


def test_bus_master_stops_dma(tmp_path: Path, plugin: Path) -> None:
    with toy_machine(tmp_path, plugin) as (toy, machine):
        toy.expect("attach 0x0+0x10000000", "reset")
        machine.program_bars(command=2)
        dma_fault(toy, machine, 0x1000)
        machine.config_write(0x04, 2, 6)
        toy.expect("bus_master True")
        assert dma_load(toy, machine, 0x1000) == bytes(8)
        machine.config_write(0x04, 2, 2)
        # Acknowledged: the line is there before the CPU goes on.
        assert not toy.log.idle()
        toy.expect("bus_master False")
        dma_fault(toy, machine, 0x1000)
        # Only the bit counts, not each write of the register.
        machine.config_write(0x04, 2, 2)
        register(machine, 0, 0)
        toy.expect(f"write 0x0 {'00' * 8}")


def test_function_level_reset(tmp_path: Path, plugin: Path) -> None:
    with toy_machine(tmp_path, plugin) as (toy, machine):
        start(toy, machine)
        control = machine.capability(PCIE) + 8
        machine.config_write(control, 2, machine.config_read(control, 2) | 1 << 15)
        assert not toy.log.idle()
        toy.expect("reset")
        assert machine.config_read(0x04, 2) == 0
        machine.program_bars()
        toy.expect("bus_master True")
        assert dma_load(toy, machine, 0x1000) == bytes(8)


def test_system_reset(tmp_path: Path, plugin: Path) -> None:
    with toy_machine(tmp_path, plugin) as (toy, machine):
        start(toy, machine)
        register(machine, 0, 1)
        machine.qmp("system_reset")
        machine.wait_event("RESET")
        # In the order of the guest's own writes, and before the machine runs again.
        toy.expect(f"write 0x0 01{'00' * 7}", "reset")
        machine.program_bars()
        while (line := toy.log.line()) != "bus_master True":
            assert line == "reset"


@pytest.mark.parametrize("stall_ms", [200, 1000])
def test_stopped_back_end_freezes_for_a_bounded_time(
    tmp_path: Path, plugin: Path, stall_ms: int
) -> None:
    options = f",stall-ms={stall_ms}"
    with toy_machine(tmp_path, plugin, device_options=options) as (toy, machine):
        start(toy, machine)
        toy.signal(signal.SIGSTOP)
        longest = 0.0
        for _ in range(20000):
            begin = time.monotonic()
            register(machine, regs.QUIET, 1)
            longest = max(longest, time.monotonic() - begin)
            if "lost the back-end" in machine.stderr:
                break
        else:
            pytest.fail("20000 posted writes found room")
        assert stall_ms / 1000 <= longest < stall_ms / 1000 + SLACK
        waited = re.search(r"QEMU waited (\d+) ms", machine.stderr)
        assert waited is not None
        assert stall_ms <= int(waited[1]) <= longest * 1000 + 1
        assert machine.load(BAR0, 4) == 0xFFFFFFFF
        # It is connected to again, but nothing waits for it.
        waited_again = 0.0
        for _ in range(50):
            begin = time.monotonic()
            machine.qmp("query-status")
            register(machine, regs.QUIET, 1)
            waited_again += time.monotonic() - begin
            time.sleep(0.02)  # the retry timer must have had its chances
        assert waited_again < stall_ms / 1000
        toy.signal(signal.SIGCONT)
        # What was sent before the loss is not done any more.
        toy.expect("detach", "attach", "bus_master True")
        machine.wait_stderr("toy is back")
        assert machine.load(BAR0 + regs.COUNT, 8) == 0
        assert machine.stderr.count("lost the back-end") == 1
        assert machine.stderr.count("toy is back") == 1


def switch_master_off(machine: Machine) -> None:
    machine.config_write(0x04, 2, 2)


def reset_function(machine: Machine) -> None:
    machine.config_write(machine.capability(PCIE) + 8, 2, 1 << 15)


def map_ram_as_rom(machine: Machine) -> None:
    machine.config_address(0x90, devfn=0)
    machine.command("outb 0xcfc 0x30")


@pytest.mark.parametrize("operation", [switch_master_off, reset_function, map_ram_as_rom])
def test_stopped_back_end_and_acknowledged_request(
    tmp_path: Path, plugin: Path, operation: Callable[[Machine], None]
) -> None:
    """Without the acknowledgement the guest could use memory that DMA still goes to."""
    with toy_machine(tmp_path, plugin, device_options=",stall-ms=300") as (toy, machine):
        start(toy, machine)
        toy.signal(signal.SIGSTOP)
        begin = time.monotonic()
        operation(machine)
        assert 0.3 <= time.monotonic() - begin < 0.3 + SLACK
        machine.wait_stderr("did not answer in time; QEMU waited 30")
        toy.signal(signal.SIGCONT)
        toy.expect("detach", "attach")
        machine.wait_stderr("toy is back")
        # Whatever happened to it meanwhile, it is told how things stand.
        machine.config_write(0x04, 2, 2)
        machine.config_write(0x04, 2, 6)
        while toy.log.line() != "bus_master True":
            pass


def test_killed_back_end_comes_back(tmp_path: Path, plugin: Path) -> None:
    with toy_machine(tmp_path, plugin) as (toy, machine):
        start(toy, machine)
        path = toy.path
        machine.write(0x1000, b"survives")
        toy.kill()
        machine.wait_stderr("lost the back-end")
        for size in (1, 2, 4, 8):
            assert machine.load(BAR0 + 3, size) == 2 ** (8 * size) - 1
        register(machine, 0, 5)
        machine.config_write(0x04, 2, 2)
        machine.config_write(0x04, 2, 6)

        with ToyProcess(path, vectors=8) as other:
            machine.wait_stderr("it is another device than the one that was lost")
            assert machine.load(BAR0, 4) == 0xFFFFFFFF
            assert other.log.idle()
        with ToyProcess(path) as again:
            again.expect("attach", "bus_master True")
            machine.wait_stderr("toy is back")
            assert machine.read(BAR0, len(regs.GREETING)) == regs.GREETING
            assert dma_load(again, machine, 0x1000) == b"survives"
            # Interrupts use the same eventfds.
            machine.config_write(machine.capability(MSIX) + 2, 2, 1 << 15)
            machine.store(BAR2, 8, 0x200000)
            machine.store(BAR2 + 8, 4, 9)
            machine.store(BAR2 + 12, 4, 0)
            register(machine, regs.INTERRUPT, 0)
            end = time.monotonic() + 10
            while machine.load(0x200000, 4) != 9:
                assert time.monotonic() < end, "no interrupt"
        assert machine.stderr.count("another device") == 1


def refused(folder: Path, plugin: Path, device: str, **options: Any) -> str:
    """What QEMU says when it does not start; it must end with status 1."""
    with pytest.raises(EOFError) as error, Machine(folder, plugin, device, **options):
        pass
    assert "Traceback" not in str(error.value)
    return str(error.value)


def test_user_mistakes(tmp_path: Path, plugin: Path) -> None:
    path = tmp_path / "toy"
    said = refused(tmp_path, plugin, f"pci-vhost-user,socket={path}")
    assert f"the back-end at {path}: cannot connect: No such file" in said
    assert "Start the back-end first" in said
    assert "needs socket=PATH" in refused(tmp_path, plugin, "pci-vhost-user")
    long = "/" + "x" * 120
    assert "longer than" in refused(tmp_path, plugin, f"pci-vhost-user,socket={long}")
    with ToyProcess(path):
        device = f"pci-vhost-user,socket={path}"
        for ram in (
            "memory-backend-ram,id=ram,size=256M",
            "memory-backend-memfd,id=ram,size=256M,share=off",
            "memory-backend-memfd,id=ram,size=256M,share=on,seal=off",
        ):
            said = refused(tmp_path, plugin, device, ram=ram)
            assert "guest memory is not shared" in said
            assert "memory-backend-memfd,id=ram,size=SIZE,share=on" in said
        iommu = ("-device", "intel-iommu")
        assert "behind an IOMMU" in refused(tmp_path, plugin, device, extra=iommu)


def test_second_qemu_is_told_at_once(tmp_path: Path, plugin: Path) -> None:
    with toy_machine(tmp_path, plugin) as (toy, _):
        said = refused(tmp_path, plugin, f"pci-vhost-user,socket={toy.path}")
        assert "it closed the connection" in said
        assert "serves one QEMU at a time" in said


def unplug_cycle(folder: Path, machine: Machine) -> None:
    """Hot-plug one more toy behind the root port, and unplug it as a guest does, through ACPI."""
    eject, select = 0xCC8, 0xCD0
    path = folder / "hot"
    with ToyProcess(path) as hot:
        machine.qmp(
            "device_add", driver="pci-vhost-user", id="hot", bus="rp", socket=os.fspath(path)
        )
        hot.expect("attach", "reset")
        machine.qmp("device_del", id="hot")
        for bus in range(2):
            machine.command(f"outl {select:#x} {bus}")
            machine.command(f"outl {eject:#x} 1")
        machine.wait_event("DEVICE_DELETED")
        hot.expect("detach")


def test_hot_plug_and_unplug_leave_nothing(tmp_path: Path, plugin: Path) -> None:
    root_port = ("-device", "pcie-root-port,id=rp,chassis=1,addr=5")
    with toy_machine(tmp_path, plugin, extra=root_port) as (_, machine):
        fds = Path(f"/proc/{machine.process.pid}/fd")
        counts = []
        for _ in range(3):
            unplug_cycle(tmp_path, machine)
            counts.append(len(list(fds.iterdir())))
        assert counts[0] == counts[1] == counts[2]


def test_sanitized_plugin_finds_nothing(tmp_path: Path, sanitized_plugin: Path) -> None:
    """The whole life of a device under the address and undefined behaviour sanitizers."""
    library = subprocess.check_output(["gcc", "-print-file-name=libasan.so"], text=True).strip()
    environment = {
        "LD_PRELOAD": library,
        # QEMU's own allocations at exit are none of our business.
        "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1:exitcode=99",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    }
    rp = ("-device", "pcie-root-port,id=rp,chassis=1,addr=5")
    options: dict[str, Any] = {"environment": environment, "extra": rp}
    with toy_machine(tmp_path, sanitized_plugin, device_options=",stall-ms=200", **options) as (
        toy,
        machine,
    ):
        start(toy, machine)
        assert dma_load(toy, machine, 0x1000) == bytes(8)
        register(machine, regs.INTERRUPT, 0)
        machine.load(BAR0 + regs.CLOCK_OFFSET + 1, 8)
        unplug_cycle(tmp_path, machine)
        toy.signal(signal.SIGSTOP)
        machine.config_write(0x04, 2, 2)
        machine.wait_stderr("lost the back-end")
        toy.signal(signal.SIGCONT)
        machine.wait_stderr("toy is back")
        toy.kill()
        machine.wait_stderr("it closed the connection")
        assert machine.quit() == 0, machine.stderr


def test_names_of_requests_are_known() -> None:
    """The profile has no request that the plug-in never sends, nor the other way round."""
    source = (REPOSITORY / "qemu-plugin").glob("*.c")
    text = "".join(p.read_text() for p in source if p.name != "constants.c")
    for request in Request:
        assert f"REQUEST_{request.name}" in text
