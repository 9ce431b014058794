# SPDX-License-Identifier: GPL-2.0-or-later
"""What a topology says, and the sentence for each way to get it wrong."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nicmodel.command.caps import TCP_LSO
from nicmodel.errors import UserError
from nicmodel.faults.catalogue import Health
from nicmodel.pci.init_segment import HealthSyndrome
from nicmodel.queues.arbiter import Policy
from nicmodel.sanitizer.options import SanitizerOptions
from nicmodel.topology import CaptureSpec, FaultSpec, Flags, NicSpec, RunSpec, TapSpec, load

WHOLE = """
[run]
strict = true
events = "events.jsonl"
seed = 7
control = "control"

[[switch]]
name = "left"
[[switch]]
name = "right"

[[nic]]
name = "a"
socket = "a.sock"
mac = "02:00:00:00:0A:01"
link = "left"
[[nic]]
name = "b"
socket = "/run/b.sock"
link = "right"

[[tap]]
name = "host"
interface = "t0"
netns = "space"
switch = "left"

[[link]]
nic = "a"
direction = "out"
loss = 0.01
[[link]]
nic = "host"
delay = "5ms"

[[capture]]
port = "a"
file = "all.pcapng"
[[capture]]
port = "host"
file = "all.pcapng"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "net.toml"
    path.write_text(text)
    return path


def test_which_card_it_is(tmp_path: Path) -> None:
    text = '[[nic]]\nname = "a"\nsocket = "/a"\n'
    text += 'profile = "connectx6dx-tcp-lso"\narbitration = "random"\n'
    (nic,) = load(write(tmp_path, text)).nics
    assert nic.profile is TCP_LSO
    assert nic.arbitration is Policy.RANDOM


def test_whole_file(tmp_path: Path) -> None:
    topology = load(write(tmp_path, WHOLE))
    assert topology.nics == (
        NicSpec("a", tmp_path / "a.sock", bytes.fromhex("020000000a01"), "left"),
        NicSpec("b", Path("/run/b.sock"), bytes.fromhex("020000000002"), "right"),
    )
    assert topology.switches == ("left", "right")
    assert topology.taps == (TapSpec("host", "t0", "space", "left"),)
    both = tmp_path / "all.pcapng"
    assert topology.captures == (CaptureSpec("a", both), CaptureSpec("host", both))
    assert [(link.nic, link.rule.direction) for link in topology.links] == [
        ("a", "out"),
        ("host", None),
    ]
    assert topology.links[1].rule.delay == 5_000_000
    assert topology.run == RunSpec(True, tmp_path / "events.jsonl", 7, tmp_path / "control")
    assert list(topology.cables()) == [("a", "left"), ("b", "right"), ("host", "left")]


def test_sanitizer_is_on_until_it_is_switched_off(tmp_path: Path) -> None:
    text = '[[nic]]\nname = "a"\nsocket = "/a"\n'
    assert load(write(tmp_path, text)).sanitizer == SanitizerOptions()
    assert load(write(tmp_path, text), Flags(sanitizer=["off"])).sanitizer is None
    assert load(write(tmp_path, text + "[sanitizer]\nenabled = false")).sanitizer is None
    with pytest.raises(UserError, match="sanitizer is one table"):
        load(write(tmp_path, text + "[[sanitizer]]\n"))
    with pytest.raises(UserError, match="did you mean nonce"):
        load(write(tmp_path, text + "[sanitizer]\nnonse = 1"))


