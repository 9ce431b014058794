# SPDX-License-Identifier: GPL-2.0-or-later
"""The model alone: from a send queue over a switch into another NIC's receive queue, no guest.

The fake driver of ``tests/unit/device`` writes WQEs and reads CQEs; what is measured is the CPU
time of the model, inside ``Machine.write``: from a doorbell until everything is at rest, with all
completions and events, and the doorbells by which the driver arms its queues again. It is CPU time
of one thread, so other work of the machine does not count. Every arrival is checked.
"""

import statistics
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import thread_time, time_ns

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from nicmodel.device import Nic
from nicmodel.objects.store import Objects
from nicmodel.offload.checksum import ones_sum
from nicmodel.offload.tls.record import TAG
from nicmodel.queues.datapath import Datapath
from nicmodel.queues.sq import Sq
from nicmodel.sanitizer.options import SanitizerOptions
from nicmodel.sanitizer.sanitizer import Sanitizer
from nicmodel.spec.commands import CreateTisIn, CreateTisOut
from nicmodel.spec.contexts import Tisc
from nicmodel.spec.opcodes import CommandOpcode as Op
from nicmodel.spec.tls import (
    CreateGeneralObjectIn,
    EncryptionKeyObj,
    GeneralObject,
    GeneralObjInCmdHdr,
    GeneralObjOutCmdHdr,
)
from nicmodel.spec.wqe import WqeOpcode
from nicmodel.trace.tracer import Tracer
from nicmodel.wire.capture import Capture
from nicmodel.wire.fabric import Fabric
from nicmodel.wire.keyfile import KeyFile
from nicmodel.wire.link import Link
from nicmodel.wire.switch import Switch
from tests.bench.cpu import threads
from tests.bench.report import FOLDER, ROUNDS, Curve, Result, plot
from tests.unit.device.machine import LSO, SEND, Loop, Machine
from tests.unit.device.packets import ethernet, udp
from tests.unit.offload.tls.records import opened12, plain12
from tests.unit.queues.rig import eth_segment
from tests.unit.queues.tls import KEY, SALT, progress_params, static_params

