# SPDX-License-Identifier: GPL-2.0-or-later
"""The story of a message, told from the captures and events of two NICs and a bad cable."""

import struct
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from nicmodel.cli import main
from nicmodel.queues.events import TlsTxCompleted
from nicmodel.spec.wqe import WqeOpcode
from nicmodel.trace.events import RunBegan
from nicmodel.trace.tracer import JsonlSink, Tracer
from nicmodel.wire.capture import Capture
from nicmodel.wire.fabric import Fabric
from nicmodel.wire.impair import ImpairedLink
from tests.oracles import smt_frames
from tests.oracles.smt_frames import ACK, GRANT, NEED_ACK, RESEND, End, number_of
from tests.unit.device.machine import Loop, Machine
from tests.unit.hunt.rig import Driver
from tests.unit.offload.tls.records import plain12
from tests.unit.queues.rig import eth_segment
from tests.unit.wire.test_impair import made

EPOCH = 1_700_000_000 * 10**9
ID = (7 << 16) + 4
MSS = 1440
END = End(macs=b"\2\0\0\0\0\2\2\0\0\0\0\1")

Say = Callable[..., list[str]]


class Run:
    """NIC a sends messages to NIC b; what is left of it lies in ``folder``."""

    def __init__(self, folder: Path, *, clear: bool = False) -> None:
        self.folder = folder
        self.loop = Loop()
        self.stream = (folder / "events.jsonl").open("w")
        sink = JsonlSink(self.stream)
        wire = Tracer("wire", self.loop.clock, (sink,))
        self.loop.advance(1.0)
        wire.emit(RunBegan(EPOCH + self.loop.clock(), 1))
        self.a = Driver(self.loop)
        self.b = Machine("b", b"\2\0\0\0\0\2", self.loop)
        self.link = ImpairedLink(
            Fabric(wire),
            self.a.nic.port,
            self.b.nic.port,
            name="a",
            seed=1,
            scheduler=self.loop,
            clock=self.loop.clock,
            tracer=wire,
        )
        self.captures = []
        for machine in (self.a, self.b):
            machine.nic.tracer.add(sink)
            machine.nic.exposure.origins = True
            name = machine.nic.name
            capture = Capture(
                folder / f"{name}.pcapng", lambda: EPOCH + self.loop.clock(), machine.nic.tracer
            )
            (capture.attach_both if clear else capture.attach)(machine.nic.port)
            self.captures.append(capture)
            machine.again()
        self.context = self.a.context()

    def lose(self, **rule: Any) -> None:
        self.link.rule([made(**rule)])

    def segment(self, index: int, octets: int, *, sender_id: int = ID, total: int = 9000) -> None:
        """Send record ``index`` of the message in one LSO, after a resync if that is needed."""
        number = number_of("A", sender_id, index)
        queue = self.a.sq(1)
        if self.a.expected.get(self.context[0]) != number:
            self.a.resync(queue, self.context, number)
        self.a.expected[self.context[0]] = number + 1
        offset = index * 4000
        head = smt_frames.data_header(END, sender_id, total, offset)
        body = eth_segment(mss=MSS, inline=smt_frames.ip(END, head))
        body += self.a.segment(plain12(bytes(octets), number.to_bytes(8, "big")))
        self.a.put(queue, WqeOpcode.LSO, body, imm=self.context[0] << 8)
        self.a.ring(queue)
        self.loop.advance(0.01)

    def say(self, machine: Machine, kind: int, end: End, sender_id: int, body: bytes = b"") -> None:
        frame = smt_frames.ip(end, smt_frames.common(end, kind, sender_id) + body)
        frame = frame.ljust(60, b"\0")
        machine.send(WqeOpcode.SEND, eth_segment(inline=frame[:18]) + machine.segment(frame[18:]))
        self.loop.advance(0.01)

    def end(self) -> None:
        while self.captures:
            self.captures.pop().close()
        self.stream.close()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


@pytest.fixture
def explain(run: Run, capsys: pytest.CaptureFixture[str]) -> Say:
    def say(*words: str, status: int = 0, path: Path | None = None) -> list[str]:
        run.end()
        assert main(["explain", str(path or run.folder), *words]) == status
        said = capsys.readouterr()
        return (said.out + said.err).splitlines()

    return say


def lossy(run: Run) -> None:
    """Two segments; a packet of the second one is lost, asked for, and sent again with the rest."""
    run.segment(0, 4000)
    run.lose(loss=1, nth=2)
    run.segment(1, 4000)
    run.link.rule([])
    back = END.reversed
    run.say(run.b, RESEND, back, ID ^ 1, struct.pack(">IIB", 5000, 1300, 0))
    run.segment(1, 4000)
    run.segment(2, 900)
    run.say(run.b, GRANT, back, ID ^ 1, struct.pack(">IB", 9000, 0))
    run.say(run.b, NEED_ACK, back, ID ^ 1)
    run.say(run.a, ACK, END, ID, struct.pack(">HQHH", 1, ID, 0, 0) + bytes(48))


