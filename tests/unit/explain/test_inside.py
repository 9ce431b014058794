# SPDX-License-Identifier: GPL-2.0-or-later
"""What guests did in the story of a message: ``run`` is what a scenario in real guests has left.

Of its captures only SMT and the side of the wire is there, of its events those that stories need.
"""

import re
import shutil
from pathlib import Path

import pytest

from nicmodel.cli import main

RUN = Path(__file__).with_name("run")
REQUEST, RESPONSE = "0xcc2ab51540de6", "0xcc2ab51540de7"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return shutil.copytree(RUN, tmp_path / "run")


def explain(capsys: pytest.CaptureFixture[str], run: Path, message: str, *words: str) -> list[str]:
    assert main(["explain", str(run), "--message", message, *words]) == 0
    return capsys.readouterr().out.splitlines()[1:]


def untimed(lines: list[str]) -> list[str]:
    return [line[14:] for line in lines if re.match(r" *\d+\.\d{3}  ", line)]


def moved(run: Path, guest: str, by: int) -> None:
    """The clock of a guest was read wrongly by so many ns."""
    path = run / f"{guest}.ftrace"
    text = re.sub(
        r"(?<= host )\d+", lambda found: str(int(found[0]) + by), path.read_text(), count=2
    )
    path.write_text(text)