def test_json_has_the_same_keys(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    path.write_text(json.dumps({"nic": [{"name": "a", "socket": "/run/a"}]}))
    assert load(path) == load(write(tmp_path, '[[nic]]\nname = "a"\nsocket = "/run/a"'))


def test_flags_give_the_same_without_a_file(tmp_path: Path) -> None:
    text = """
        [run]
        strict = true
        events = "/e.jsonl"
        seed = 9
        control = "/control"
        [[nic]]
        name = "a"
        socket = "/run/a.sock"
        [[nic]]
        name = "b"
        socket = "/run/b.sock"
        mac = "02:00:00:00:00:99"
        link = "sw0"
        [[tap]]
        name = "t0"
        netns = "space"
        [[tap]]
        name = "t1"
        [[link]]
        nic = "t0"
        match = "tcp.port in {1, 2} and frame.len == 3"
        loss = 1
        [[capture]]
        port = "a"
        file = "/a.pcapng"
        [[capture]]
        port = "b"
        file = "/b,keys.pcapng"
        clear = true
        keys = "/b.keys"
        [sanitizer]
        nonce = "fail"
        keys = 7
    """
    flags = Flags(
        nics=["a=/run/a.sock", "b=/run/b.sock,mac=02:00:00:00:00:99,link=sw0"],
        taps=["t0@space", "t1"],
        captures=["a=/a.pcapng", "b=/b,keys.pcapng,clear,keys=/b.keys"],
        links=["t0,match=tcp.port in {1, 2} and frame.len == 3,loss=1"],
        strict=True,
        events=Path("/e.jsonl"),
        seed=9,
        control=Path("/control"),
        sanitizer=["nonce=fail,keys=7"],
    )
    assert load(None, flags) == load(write(tmp_path, text))


def test_flags_add_to_a_file(tmp_path: Path) -> None:
    path = write(tmp_path, '[run]\nseed = 3\n[[nic]]\nname = "a"\nsocket = "a"')
    topology = load(path, Flags(nics=["b=b.sock"], strict=True, events=Path("e")))
    assert [nic.socket for nic in topology.nics] == [tmp_path / "a", Path("b.sock")]
    assert topology.run == RunSpec(True, Path("e").absolute(), 3)


@pytest.mark.parametrize("links", [{"a": "b"}, {"b": "a"}, {"a": "b", "b": "a"}])
def test_two_nics_back_to_back(links: dict[str, str]) -> None:
    nics = [f"{n}=/{n}" + (f",link={links[n]}" if n in links else "") for n in "abc"]
    topology = load(None, Flags(nics=nics))
    assert list(topology.cables()) == [("a", "b"), ("c", "sw0")]


def nic(extra: str = "", *, name: str = "a", socket: str = "/run/a") -> str:
    return f'[[nic]]\nname = "{name}"\nsocket = "{socket}"\n{extra}\n'


MISTAKES = {
    "": "there is no NIC; give --nic NAME=SOCKET or a file with [[nic]]",
    "[[nic": "net.toml is not valid: ",
    "[[nics]]": "net.toml: nics is unknown; did you mean nic?",
    "[[zzz]]": "net.toml: zzz is unknown; known are nic, switch, tap, capture, link, fault, run",
    "[nic]": "net.toml: there can be several of nic; write [[nic]]",
    "nic = [1]": "net.toml: there can be several of nic; write [[nic]]",
    "[[run]]": "net.toml: run is one table; write [run]",
    '[[nic]]\nname = "a"': 'net.toml, [[nic]] 1: socket is missing; add socket = "..."',
    '[[nic]]\nsocket = "a"': 'net.toml, [[nic]] 1: name is missing; add name = "..."',
    nic("sokcet = 1"): "net.toml, [[nic]] 1: sokcet is unknown; did you mean socket?",
    nic("mac = 5"): "net.toml, [[nic]] 1, mac: write a text in quotes instead of 5",
    nic("mac = 1979-05-27"): 'mac: write a text in quotes instead of "1979-05-27"',
    nic('mac = "2:0:0:0:0:1"'): "[[nic]] 1, mac: '2:0:0:0:0:1' is no MAC address; write it like",
    nic('mac = "03:00:00:00:00:01"'): "mac: 03:00:00:00:00:01 cannot be that of a NIC; write",
    nic('mac = "00:00:00:00:00:00"'): "mac: 00:00:00:00:00:00 cannot be that of a NIC; write",
    nic('link = "sw1"'): "[[nic]] 1, link: sw1 is unknown; did you mean sw0?",
    nic('link = "a"'): "[[nic]] 1, link: a cannot be cabled to itself; name another one",
    nic('profile = "connectx6"'): "[[nic]] 1, profile: connectx6 is unknown; did you mean connectx",
    nic('arbitration = "fare"'): "[[nic]] 1, arbitration: fare is unknown; did you mean fair?",
    nic(name="a b"): "[[nic]] 1, name: 'a b' is no name; use at most 32 letters, digits, '.', '_'",
    nic(name="sw0"): "sw0 is the name of the switch; choose another one",
    nic() + nic(): "net.toml, [[nic]] 2, name: a is used before; choose another one",
    nic() + nic(name="b"): "[[nic]] 2, socket: a has the same one; change one of them",
    nic('mac="02:00:00:00:00:02"') + nic(name="b", socket="/b"): "2, mac: a has the same one",
    nic(socket="/" + "x" * 107): "socket: the path has 108 bytes and a socket's may have 107; cho",
    nic('link="b"') + nic('link="sw0"', name="b", socket="/b"): (
        "[[nic]] 1, link: b is cabled to sw0 and has one port; name another one"
    ),
    nic('link="b"') + nic(name="b", socket="/b") + nic('link="b"', name="c", socket="/c"): (
        "[[nic]] 3, link: b is cabled to a and has one port; name another one"
    ),
    nic() + '[[switch]]\nname="x"\n[[switch]]\nname="y"': (
        "[[nic]] 1: link is missing; name one of x, y"
    ),
    nic() + '[[switch]]\nname="a"': "net.toml, [[switch]] 1, name: a is used before; choose",
    nic() + '[[tap]]\nname="a"': "net.toml, [[tap]] 1, name: a is used before; choose another one",
    nic() + '[[tap]]\nname="sixteen-bytes-xx"': "interface: 'sixteen-bytes-xx' is no name of an",
    nic() + '[[tap]]\nname="t"\ninterface="a/b"': "1, interface: 'a/b' is no name of an interface;",
    nic() + '[[tap]]\nname="t"\nswitch="a"': "[[tap]] 1, switch: a is unknown; known are sw0",
    nic() + '[[tap]]\nname="t"\nnetns=""': '[[tap]] 1, netns: write a text in quotes instead of ""',
    nic() + '[[capture]]\nport="b"\nfile="f"': "[[capture]] 1, port: b is unknown; known are a",
    nic() + '[[capture]]\nport="a"': '[[capture]] 1: file is missing; add file = "..."',
    nic() + '[[capture]]\nport="a"\nfile="f"\n' * 2: "port: a is captured twice into one file;",
    nic() + '[[capture]]\nport="a"\nfile="f"\nclear=1': "clear: write true or false instead of 1",
    nic() + '[[tap]]\nname="t"\n[[capture]]\nport="t"\nfile="f"\nclear=true': (
        "[[capture]] 1, clear: t is a tap, it has no crypto engine; remove it"
    ),
    nic() + '[[tap]]\nname="t"\n[[capture]]\nport="t"\nfile="f"\nkeys="k"': (
        "[[capture]] 1, keys: t is a tap, it has no crypto engine; remove it"
    ),
    nic() + '[[capture]]\nport="a"\nfile="f"\nkeys="f"': (
        "/f is that of a capture or NIC; choose another one"
    ),
    nic() + '[[capture]]\nport="a"\nfile="/run/a"': "file: /run/a is the socket of a NIC; choose",
    nic() + '[[fault]]\nkind="health"': "[[fault]] 1: nic is missing; add nic",
    nic() + '[[fault]]\nnic="b"\nkind="health"': "[[fault]] 1, nic: b is unknown; known are a",
    nic() + '[[fault]]\nnic="a"': '[[fault]] 1: kind is missing; add kind = "..."',
    nic() + '[[fault]]\nnic="a"\nkind="health"\nfatl=true': "[[fault]] 1: fatl is unknown; did you",
    nic("command_timeout_ms=0"): "[[nic]] 1, command_timeout_ms: 0 is not from 1 to 1048575",
    nic() + '[[link]]\nnic="b"\nloss=1': "[[link]] 1, nic: b is unknown; known are a",
    nic() + "[[link]]\nloss=1": '[[link]] 1: nic is missing; add nic = "..."',
    nic() + '[[link]]\nnic="a"\nlos=1': "net.toml, [[link]] 1: los is unknown; did you mean loss",
    nic() + '[[link]]\nnic="a"': "net.toml, [[link]] 1: nothing happens; add for example loss",
    nic() + '[[link]]\nnic="a"\nloss=1\nmatch="x"': "[[link]] 1, match: expression: x is unknown;",
    nic() + "[run]\nstrict = 1": "net.toml, [run], strict: write true or false instead of 1",
    nic() + "[run]\nseed = true": "net.toml, [run], seed: write a whole number instead of true",
    nic() + "[run]\nevent = 1": "net.toml, [run]: event is unknown; did you mean events?",
    nic() + '[run]\ncontrol = "/run/a"': "control: /run/a is the socket of a NIC; choose another",
    nic() + f'[run]\ncontrol = "/{"x" * 107}"': "[run], control: the path has 108 bytes and a so",
    nic() + '[run]\nevents = "a\\u0000"': "[run], events: write a text in quotes instead of",
}


def test_faults_and_time_outs(tmp_path: Path) -> None:
    text = nic("command_timeout_ms = 500")
    text += '[[fault]]\nnic = "a"\nkind = "health"\nsyndrome = "EQ_ERR"\nafter = 9\n'
    topology = load(write(tmp_path, text))
    assert topology.nics[0].command_timeout_ms == 500
    health = Health(syndrome=HealthSyndrome.EQ_ERR, after=9)
    assert topology.faults == (FaultSpec("a", health),)


@pytest.mark.parametrize(("text", "sentence"), MISTAKES.items(), ids=list(MISTAKES.values()))
def test_mistakes_in_a_file(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        load(write(tmp_path, text))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (Flags(nics=["a"]), "--nic a: write --nic NAME=SOCKET"),
        (Flags(nics=["=x"]), "--nic =x: write --nic NAME=SOCKET"),
        (Flags(nics=["a=/a,max=1"]), "--nic a=/a,max=1: max is unknown; did you mean mac?"),
        (Flags(nics=["a=/a,mac=1"]), "--nic a=/a,mac=1, mac: '1' is no MAC address; write it like"),
        (Flags(nics=["a=/a,"]), "--nic a=/a,: an empty key is unknown; known are mac, link"),
        (Flags(nics=["a=/a"], links=["a"]), "--link a: nothing happens; add for example loss"),
        (Flags(nics=["a=/a"], links=["a,loss"]), "--link a,loss"),
        (Flags(nics=["a=/a"], captures=["a"]), "--capture a: write --capture PORT=FILE"),
        (Flags(nics=["a=/a"], captures=["x=f"]), "--capture x=f, port: x is unknown; known are a"),
        (Flags(nics=["a=/a"], taps=["t@"]), "--tap t@, netns: write a text in quotes instead of"),
    ],
)
def test_mistakes_in_flags(flags: Flags, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        load(None, flags)
    assert sentence in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    deep = tmp_path / "deep.json"
    deep.write_text("[" * 100_000)
    listing = tmp_path / "list.json"
    listing.write_text("[]")
    for path, sentence in [
        (tmp_path / "none.toml", "cannot read .*none.toml: No such file"),
        (tmp_path, "cannot read .*: Is a directory"),
        (binary, "binary.toml is not valid: "),
        (deep, "deep.json is not valid: "),
        (listing, "list.json is not valid: it must be one object"),
    ]:
        with pytest.raises(UserError, match=sentence):
            load(path)


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["a", "", "sw0", "\ud800"])
)
values = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
keys = st.sampled_from(
    ["name", "socket", "mac", "link", "interface", "netns", "switch", "port", "file", "strict"]
)
tables = st.lists(st.dictionaries(keys, values, max_size=5) | values, max_size=3)
documents = st.dictionaries(
    st.sampled_from(["nic", "switch", "tap", "capture", "run"]),
    tables | st.dictionaries(keys, values) | values,
)


@given(documents)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_document_is_valid_or_a_sentence(tmp_path: Path, document: object) -> None:
    path = tmp_path / "net.json"
    path.write_text(json.dumps(document))
    try:
        topology = load(path)
    except UserError:
        return
    assert topology.nics