def test_the_story_of_a_message(run: Run, explain: Say) -> None:
    lossy(run)
    run.segment(0, 100, sender_id=ID + 2)  # another one
    run.say(run.b, GRANT, END.reversed, ID + 2 ^ 1, struct.pack(">IB", 9000, 0))
    title, *lines, note = explain("--message", hex(ID))
    assert note.startswith("what programs and SMT did in the guests is not in it: scenarios")
    assert title == (
        f"message {ID:#x}, a, 10.77.0.1:40000 > 10.77.0.2:4000: SMT variant A, 9000 bytes in "
        "7 packets"
    )
    told = [line.split(maxsplit=1) for line in lines]
    times = [float(time) for time, _ in told]
    assert times == sorted(times)
    assert times[0] == 0
    tis, sq = f"TIS {run.context[0]:#x}", f"SQ {run.a.sq(1).number:#x}"
    n = number_of("A", ID, 0)
    again = f"{sq} WQE 14, {tis}, record 1 (number {n + 1:#x})"
    assert [what for _, what in told] == [
        f"a      {sq} WQE 3: {tis} is told to go on with record {n:#x}",
        f"a      {sq} WQE 5, {tis}, record 0 (number {n:#x}): sends packets 0-2 of the segment at "
        "byte 0 (frames 1-3 of a.pcapng), encrypted",
        f"a      {sq}: all up to WQE 5 is complete",
        "b      packets 0-2 of the segment at byte 0 arrive (frames 1-3 of b.pcapng)",
        f"a      {sq} WQE 7, {tis}, record 1 (number {n + 1:#x}): sends packets 0-2 of the segment "
        "at byte 4000 (frames 4-6 of a.pcapng), encrypted",
        f"a      {sq}: all up to WQE 7 is complete",
        "a > b  packet 1 of the segment at byte 4000 does not arrive at b: lost by rule 1 of link "
        "a/out",
        "b      packets 0, 2 of the segment at byte 4000 arrive (frames 4-5 of b.pcapng)",
        "b      asks again for bytes 5000 to 6299 (RESEND, frame 6 of b.pcapng)",
        f"a      {sq} WQE 12: {tis} is told to go on with record {n + 1:#x}",
        f"a      {again}: sends again packets 0-2 of the segment at "
        "byte 4000 (frames 8-10 of a.pcapng), encrypted",
        f"a      {sq}: all up to WQE 14 is complete",
        "b      packets 0-2 of the segment at byte 4000 arrive (frames 7-9 of b.pcapng)",
        f"a      {sq} WQE 16, {tis}, record 2 (number {n + 2:#x}): sends packet 0 of the segment "
        "at byte 8000 (frame 11 of a.pcapng), encrypted",
        f"a      {sq}: all up to WQE 16 is complete",
        "b      packet 0 of the segment at byte 8000 arrives (frame 10 of b.pcapng)",
        "b      now all of it has arrived",
        "b      permits bytes up to 9000 (GRANT, frame 11 of b.pcapng)",
        "b      asks for an acknowledgement (NEED_ACK, frame 12 of b.pcapng)",
        "a      acknowledges (ACK, frame 14 of a.pcapng)",
    ]


def test_corrupt_and_doubled_packets(run: Run, explain: Say) -> None:
    run.lose(corrupt=1, nth=1, corrupt_bytes="100-200")
    run.segment(0, 2000)
    run.lose(duplicate=1, nth=2)
    run.segment(1, 2000)
    said = "\n".join(explain("--message", str(ID)))
    assert "packet 0 of the segment at byte 0 does not arrive at b: corrupted by rule 1" in said
    assert "packet 0 of the segment at byte 0 with other bytes than were sent (frame 1 of" in said
    assert "packet 1 of the segment at byte 4000 arrives once more than sent" in said


def test_nothing_arrives(run: Run, explain: Say) -> None:
    run.lose(loss=1)
    run.segment(0, 2000)
    said = explain("--message", hex(ID))
    assert said[-2].endswith(
        "no capture has any of it at its other end: nothing arrived, or nobody looked"
    )


def test_a_finding_is_a_part_of_the_story(run: Run, explain: Say) -> None:
    run.stream.write(
        '{"time": 1500000000, "nic": "a", "event": "NonceReused", "severity": "finding", '
        f'"sentence": "nonce: it is", "message": {ID}}}\n'
    )
    run.segment(0, 2000)
    assert any(line.endswith("  a  nonce: it is") for line in explain("--message", hex(ID)))


