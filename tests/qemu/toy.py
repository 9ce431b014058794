# SPDX-License-Identifier: GPL-2.0-or-later
"""A device for tests of the plug-in, served by a process that tests may stop and kill.

Run as ``python -m tests.qemu.toy SOCKET [VECTORS]``. Each verb that the transport calls is a line
on standard output, written when the verb has been carried out. Registers are 8 bytes, native
little-endian; every write also lands in the shadow, so that reads show it.
"""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

from nicmodel.errors import DmaFault
from nicmodel.trace.tracer import TextSink, Tracer
from nicmodel.transport.seam import Host, Identity
from nicmodel.transport.server import Server

BAR_SIZE = 1 << 20
CLOCK_OFFSET = 0x1000
CLOCK_KHZ = 156_250

ADDRESS = 0x800
"""DMA address for the next two."""
STORE = 0x808
"""Written: these 8 bytes go to guest memory."""
LOAD = 0x810
"""Written: 8 bytes of guest memory appear in RESULT."""
RESULT = 0x818
INTERRUPT = 0x820
"""Written: raises this vector."""
QUIET = 0x1800
"""From here on writes are counted, not reported: flood target."""
COUNT = 0x828
"""Reads as the number of quiet writes."""
GREETING = b"a toy device"


def identity(vectors: int = 4) -> Identity:
    return Identity(
        vendor_id=0x15B3,
        device_id=0x101D,
        subsystem_vendor_id=0x1234,
        subsystem_id=0x5678,
        revision=0x9A,
        class_code=0x020001,
        bar_size=BAR_SIZE,
        vectors=vectors,
        clock_offset=CLOCK_OFFSET,
        clock_khz=CLOCK_KHZ,
        vendor_cap_size=24,
    )


class Toy:
    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.host: Host | None = None
        self.address = 0
        self.count = 0

    def attach(self, host: Host) -> None:
        self.host = host
        self.count = 0
        assert not any(host.bar[:0x10000])
        host.bar[: len(GREETING)] = GREETING
        regions = [f"{r.guest_addr:#x}+{r.size:#x}" for r in host.memory.regions]
        say("attach", *regions)

    def detach(self) -> None:
        self.host = None
        say("detach")

    def bar_write(self, offset: int, data: bytes) -> None:
        host = self.host
        assert host is not None
        if offset >= QUIET:
            self.count += 1
            return
        host.bar[offset : offset + len(data)] = data
        value = int.from_bytes(data, "little")
        try:
            match offset:
                case 0x800:
                    self.address = value
                case 0x808:
                    host.memory.write(self.address, data)
                case 0x810:
                    host.bar[RESULT : RESULT + 8] = host.memory.read(self.address, 8)
                case 0x820:
                    host.interrupt(value)
        except DmaFault as fault:
            say("fault", fault.access, hex(fault.addr))
            return
        say("write", hex(offset), data.hex())

    def flush(self) -> None:
        if self.host is not None:
            self.host.bar[COUNT : COUNT + 8] = self.count.to_bytes(8, "little")

    def bus_master(self, enabled: bool) -> None:
        say("bus_master", str(enabled))

    def reset(self) -> None:
        say("reset")


def say(*words: str) -> None:
    print(*words, flush=True)


def main() -> None:
    loop = asyncio.new_event_loop()
    tracer = Tracer("toy", time.monotonic_ns, (TextSink(sys.stderr),))
    vectors = int(sys.argv[2]) if len(sys.argv) > 2 else 4
    server = Server(loop, Path(sys.argv[1]), Toy(identity(vectors)), tracer)
    loop.add_signal_handler(signal.SIGTERM, loop.stop)
    say("ready", str(os.getpid()))
    loop.run_forever()
    server.close()


if __name__ == "__main__":
    main()