PAYLOAD = 1 << 16
"""Payload bytes of a large send; they lie in pieces of ``PIECE`` bytes, like page fragments."""
PIECE = 1 << 14
MSS = 1448
FRAMES = -(-PAYLOAD // MSS)
"""Frames of a large send."""

RECORD = 1 << 14
"""Bytes of text in a TLS record."""
OVERHEAD = 5 + 8 + TAG
"""Bytes of a TLS 1.2 record that are not text."""

LARGE_BURST = 8
"""Large sends posted by one doorbell. Who sends faster than the model always has some posted."""

SMALL = 64
"""Bytes of a small frame, without FCS."""
BURST = 64
"""Small frames posted by one doorbell; as in ``en_tx.c`` mlx5e_notify_hw, the last one asks for a
completion."""

BUFFERS = 1024
"""Receive WQEs of ``BUFFER`` bytes; all of them are posted whenever a measurement begins."""
BUFFER = 2048

_BOTH_SUMS = 0xC0


class Station(Machine):
    """A driver and its NIC, at rest between the steps of a measurement."""

    busy = 0.0
    """CPU time of the model so far, seconds; what a doorbell sets going elsewhere is in it."""

    def __init__(self, number: int, loop: Loop, queues: int) -> None:
        self.number = number
        self.address = b"\2\0\0\0\0" + bytes([number + 1])
        self.ip = bytes((192, 0, 2, number + 1))
        super().__init__(f"nic{number}", self.address, loop, extra=queues << 20)
        self.up(queues)
        self.posted: list[list[int]] = []

    def write(self, offset: int, data: bytes) -> None:
        """Write BAR 0 and let everything come to rest."""
        start = thread_time()
        super().write(offset, data)
        self.busy += thread_time() - start

    def receive(self, buffers: int) -> None:
        """Post ``buffers`` receive WQEs to each queue, and arm everything."""
        for channel in range(len(self.channels)):
            self.posted.append(self.buffers(self.rq(channel), buffers, BUFFER))
        self.arm()

    def arm(self) -> None:
        """Have events for all that completes from now on."""
        for channel in range(len(self.channels)):
            self.arm_cq(self.got_cq(channel))
            self.arm_cq(self.sent_cq(channel))

    def take(self, channel: int, *, sent: int = 0) -> list[bytes]:
        """What NAPI does: take CQEs, post the buffers again, arm for more.

        Returns the receive CQEs. ``sent``: how many send completions there must be.
        """
        done = self.poll(self.sent_cq(channel))
        assert len(done) == sent
        got = self.poll(self.got_cq(channel))
        if got:
            rq = self.rq(channel)
            rq.producer += len(got)
            self.memory.store_be32(rq.dbr, rq.producer & 0xFFFF)
            self.arm_cq(self.got_cq(channel))
        if done:
            self.arm_cq(self.sent_cq(channel))
        events = self.poll_eq(self.eqs[3 + channel])
        assert len(events) == bool(got) + bool(done)
        return got

    def data(self, cqe: bytes, channel: int = 0) -> bytes:
        """The frame that a CQE tells of."""
        (counter,) = struct.unpack_from(">H", cqe, 0x3C)
        (length,) = struct.unpack_from(">I", cqe, 0x2C)
        return self.memory.read(self.posted[channel][counter % len(self.posted[channel])], length)


def network(stations: int, queues: int = 1, buffers: int = BUFFERS) -> list[Station]:
    """Stations on one switch that has learned where each is."""
    loop = Loop()
    fabric = Fabric(Tracer("wire", loop.clock))
    switch = Switch("sw0", loop.clock)
    made = []
    for number in range(stations):
        station = Station(number, loop, queues)
        Link(fabric, station.nic.port, switch.add_port(str(number)))
        made.append(station)
    for station in made:
        station.receive(buffers)
    for station in made:
        station.send(SEND, eth_segment() + station.segment(_hello(station)))
        station.take(0, sent=1)
        for other in made:
            if other is not station:
                for channel in range(queues):
                    other.take(channel)
        station.busy = 0.0
    return made


def _hello(station: Station) -> bytes:
    return ethernet(b"\xff" * 6, station.address, 0x88B5, bytes(50))


def datagram(a: Station, b: Station, number: int, port: int = 1000) -> bytes:
    """A small UDP frame, no two alike."""
    payload = number.to_bytes(SMALL - 42, "big")
    return ethernet(b.address, a.address, 0x0800, udp(a.ip, b.ip, port, 9, payload))


class Large:
    """64 KiB of TCP in each LSO WQE."""

    name, unit, target = "model_lso", "Gbit/s", 8.0
    least_is = "memcpy and checksum alone"
    steps = 50
    burst = LARGE_BURST
    imm = 0

    def __init__(self) -> None:
        self.a, self.b = network(2)
        head = ethernet(self.b.address, self.a.address, 0x0800, b"")
        head += struct.pack(">BBHHHBBH", 0x45, 0, 0, 7, 0x4000, 64, 6, 0) + self.a.ip + self.b.ip
        head += struct.pack(">HHIIBBHHH", 40000, 5001, 1, 1, 0x80, 0x18, 500, 0, 0)
        head += b"\1\1\x08\x0a" + bytes(8)
        self.head = head
        self.payloads = self._payloads()
        self.bodies = [self._body(payload) for payload in self.payloads]
        self.at = 0

    def _payloads(self) -> list[bytes]:
        generator = np.random.default_rng(3)
        return [generator.bytes(PAYLOAD) for _ in range(16)]

    def _body(self, payload: bytes) -> bytes:
        pieces = [payload[at : at + PIECE] for at in range(0, PAYLOAD, PIECE)]
        segments = b"".join(self.a.segment(piece) for piece in pieces)
        return eth_segment(cs=_BOTH_SUMS, mss=MSS, inline=self.head) + segments

    def step(self) -> None:
        """Send one burst."""
        a, b = self.a, self.b
        for number in range(self.burst):
            last = number == self.burst - 1
            body = self.bodies[self.at % len(self.bodies)]
            a.put(a.sq(), LSO, body, ce=2 if last else 0, imm=self.imm)
            self.at += 1
        a.ring(a.sq())
        assert len(b.take(0)) == FRAMES * self.burst
        a.take(0, sent=1)

    def check(self) -> None:
        """Is what arrives what was sent?"""
        self.a.send(LSO, self.bodies[0])
        frames = [self.b.data(cqe) for cqe in self.b.take(0)]
        assert b"".join(frame[len(self.head) :] for frame in frames) == self.payloads[0]
        self.a.take(0, sent=1)

    def value(self, seconds: float) -> float:
        """Gbit/s of payload when a step takes ``seconds``."""
        return self.burst * PAYLOAD * 8 / seconds / 1e9

    def least(self) -> Callable[[], None]:
        """The same bytes copied twice and summed once, and nothing else."""
        source = np.frombuffer(b"".join(self.payloads), np.uint8).reshape(16, PAYLOAD)
        train = np.empty(PAYLOAD, np.uint8)
        target = np.empty((16, PAYLOAD), np.uint8)
        at = 0

        def work() -> None:
            nonlocal at
            for _ in range(self.burst):
                at = (at + 1) % 16
                train[:] = source[at]
                train.view(np.uint16).sum(dtype=np.uint32)
                target[at] = train

        return work


class TlsLarge(Large):
    """The same with TLS records of 16 KiB; each large send ends within one."""

    name, target = "model_tls_lso", 6.0
    least_is = "AES-GCM alone"

    def __init__(self) -> None:
        super().__init__()
        a = self.a
        context = Tisc(tls_en=True, transport_domain=a.td, pd=a.pd)
        tisn = a.run(Op.CREATE_TIS, CreateTisIn(ctx=context), CreateTisOut).tisn
        key = CreateGeneralObjectIn(
            general_obj_in_cmd_hdr=GeneralObjInCmdHdr(obj_type=GeneralObject.ENCRYPTION_KEY),
            encryption_key_object=EncryptionKeyObj(key_type=1, pd=a.pd, key=bytes(16) + KEY),
        )
        dek = a.run(Op.CREATE_GENERAL_OBJECT, key, GeneralObjOutCmdHdr).obj_id
        self.imm = tisn << 8
        a.put(a.sq(), WqeOpcode.UMR, static_params(dek, 0), ce=0, imm=self.imm, opmod=1)
        a.put(a.sq(), WqeOpcode.SET_PSV, progress_params(tisn), ce=0, opmod=1)

    def _payloads(self) -> list[bytes]:
        generator = np.random.default_rng(3)
        left = 16 * PAYLOAD
        stream = b""
        while left:
            text = min(RECORD, left - OVERHEAD)
            number = len(stream) // (RECORD + OVERHEAD)
            stream += plain12(generator.bytes(text), number.to_bytes(8, "big"))
            left -= text + OVERHEAD
        return [stream[at : at + PAYLOAD] for at in range(0, len(stream), PAYLOAD)]

    def check(self) -> None:
        """Can what arrives be decrypted, and is it what was sent?"""
        stream = b""
        for body in self.bodies:
            self.a.put(self.a.sq(), LSO, body, imm=self.imm)
            self.a.ring(self.a.sq())
            frames = [self.b.data(cqe) for cqe in self.b.take(0)]
            stream += b"".join(frame[len(self.head) :] for frame in frames)
            self.a.take(0, sent=1)
        texts, plain = opened12(KEY, SALT, 0, stream), b"".join(self.payloads)
        for text in texts:
            assert plain[13 : 13 + len(text)] == text
            plain = plain[OVERHEAD + len(text) :]
        assert not plain

    def least(self) -> Callable[[], None]:
        """AES-GCM over as many bytes, in records of the same length, and nothing else."""
        source = memoryview(b"".join(self.payloads))
        target = memoryview(bytearray(RECORD + TAG))
        cipher = AESGCM(KEY)
        nonce, aad = bytes(12), bytes(13)
        records = self.burst * PAYLOAD // RECORD

        def work() -> None:
            for number in range(records):
                at = number * RECORD
                cipher.encrypt_into(nonce, source[at : at + RECORD], aad, target)

        return work


class Healthy(TlsLarge):
    """The same as one connection: sequence numbers and explicit nonces go on from send to send."""

    name = "healthy"
    _SEQ_AT = 14 + 38
    """Where the body of a WQE has the TCP sequence number: in the inline headers."""

    def check(self) -> None:
        """What arrives is checked by ``TlsLarge``."""

    def step(self) -> None:
        """Renew what a driver would write anew, then send; only the sending is measured."""
        for number in range(self.at, self.at + self.burst):
            self._renew(number)
        super().step()

    def _renew(self, number: int) -> None:
        which, size = number % len(self.bodies), RECORD + OVERHEAD
        body = bytearray(self.bodies[which])
        struct.pack_into(">I", body, self._SEQ_AT, number * PAYLOAD + 1 & 0xFFFFFFFF)
        self.bodies[which] = bytes(body)
        segments = body[-16 * (PAYLOAD // PIECE) :]
        begin = which * PAYLOAD
        before = number // len(self.bodies) * -(-len(self.bodies) * PAYLOAD // size)
        for record in range(begin // size, (begin + PAYLOAD - 1) // size + 1):
            nonce = struct.pack(">Q", before + record)
            for at, byte in enumerate(nonce, record * size + 5 - begin):
                if 0 <= at < PAYLOAD:
                    (addr,) = struct.unpack_from(">Q", segments, at // PIECE * 16 + 8)
                    self.a.memory.write(addr + at % PIECE, bytes([byte]))


class Watched(Healthy):
    """The same, and the sender is watched."""

    most = 0.0
    """The target: what it may cost, as a share of what it costs without."""

    def __init__(self) -> None:
        super().__init__()
        life = self.a.nic._life
        assert life is not None
        self.watch(self.a.nic, life.datapath, life.objects)

    def watch(self, nic: Nic, datapath: Datapath, objects: Objects) -> None:
        """Begin to watch ``nic``; its queues are there."""
        raise NotImplementedError

    def rest(self) -> None:
        """What a round has left to be done."""

    def judge(self) -> None:
        """In the end: was it healthy?"""


class Captured(Watched):
    """Its port is captured on the wire and in clear, with its keys."""

    name, most = "model_tls_lso_captured", 0.2

    def watch(self, nic: Nic, datapath: Datapath, objects: Objects) -> None:
        """See ``Watched``."""
        FOLDER.mkdir(parents=True, exist_ok=True)
        self.unseen = nic.port.counts.sent
        self.capture = Capture(FOLDER / f"{self.name}.pcapng", time_ns, nic.tracer)
        keys = KeyFile(FOLDER / f"{self.name}.keys", time_ns, nic.tracer)
        nic.exposure.origins = True
        nic.exposure.handed = (self.capture.attach_both(nic.port).handed,)
        nic.exposure.keys = (keys.add,)
        nic.exposure.begin(datapath, objects)

    def rest(self) -> None:
        """See ``Watched``."""
        self.capture.flush()

    def judge(self) -> None:
        """See ``Watched``: all that was sent is there twice."""
        sent = self.a.nic.port.counts.sent - self.unseen
        assert self.capture.frames == 2 * sent
        scribe = sum(threads(self.capture.scribe.pid).values()) / (sent / FRAMES)
        self.capture.close()
        print(f"  {self.name}: its scribe takes {scribe * 1e6:,.0f} us of another core a send")
        self.capture.path.unlink()


class Sanitized(Watched):
    """Its sanitizer runs, as it does unless it is switched off."""

    name, most = "model_tls_lso_sanitized", 0.1

    def watch(self, nic: Nic, datapath: Datapath, objects: Objects) -> None:
        """See ``Watched``."""
        self.sanitizer = Sanitizer(SanitizerOptions(), nic.tracer)
        nic.tracer.add(self.sanitizer)
        self.sanitizer.begin(datapath)
        for queue in datapath.queues():
            if isinstance(queue, Sq):
                queue.tap(self.sanitizer.sees)

    def judge(self) -> None:
        """See ``Watched``."""
        assert not self.sanitizer.findings, self.sanitizer.findings


class Small:
    """Bursts of small datagrams."""

    name, unit, target = "model_small_send", "frames/s", 100_000.0
    least_is = Large.least_is
    steps = 100
    burst = BURST

    def __init__(self) -> None:
        self.a, self.b = network(2)
        self.frames = [datagram(self.a, self.b, number) for number in range(256)]
        self.bodies = [eth_segment(cs=_BOTH_SUMS) + self.a.segment(frame) for frame in self.frames]
        self.at = 0

    def step(self) -> None:
        """Send one burst."""
        a, b = self.a, self.b
        self._post()
        a.ring(a.sq())
        assert len(b.take(0)) == self.burst
        a.take(0, sent=1)

    def _post(self) -> None:
        for number in range(self.burst):
            last = number == self.burst - 1
            self.a.put(self.a.sq(), SEND, self.bodies[self.at % 256], ce=2 if last else 0)
            self.at += 1

    def check(self) -> None:
        """Is what arrives what was sent?"""
        self.at = 0
        self._post()
        self.a.ring(self.a.sq())
        for number, cqe in enumerate(self.b.take(0)):
            assert self.b.data(cqe)[42:] == self.frames[number][42:]
            assert cqe[0x1C] & 7 == 7, "the checksums are right"
        self.a.take(0, sent=1)

    def value(self, seconds: float) -> float:
        """Frames a second when a step takes ``seconds``."""
        return self.burst / seconds

    def least(self) -> Callable[[], None]:
        """Copy in, sum, copy out for each frame of a burst."""
        source = memoryview(bytearray(b"".join(self.frames)))
        target = memoryview(bytearray(len(source)))
        places = range(0, SMALL * self.burst, SMALL)

        def work() -> None:
            for at in places:
                frame = source[at : at + SMALL]
                ones_sum(frame)
                target[at : at + SMALL] = frame

        return work


class Single(Small):
    """One small datagram a doorbell: what a ping costs on its way in one direction."""

    name, unit, target = "model_single_send", "us", 50.0
    steps = 500
    burst = 1

    def value(self, seconds: float) -> float:
        """Microseconds of a step."""
        return seconds * 1e6


Load = Large | Small
LOADS: tuple[type[Load], ...] = (Large, TlsLarge, Small, Single)


def run() -> list[Result]:
    """All measurements of the model alone, the curves and the flame graphs."""
    results = [measure(load) for load in LOADS]
    results += [cost(kind) for kind in (Captured, Sanitized)]
    plot(curves(), "cost_against_work")
    for load in LOADS:
        flame(load)
    return results


def measure(kind: type[Load]) -> Result:
    """One figure beside what copying and summing alone would reach, in alternating rounds."""
    load = kind()
    load.check()
    least = load.least()
    rounds: list[tuple[float, float]] = []
    for _ in range(ROUNDS):
        before = load.a.busy + load.b.busy
        for _ in range(load.steps):
            load.step()
        mine = (load.a.busy + load.b.busy - before) / load.steps
        start = thread_time()
        for _ in range(load.steps):
            least()
        rounds.append((load.value(mine), load.value((thread_time() - start) / load.steps)))
    value, limit = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(f"  {kind.name}: {value:,.1f} {kind.unit}; {kind.least_is} {limit:,.1f}")
    share = limit / value if kind is Single else value / limit
    return Result(
        kind.name,
        value,
        kind.unit,
        "target",
        kind.target,
        value / kind.target,
        tuple(rounds),
        limit,
        share,
        kind.least_is,
    )


def cost(kind: type[Watched]) -> Result:
    """``Healthy`` watched beside the same where nobody watches, in alternating rounds."""
    watched, plain = kind(), Healthy()
    rounds: list[tuple[float, float]] = []
    for _ in range(ROUNDS):
        before = watched.a.busy + watched.b.busy
        for _ in range(watched.steps):
            watched.step()
        start = thread_time()
        watched.rest()
        mine = watched.a.busy + watched.b.busy - before + thread_time() - start
        before = plain.a.busy + plain.b.busy
        for _ in range(plain.steps):
            plain.step()
        theirs = plain.a.busy + plain.b.busy - before
        rounds.append((watched.value(mine / watched.steps), plain.value(theirs / plain.steps)))
    watched.judge()
    value, peer = (statistics.median(column) for column in zip(*rounds, strict=True))
    said = f"costs {peer / value - 1:.0%}, {kind.most:.0%} is the target"
    print(f"  {kind.name}: {value:,.1f} {kind.unit}, {peer:,.1f} without; {said}")
    return Result(kind.name, value, kind.unit, "without", peer, value / peer, tuple(rounds))


def curves() -> list[Curve]:
    """Cost of a small frame against the number of NICs on a switch, and of queues."""
    by_nics = [(number, _cost(number, 1)) for number in (1, 2, 4, 8)]
    by_queues = [(number, _cost(2, number)) for number in (1, 2, 4, 8, 16, 32, 64)]
    return [
        Curve("NICs on one switch, each sends to the next", "NICs", "us a frame", by_nics),
        Curve("send and receive queues of one NIC", "queues", "us a frame", by_queues),
    ]


def _cost(stations: int, queues: int) -> float:
    """Microseconds of CPU for a small frame, median of rounds.

    Each station sends bursts of ``BURST`` frames to the next one, spread over all its queues, and
    their flows over all the receiver's; one station alone sends to nobody.
    """
    nics = network(stations, queues, BUFFERS if queues == 1 else 2 * BURST)
    burst = max(BURST, queues)
    bodies = []
    for number, nic in enumerate(nics):
        peer = nics[(number + 1) % stations]
        frames = [datagram(nic, peer, n, 1000 + n) for n in range(burst)]
        bodies.append([eth_segment(cs=_BOTH_SUMS) + nic.segment(frame) for frame in frames])
    samples = []
    for _ in range(ROUNDS):
        before = sum(nic.busy for nic in nics)
        for _ in range(10):
            for number, nic in enumerate(nics):
                for n, body in enumerate(bodies[number]):
                    ce = 2 if n >= burst - queues else 0
                    nic.put(nic.sq(n % queues), SEND, body, ce=ce)
                for channel in range(queues):
                    last = channel == queues - 1
                    _ring(nic, channel, flush=last)
                peer = nics[(number + 1) % stations]
                if peer is not nic:
                    assert sum(len(peer.take(channel)) for channel in range(queues)) == burst
                for channel in range(queues):
                    nic.take(channel, sent=1)
        samples.append((sum(nic.busy for nic in nics) - before) / (10 * burst * stations))
    return statistics.median(samples) * 1e6


def _ring(nic: Station, channel: int, *, flush: bool) -> None:
    """A send doorbell; only the last one of a batch lets the device work."""
    sq = nic.sq(channel)
    if flush:
        nic.ring(sq)
    else:
        data = struct.pack(">II", (sq.producer & 0xFFFF) << 8, sq.number << 8)
        nic.frontend.post(nic.page() + 0x800, data)


def flame(kind: type[Load]) -> None:
    """Profile a load with py-spy; the flame graph goes to ``FOLDER``."""
    path = FOLDER / f"{kind.name}.svg"
    python = [sys.executable, "-m", "tests.bench.model", kind.name]
    spy = Path(sys.executable).with_name("py-spy")
    said = subprocess.run(
        [spy, "record", "--rate", "500", "--output", str(path), "--", *python],
        capture_output=True,
        text=True,
        check=False,
    )
    if said.returncode:
        print(f"  no flame graph of {kind.name}: {said.stderr.strip().splitlines()[-1]}")
    else:
        print(f"  flame graph: {path}")


def _endless(name: str) -> None:
    """What a flame graph is taken of: 20 rounds of one load."""
    (load,) = [kind() for kind in LOADS if kind.name == name]
    for _ in range(20 * load.steps):
        load.step()


if __name__ == "__main__":
    _endless(sys.argv[1])