def test_from_sendmsg_to_recvmsg(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    *lines, of_a, of_b = explain(capsys, run, REQUEST)
    assert of_a == "guest a: its times may be wrong by 1.410 ms beside those of the NICs"
    assert of_b.startswith("guest b: its times may be wrong by 1.845 ms")
    times = [float(line.split()[0]) for line in lines]
    assert times == sorted(times)
    assert untimed(lines) == [
        "guest a  sendmsg() of 3000 bytes (smt_echo, process 211, CPU 1)",
        "guest a  its segments are built, and go as far as they may",
        (
            "guest a  hands packets 0-2 of the segment at byte 0 to the device as one skb with "
            "3089 bytes, which is to encrypt it"
        ),
        "a        SQ 0x7 WQE 12: TIS 0x9 is told to go on with record 0x6155a8aa06f30000",
        (
            "a        SQ 0x7 WQE 14, TIS 0x9, record 0 (number 0x6155a8aa06f30000): sends packets "
            "0-2 of the segment at byte 0 (frames 1-3 of a.pcapng), encrypted"
        ),
        (
            "a > b    packet 1 of the segment at byte 0 does not arrive at b: lost by rule 1 of "
            "link a/out"
        ),
        "b        packet 0 of the segment at byte 0 arrives (frame 1 of b.pcapng)",
        "b        packet 2 of the segment at byte 0 arrives (frame 2 of b.pcapng)",
        "a        SQ 0x7: all up to WQE 14 is complete",
        "guest b  its first packet begins an RPC",
        "b        sends CUTOFFS (CUTOFFS, frame 3 of b.pcapng)",
        "a        asks again for bytes 0 to 99 of the answer (RESEND, frame 5 of a.pcapng)",
        "b        says that it lives and sends nothing now (BUSY, frame 5 of b.pcapng)",
        "guest b  asks again for bytes 1391 to 2810",
        "b        asks again for bytes 1391 to 2810 (RESEND, frame 6 of b.pcapng)",
        "guest a  is asked again for bytes 1391 to 2810",
        (
            "guest a  hands packets 0-2 of the segment at byte 0 to the device again as one skb "
            "with 3089 bytes, which is to encrypt it"
        ),
        "a        SQ 0x7 WQE 20: TIS 0x9 is told to go on with record 0x6155a8aa06f30000",
        (
            "a        SQ 0x7 WQE 22, TIS 0x9, record 0 (number 0x6155a8aa06f30000): sends again "
            "packets 0-2 of the segment at byte 0 (frames 8-10 of a.pcapng), encrypted"
        ),
        "b        packets 0-2 of the segment at byte 0 arrive (frames 7-9 of b.pcapng)",
        "b        now all of it has arrived",
        "a        SQ 0x7: all up to WQE 22 is complete",
        "guest b  the record with bytes 0 to 2999 is decrypted and authentic",
        "guest b  all 3000 bytes wait for recvmsg()",
        "guest b  recvmsg() of 3000 bytes (smt_echo, process 209, CPU 1)",
        "b        asks for an acknowledgement (NEED_ACK, frame 13 of b.pcapng)",
        "a        sends CUTOFFS (CUTOFFS, frame 15 of a.pcapng)",
        "guest a  the RPC is over",
        "guest b  the RPC is over",
        "a        acknowledges (ACK, frame 16 of a.pcapng)",
    ]


@pytest.mark.parametrize("guest", ["a", "b"])
@pytest.mark.parametrize("by", [-5_000_000, 5_000_000])
@pytest.mark.parametrize("message", [REQUEST, RESPONSE])
def test_a_clock_that_errs_does_not_turn_cause_and_effect_round(
    run: Path, capsys: pytest.CaptureFixture[str], guest: str, by: int, message: str
) -> None:
    moved(run, guest, by)
    lines = untimed(explain(capsys, run, message))
    (sender, receiver) = "ab" if message == REQUEST else "ba"

    def place(text: str, which: int = 0) -> int:
        return [at for at, line in enumerate(lines) if re.match(text, line)][which]

    built = place(rf"guest {sender}  its segments are built")
    handed = place(rf"guest {sender}  hands packets")
    sent = place(rf"{sender} +SQ .* sends ")
    assert place(rf"guest {sender}  sendmsg") < built < handed < sent
    asking = "b" if message == REQUEST else "a"
    assert place(rf"guest {asking}  asks again") < place(
        rf"{asking}  +asks again for .*, frame \d+ "
    )
    arrived = place(rf"{receiver} +now all of it has arrived")
    authentic = place(rf"guest {receiver}  the record with bytes 0 to 2999 is decr")
    assert arrived < authentic < place(rf"guest {receiver}  recvmsg")


def test_the_story_of_the_answer(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It has what is of the answer alone, though both have the id of one RPC."""
    lines = untimed(explain(capsys, run, RESPONSE))
    told = [line for line in lines if line.startswith("guest")]
    assert [line.split("(")[0].strip() for line in told if "msg()" in line or "msg(" in line] == [
        "guest b  sendmsg",
        "guest a  all 3000 bytes wait for recvmsg",
        "guest a  recvmsg",
    ]
    assert not any("begins an RPC" in line for line in told)
    assert sum("is asked again for bytes 0 to 99" in line for line in told) == 1


def test_an_rpc_that_fails(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "a.ftrace"
    path.write_text(re.sub(r"(smt_deliver: .*value=)3000", r"\1-110", path.read_text()))
    for message in (REQUEST, RESPONSE):
        lines = untimed(explain(capsys, run, message))
        assert "guest a  the RPC fails: ETIMEDOUT" in lines


def test_an_rpc_of_another_socket_with_the_same_id(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / "a.ftrace"
    text = path.read_text()
    path.write_text(text + text.replace("port=32768", "port=32769"))
    lines = untimed(explain(capsys, run, REQUEST))
    assert sum("sendmsg()" in line for line in lines) == 1


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (("a.ftrace", "b.ftrace"), "scenarios of 'nicmodel test' and 'nicmodel up --smt-kmod'"),
        (("a.ftrace",), "guest b: its times may be wrong by"),
    ],
)
def test_a_run_without_trace(
    run: Path, capsys: pytest.CaptureFixture[str], names: tuple[str, ...], sentence: str
) -> None:
    whole = untimed(explain(capsys, run, REQUEST))
    gone = tuple(f"guest {name[0]} " for name in names)
    for name in names:
        (run / name).unlink()
    *lines, note = explain(capsys, run, REQUEST)
    assert sentence in note
    want = [line.replace("guest ", "") for line in whole if not line.startswith(gone)]
    assert [re.sub(" +", " ", line).replace("guest ", "") for line in untimed(lines)] == [
        re.sub(" +", " ", line) for line in want
    ]


def test_traces_without_the_message(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for guest in "ab":
        path = run / f"{guest}.ftrace"
        path.write_text("\n".join(path.read_text().splitlines()[:2]) + "\n")
    assert explain(capsys, run, REQUEST)[-1] == "no guest's trace has anything of this message"


def test_what_was_lost_is_said(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "a.ftrace"
    path.write_text(path.read_text().replace("written: 11/11", "written: 11/31"))
    assert explain(capsys, run, REQUEST)[-2].endswith("; 20 events before were lost")


def test_guests_have_lines_of_their_own(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    explain(capsys, run, REQUEST, "--html", str(run / "story.html"))
    page = (run / "story.html").read_text()
    places = re.findall(r'<text x="0" y="\d+">(.*?)</text>', page)
    assert places == ["guest a", "a", "a &gt; b", "b", "guest b"]
    assert page.count("<td>guest a</td>") == 6
    assert "its times may be wrong by" in page
