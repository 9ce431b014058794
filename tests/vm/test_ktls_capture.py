# SPDX-License-Identifier: GPL-2.0-or-later
"""Captures of offloaded TLS, judged without the model's code.

Guests of their own, whose ports are captured on the wire and in clear, with the keys.
"""

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nicmodel.cli import main
from nicmodel.testbed.lab import Lab
from nicmodel.testbed.vm import Vm
from tests.oracles import reencrypt, tshark
from tests.oracles.tshark import needs_tshark
from tests.vm.conftest import Captures
from tests.vm.ktls import no_software, offload, talk
from tests.vm.pair import Pair, boot_pair
from tests.vm.traffic import MEBI

SETTLE_SECONDS = 30.0
PORT = 4433
COMMENTED = 7396
PAGE = "the page that was asked for\n"

_CONF = """
openssl_conf = all
[all]
ssl_conf = ssl
[ssl]
system_default = default
[default]
Options = KTLS
MaxProtocol = TLSv1.2
CipherString = ECDHE-ECDSA-AES128-GCM-SHA256
[req]
distinguished_name = name
[name]
"""


@pytest.fixture(scope="module")
def _shown(tls_lab: Lab, captures: Captures) -> Iterator[Pair]:
    pair = boot_pair(tls_lab, "shown", memory=(512, 512), show=True)
    captures.add(pair)
    for vm in (pair.a, pair.b):
        offload(vm)
    yield pair
    captures.end(pair)


@pytest.fixture
def shown(_shown: Pair) -> Iterator[Pair]:
    """Both guests encrypt in the device, and all of it is shown."""
    yield _shown
    _shown.mend()


def settled(pair: Pair, vm: Vm) -> tuple[Path, Path]:
    """The capture of a guest's port and its keys, once all that was sent so far is in it."""
    path = pair.captures[0 if vm is pair.a else 1]
    sent = pair.model.control.status()["ports"][vm.name]["sent"]
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        seen = sum(one.outbound and one.interface == vm.name for one in reencrypt.packets(path))
        if seen >= sent:
            return path, path.with_suffix(".keys")
        assert time.monotonic() < deadline, f"{seen} of {sent} frames are in {path}"
        time.sleep(0.2)


def judge(pair: Pair, vm: Vm) -> reencrypt.Verdict:
    """Encrypt again all that a guest has sent in clear."""
    verdict = reencrypt.compare(*settled(pair, vm), vm.name)
    assert verdict.differences == []
    return verdict


@pytest.mark.parametrize("cipher", [128, 256])
@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
def test_clear_side_encrypted_again_is_the_wire_side(shown: Pair, cipher: int, ipv6: bool) -> None:
    """Records of odd sizes with alerts between them, both ways, several connections."""
    with no_software(shown.a, "Tx"), no_software(shown.b, "Tx"):
        before = [judge(shown, vm) for vm in (shown.a, shown.b)]
        talk(
            shown,
            send=2 * MEBI,
            receive=MEBI,
            cipher=cipher,
            ipv6=ipv6,
            connections=3,
            parallel=3,
            chunk=0,
            control=5,
        )
    for vm, old, octets in zip((shown.a, shown.b), before, (6 * MEBI, 3 * MEBI), strict=True):
        new = judge(shown, vm)
        assert new.connections - old.connections == 3
        assert new.octets - old.octets > octets
        assert new.records - old.records > octets >> 14


def test_retransmissions_are_the_same_bytes(shown: Pair) -> None:
    """One frame in 50 is lost behind the capture: the driver lets the device resync."""
    before = judge(shown, shown.a)
    with no_software(shown.a, "Tx"):
        shown.model.control.link(shown.a.name).impair(loss=0.02, direction="out")
        talk(shown, send=4 * MEBI, connections=2, parallel=2, chunk=0, control=7)
    after = judge(shown, shown.a)
    assert after.repeated - before.repeated > 20
    assert after.octets - before.octets > 8 * MEBI


