# SPDX-License-Identifier: GPL-2.0-or-later
"""The transport ``fixtures/msgtx``: it has its records encrypted by the device; who looks at them.

What must be on the wire is made here, by another library, from the number and text of each record.
"""

import hashlib
import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from nicmodel.testbed import kernel
from nicmodel.testbed.kernel import Kernel
from nicmodel.testbed.paths import cached
from nicmodel.testbed.vm import Vm
from tests.vm.frames import ones
from tests.vm.ktls import Stats, moved, tls_counters
from tests.vm.pair import Pair
from tests.vm.traffic import IFACE

KMOD = Path(__file__).parents[2] / "smt-kmod"
PATCHES = tuple(sorted((KMOD / "driver-patch").glob("0*.patch")))
SOURCE = Path(__file__).parent / "fixtures" / "msgtx"
INCLUDE = KMOD / "include"

ETHERNET, IP, HEADER = 14, 20, 40
MSS = 1500 - IP - HEADER
PREFIX, TAG = 5 + 8, 16
FIRST = (0x1234_5678_9ABC << 16) - 3
"""A record number beyond 32 bits, before one whose lower bits begin anew."""

_RECEIVE = """
import json, socket, sys, time
line = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
line.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
line.bind((sys.argv[1], 0))
print("ready", flush=True)
found = []
try:
    end = time.monotonic() + 20
    while len(found) < int(sys.argv[2]):
        line.settimeout(max(0.01, end - time.monotonic()))
        frame = line.recv(65536)
        if frame[12:14] == b"\\x08\\x00" and frame[23] == 254:
            found.append(frame.hex())
except TimeoutError:
    pass
print(json.dumps(found))
"""


def module(chosen: Kernel) -> Path:
    """The transport, built for a kernel by its own Makefile."""
    parts = (*SOURCE.iterdir(), *INCLUDE.rglob("smt_offload.h"))
    digest = hashlib.sha256("\0".join([chosen.key, *sorted(p.read_text() for p in parts)]).encode())

    def make(folder: Path) -> None:
        shutil.copytree(SOURCE, folder / "source")
        command = ["make", "-C", str(folder / "source"), f"KDIR={kernel.build_folder(chosen)}"]
        command += [f"INCLUDE={INCLUDE}", "CONFIG_DEBUG_INFO_BTF_MODULES="]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        # the guest's agent takes no more than is needed
        strip = ["strip", "--strip-debug", "-o", str(folder / "msgtx.ko")]
        subprocess.run([*strip, str(folder / "source" / "msgtx.ko")], check=True)
        shutil.rmtree(folder / "source")

    return cached("modules", f"msgtx-{digest.hexdigest()[:16]}", make) / "msgtx.ko"


