# SPDX-License-Identifier: GPL-2.0-or-later
"""Send echo requests of every payload size of a range, and compare every answer.

Run in the host's namespace: ``sweep.py ADDRESS FIRST LAST``. Prints what went wrong, one line a
size; status 1 if anything did. Each request has a deadline.

One request is in flight at a time: a guest answers from one socket with 132 KiB of send buffer for
each CPU, and drops answers (Icmp OutErrors) when more than 15 of them wait for their transmit
completion, which happens as soon as requests keep one receive poll busy.
"""

import os
import select
import socket
import struct
import sys
import time

WINDOW = 1
SECONDS = 10.0
IDENT = os.getpid() & 0xFFFF


def checksum(data: bytes) -> int:
    """RFC 1071."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(word for (word,) in struct.iter_unpack(">H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def payload(size: int) -> bytes:
    """Bytes that differ between sizes."""
    return bytes((size * 7 + i * 31) & 0xFF for i in range(size))


def main() -> int:
    """Sweep; the exit status."""
    address, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    v6 = ":" in address
    if v6:
        raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        request, reply, skip = 128, 129, 0
    else:
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        request, reply, skip = 8, 0, 20
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    waiting: dict[int, float] = {}
    sizes = iter(range(first, last + 1))
    wrong = 0
    more = True
    while more or waiting:
        while more and len(waiting) < WINDOW:
            size = next(sizes, None)
            if size is None:
                more = False
                break
            header = struct.pack(">BBHHH", request, 0, 0, IDENT, size & 0xFFFF)
            packet = header + payload(size)
            if not v6:  # the kernel fills in ICMPv6's
                packet = packet[:2] + struct.pack(">H", checksum(packet)) + packet[4:]
            raw.sendto(packet, (address, 0))
            waiting[size] = time.monotonic() + SECONDS
        readable, _, _ = select.select([raw], [], [], 0.5)
        if readable:
            data = raw.recv(1 << 16)[skip:]
            kind, _, _, ident, size = struct.unpack_from(">BBHHH", data)
            ours = kind == reply and ident == IDENT and waiting.pop(size, None) is not None
            if ours and data[8:] != payload(size):
                print(f"{size}: the answer differs")
                wrong = 1
        now = time.monotonic()
        for size in [size for size, deadline in waiting.items() if deadline < now]:
            del waiting[size]
            print(f"{size}: no answer")
            wrong = 1
    return wrong


if __name__ == "__main__":
    sys.exit(main())