def test_decrypt_reads_what_the_program_sent(
    shown: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the loss before, too: what was lost behind the port is in its capture."""
    talk(shown, send=MEBI, receive=1000)
    for vm in (shown.a, shown.b):
        capture, keys = settled(shown, vm)
        out = tmp_path / f"{vm.name}.pcapng"
        assert main(["decrypt", str(capture), "--keys", str(keys), "-o", str(out)]) == 0
        said = capsys.readouterr().out
        assert "does not authenticate" not in said
        octets = [int(found) for found in re.findall(r"records of (\d+) bytes", said)]
        assert (MEBI if vm is shown.a else 1000) in octets
        assert tshark.malformed(out) == []
        assert tshark.bad_checksums(out) == []


@needs_tshark
def test_every_frame_with_records_says_which(shown: Pair) -> None:
    talk(shown, send=100_000, port=COMMENTED)
    path, _ = settled(shown, shown.a)
    # behind the connection's number, which goes before TLS
    only = f"tcp.dstport == {COMMENTED} && tcp.len > 4"
    for interface in (shown.a.name, f"{shown.a.name} clear"):
        where = f'{only} && frame.interface_name == "{interface}"'
        said = [comment for (comment,) in tshark.fields(path, "frame.comment", only=where)]
        assert len(said) >= 100_000 // 1448
        form = re.compile(r"SQ 0x[0-9a-f]+ WQE \d+ TIS 0x[0-9a-f]+, records? \d+(-\d+)?: encrypted")
        assert [comment for comment in said if not form.fullmatch(comment.rstrip())] == []


def test_keys_are_for_their_owner_and_with_a_warning(shown: Pair) -> None:
    _, keys = settled(shown, shown.a)
    assert keys.stat().st_mode & 0o777 == 0o600
    assert f"warning: {keys} gets the TLS keys" in shown.model.errors.read_text()


@needs_tshark
def test_tshark_decrypts_with_the_secrets_of_a_handshake(shown: Pair, tmp_path: Path) -> None:
    """openssl hands its session to the kernel, and that to the device; the client logs secrets."""
    a, b = shown.a, shown.b
    for vm in (a, b):
        vm.write_file("/tmp/ktls.cnf", _CONF.encode())
    b.run(
        "cd /tmp && OPENSSL_CONF=ktls.cnf openssl req -x509 -newkey ec -nodes "
        "-pkeyopt ec_paramgen_curve:prime256v1 "
        "-keyout key.pem -out cert.pem -subj /CN=b -days 2",
        timeout=60,
    )
    b.write_file("/tmp/page", PAGE.encode() * 3000)
    server = b.start(
        f"cd /tmp && OPENSSL_CONF=ktls.cnf exec openssl s_server -accept {PORT} -cert cert.pem "
        "-key key.pem -WWW -sendfile"
    )
    try:
        b.run(f"until ss -Hltn | grep -q :{PORT}; do sleep 0.05; done", timeout=20)
        with no_software(a, "Tx"), no_software(b, "Tx"):
            got = a.run(
                f"cd /tmp && printf 'GET /page HTTP/1.0\\r\\n\\r\\n' | OPENSSL_CONF=ktls.cnf "
                f"openssl s_client -connect {shown.v4(b)}:{PORT} -keylogfile secrets -quiet",
                timeout=60,
            ).stdout
        assert got.count(PAGE) == 3000
    finally:
        server.kill()
    secrets = tmp_path / "secrets"
    secrets.write_text(a.read_file("/tmp/secrets"))
    for vm in (a, b):
        capture, _ = settled(shown, vm)
        wire, with_secrets = tmp_path / "wire.pcapng", tmp_path / "secrets.pcapng"
        only = f'frame.interface_name == "{vm.name}" && tcp.port == {PORT}'
        _tool("tshark", "-r", capture, "-Y", only, "-w", wire)
        _tool("editcap", "--inject-secrets", f"tls,{secrets}", wire, with_secrets)
        messages, columns = (
            "http.request || http.response",
            ("http.request.uri", "http.response.code"),
        )
        assert tshark.dissected(with_secrets, PORT, "tls", messages, *columns) == [
            ("/page", ""),
            ("", "200"),
        ]
        assert tshark.dissected(wire, PORT, "tls", messages, *columns) == [], "without the secrets"


def _tool(*words: str | Path) -> None:
    subprocess.run(words, check=True, capture_output=True)