def test_the_story_of_a_record(run: Run, explain: Say) -> None:
    """Of any transport: what the NIC says of its frames is enough."""
    lossy(run)
    number = number_of("A", ID, 1)
    title, *lines = explain("--record", str(number))
    assert title.endswith("3 frames have a part of it")
    assert sum("sends" in line for line in lines) == 2
    assert sum("is told to go on with" in line for line in lines) == 1
    assert sum("does not arrive" in line for line in lines) == 1


def test_which_messages_there_are(run: Run, explain: Say) -> None:
    lossy(run)
    run.segment(0, 100, sender_id=ID + 2, total=100)
    assert explain() == [
        "a, 10.77.0.1:40000 > 10.77.0.2:4000",
        f"  message {ID:#x}: 9000 bytes, 10 packets sent, 3 of them again",
        f"  message {ID + 2:#x}: 100 bytes, 1 packets sent",
    ]


def test_the_clear_side_of_a_capture_tells_nothing_new(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(tmp_path, clear=True)
    run.segment(0, 4000)
    run.end()
    assert main(["explain", str(tmp_path)]) == 0
    flow, message = capsys.readouterr().out.splitlines()
    assert (flow[:2], message[-14:]) == ("a,", "3 packets sent")


def test_only_completions_that_encrypted_packets_wait_for_are_events(run: Run) -> None:
    run.segment(0, 100)
    for _ in range(3):
        run.a.put(run.a.sq(1), WqeOpcode.NOP, b"")
        run.a.ring(run.a.sq(1))
    run.segment(1, 100)
    completed = [event.wqe for event in run.a.sink.of(TlsTxCompleted)]
    assert completed == [5, 10]


def test_captures_by_name(run: Run, explain: Say) -> None:
    lossy(run)
    both = explain(str(run.folder / "b.pcapng"), "--message", hex(ID), path=run.folder / "a.pcapng")
    assert both == explain("--message", hex(ID))


def test_one_capture_alone(run: Run, explain: Say) -> None:
    lossy(run)
    said = explain("--message", hex(ID), path=run.folder / "a.pcapng")
    assert sum("sends" in line for line in said) == 4
    assert any("is told to go on with" in line for line in said)


class Page(HTMLParser):
    """Counts what there is, and what would be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: dict[str, int] = {}
        self.fetched: list[str] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.fetched += [f"{tag} {k}" for k, _ in attrs if k in ("src", "srcset", "data")]
        self.fetched += [str(v) for k, v in attrs if k == "href" and not str(v).startswith("#")]
        if tag not in ("meta", "line", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_needs_nothing_else(run: Run, explain: Say) -> None:
    run.stream.write(
        '{"time": 1500000000, "nic": "a", "event": "NonceReused", "severity": "finding", '
        f'"sentence": "nonce: <script>&</script>", "message": {ID}}}\n'
    )
    lossy(run)
    path = run.folder / "story.html"
    lines = explain("--message", hex(ID), "--html", str(path))
    page = Page()
    page.feed(path.read_text())
    assert page.open == []
    assert page.fetched == []
    assert "script" not in page.tags
    moments = len(lines) - 3
    assert page.tags["circle"] == page.tags["tr"] - 1 == moments
    assert page.tags["line"] == 3  # a, b, and between them
    assert "lost by rule 1 of link a/out" in page.text
    assert "a > b" in page.text
    assert "nonce: <script>&</script>" in page.text


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--message", "5"), "no NIC has sent message 0x5 in these captures"),
        (("--record", "5"), "no NIC has sent record 5 in these captures"),
        (("--message", "1", "--record", "1"), "either --message or --record"),
        (("--message", hex(ID), "--flow", "x"), "no flow of message 0x70004 has 'x' in its name"),
        (("--message", hex(ID), "--html", "/nowhere/x"), "cannot write /nowhere/x"),
        (("--message", "six"), "invalid _index value: 'six'"),
    ],
)
def test_mistakes(run: Run, explain: Say, words: tuple[str, ...], why: str) -> None:
    run.segment(0, 100)
    assert why in explain(*words, status=1)[-1]


def test_a_folder_without_captures(explain: Say, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "has no capture" in explain(path=tmp_path / "empty", status=1)[-1]


def test_which_flow_must_be_clear(run: Run, explain: Say) -> None:
    run.segment(0, 100)
    head = smt_frames.data_header(END.reversed, ID, 100, 0)
    frame = smt_frames.ip(END.reversed, head + bytes(60))
    run.b.send(WqeOpcode.SEND, eth_segment(inline=frame[:18]) + run.b.segment(frame[18:]))
    assert (
        "there are several message 0x70004; say which one by --flow: 'a, 10.77"
        in (explain("--message", hex(ID), status=1)[-1])
    )
    said = explain("--message", hex(ID), "--flow", "10.77.0.2:4000 >")
    assert any("sends" in line and line.endswith("as the guest made it") for line in said)
