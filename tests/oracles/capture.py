# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames of a capture as bytes, while it still grows; shares no code with the one who writes it.

Source: draft-ietf-opsawg-pcapng (Enhanced Packet Block), the classic pcap format.
"""

import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_SECTION, _PACKET = 0x0A0D0D0A, 6
_LITTLE_ENDIAN = b"\x4d\x3c\x2b\x1a"
_EPB_FLAGS = 2
_TCP, _FIN = 6, 1


@dataclass(frozen=True, slots=True)
class Captured:
    """A frame; ``outbound`` as the port saw it, None if the capture does not say."""

    interface: int
    outbound: bool | None
    data: bytes


class Follower:
    """Reads what is added to a little-endian pcapng file from now on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        for _ in self.new():
            pass

    def new(self) -> Iterator[Captured]:
        """Yield the frames that were written since the last call."""
        with self._path.open("rb") as file:
            file.seek(self._at)
            data = memoryview(file.read())
        at = 0
        while len(data) - at >= 12:
            kind, length = struct.unpack_from("<II", data, at)
            assert length >= 12, f"{self._path} is no pcapng file"
            if len(data) - at < length:
                break
            if kind == _SECTION:
                assert bytes(data[at + 8 : at + 12]) == _LITTLE_ENDIAN, "not little-endian"
            elif kind == _PACKET:
                yield _packet(data[at + 8 : at + length - 4])
            at += length
            self._at += length

    def forget(self) -> None:
        """Give back the disk space of what was read; a hole is left."""
        size = self._at - self._at % 4096
        if size:
            punch = ["fallocate", "--punch-hole", "--offset", "0", "--length", str(size)]
            subprocess.run([*punch, str(self._path)], check=True)

    def collect(
        self,
        wanted: Callable[[Captured], bool],
        enough: Callable[[list[Captured]], bool],
        seconds: float = 30.0,
    ) -> list[Captured]:
        """Return the wanted frames as soon as they are enough, or what there is in the end."""
        found: list[Captured] = []
        deadline = time.monotonic() + seconds
        while True:
            found += filter(wanted, self.new())
            if enough(found) or time.monotonic() > deadline:
                return found
            time.sleep(0.05)

    def conversation(self, port: int, fins: int) -> list[Captured]:
        """Frames of a TCP port over IPv4 without options, from now on to so many with FIN."""

        def of_port(frame: Captured) -> bool:
            data = frame.data
            if data[12:14] != b"\x08\x00" or data[23] != _TCP:
                return False
            return port in struct.unpack_from(">HH", data, 34)

        return self.collect(
            of_port, lambda found: sum(frame.data[47] & _FIN for frame in found) >= fins
        )


def _packet(body: memoryview) -> Captured:
    interface, _, _, captured, original = struct.unpack_from("<IIIII", body)
    assert captured == original, "a frame was cut by the capture"
    options = 20 + captured + (-captured & 3)
    outbound = None
    while options + 4 <= len(body):
        code, size = struct.unpack_from("<HH", body, options)
        if code == _EPB_FLAGS:
            outbound = body[options + 4] & 3 == 2
        options += 4 + size + (-size & 3)
        if not code:
            break
    return Captured(interface, outbound, bytes(body[20 : 20 + captured]))


def write_pcap(path: Path, frames: Sequence[bytes]) -> Path:
    """Write Ethernet frames as a pcap file, for tools that want one."""
    out = bytearray(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, 1))
    for number, frame in enumerate(frames):
        out += struct.pack("<IIII", number, 0, len(frame), len(frame)) + frame
    path.write_bytes(out)
    return path