@dataclass(frozen=True)
class Sent:
    """One record in one segment."""

    slot: int
    record: int
    octets: int
    hint: int = 0
    how: str = "plain"

    @property
    def command(self) -> str:
        """As ``/proc/msgtx`` takes it."""
        return f"send {self.slot} {self.hint} {self.record:x} {self.octets} {self.how}"

    @property
    def frames(self) -> int:
        """How many it takes."""
        return -(-(PREFIX + self.octets + TAG) // MSS)


@dataclass
class Transport:
    """The transport in guest a, and its keys by slot."""

    pair: Pair
    keys: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    made: int = 0

    @property
    def vm(self) -> Vm:
        """Where it runs."""
        return self.pair.a

    def load(self) -> None:
        """Load it; it is there when the device is."""
        self.vm.write_file("/tmp/msgtx.ko", module(self.pair.lab.kernel).read_bytes())
        # it sends once, and fq_codel drops a packet of a queue that stood still for 100 ms
        self.vm.run("sysctl -qw net.core.default_qdisc=pfifo_fast")
        self.vm.run(f"tc qdisc replace dev {IFACE} root mq")
        self.vm.run("insmod /tmp/msgtx.ko")

    def unload(self) -> None:
        """Unload it, with all that it has open."""
        self.vm.run("rmmod msgtx", timeout=20)
        self.keys.clear()

    def say(self, command: str) -> str:
        """Give a command; the kernel's words if it fails, else nothing."""
        line = f"echo '{command}' | dd of=/proc/msgtx status=none"
        return self.vm.run(line, check=False).stderr.strip().rpartition(": ")[2]

    def add(self, slot: int) -> None:
        """Open a session with a key that no other one has."""
        self.made += 1
        seed = f"{self.pair.lab.seed}/msgtx/{self.pair.a.name}/{self.made}"
        text = hashlib.sha256(seed.encode()).digest()
        key, salt = text[:16], text[16:20]
        assert self.say(f"add {slot} {key.hex()} {salt.hex()}") == ""
        self.keys[slot] = (key, salt)

    def delete(self, slot: int) -> None:
        """Close it."""
        assert self.say(f"del {slot}") == ""
        del self.keys[slot]

    def counted(self) -> Stats:
        """What the transport counts."""
        words = self.vm.read_file("/proc/msgtx").split()
        return dict(zip(words[::2], map(int, words[1::2]), strict=True))

    def send(self, segments: Sequence[Sent]) -> None:
        """Send, and do not wait; the last word is the transport's."""
        text = "".join(f"{one.command}\n" for one in segments)
        self.vm.write_file("/tmp/segments", text.encode())
        self.vm.run(
            'while read -r line; do echo "$line" >/proc/msgtx || exit 1; done </tmp/segments'
        )

    def software(self, sent: Sent) -> bytes:
        """The record as software has it."""
        key, salt = self.keys[sent.slot]
        number = sent.record.to_bytes(8, "big")
        text = bytes((31 * i + sent.record) & 0xFF for i in range(sent.octets))
        sealed = AESGCM(key).encrypt(
            salt + number, text, number + b"\x17\x03\x03" + struct.pack(">H", len(text))
        )
        length = struct.pack(">H", 8 + len(sealed))
        return b"\x17\x03\x03" + length + number + sealed

    @contextmanager
    def watched(self, segments: Sequence[Sent]) -> Iterator[None]:
        """On the wire there are these segments, as software makes them, and no others."""
        meant = sorted((one.record, self.software(one)) for one in segments)
        host, count = self.pair.host, sum(one.frames for one in segments)
        receiver = host.start([sys.executable, "-c", _RECEIVE, host.tap, str(count)])
        assert receiver.stdout is not None
        try:
            assert receiver.stdout.readline() == "ready\n"
            yield
            frames = [
                bytes.fromhex(text) for text in json.loads(receiver.communicate(timeout=30)[0])
            ]
        finally:
            receiver.kill()
        assert len(frames) == count
        assert sorted(joined(frames)) == meant

    def check(self, segments: Sequence[Sent]) -> None:
        """Send, and look at the wire."""
        with self.watched(segments):
            self.send(segments)

    @contextmanager
    def counting(self) -> Iterator[Stats]:
        """What the driver counts meanwhile; complete in the end."""
        before = tls_counters(self.vm)
        found: Stats = {}
        yield found
        found.update(moved(before, tls_counters(self.vm)))


def joined(frames: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each segment; the headers of its frames must be right.

    Segments of different numbers may be mixed.
    """
    parts: dict[int, list[bytes]] = {}
    for frame in frames:
        ip, header = frame[ETHERNET:][:IP], frame[ETHERNET + IP :][:HEADER]
        total, ident, fragment = struct.unpack(">HHH", ip[2:8])
        assert total == len(frame) - ETHERNET
        assert fragment == 0x4000
        assert ones(ip) == 0
        record = int.from_bytes(header[20:28], "big")
        assert header == header_of(record)
        if ident == 0 and record in parts:
            yield record, b"".join(parts.pop(record))
        assert ident == len(parts.setdefault(record, []))
        parts[record].append(frame[ETHERNET + IP + HEADER :])
    for record, pieces in parts.items():
        yield record, b"".join(pieces)


def header_of(record: int) -> bytes:
    """The header that every packet of a segment has; nothing of it changes on the way."""
    header = bytearray(0xA0 + i & 0xFF for i in range(HEADER))
    header[12:14] = HEADER // 4 << 4, 0x10
    header[20:28] = record.to_bytes(8, "big")
    return bytes(header)
