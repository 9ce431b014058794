# SPDX-License-Identifier: GPL-2.0-or-later
"""openssl with kernel TLS in guests: its handshake, the device's records."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from nicmodel.testbed.agent import GuestProcess
from nicmodel.testbed.vm import Vm
from tests.vm.ktls import moved, no_software, offload, sending, tls_counters
from tests.vm.pair import Pair
from tests.vm.traffic import MEBI

SUITES = {128: "ECDHE-ECDSA-AES128-GCM-SHA256", 256: "ECDHE-ECDSA-AES256-GCM-SHA384"}
HTTPS = 4433
# Debian's openssl uses kernel TLS where its configuration says so (SSL_CONF_cmd(3), Options)
OPENSSL_CONF = b"""\
openssl_conf = all
[all]
ssl_conf = ssl
[ssl]
system_default = defaults
[defaults]
Options = KTLS
[req]
distinguished_name = nobody
[nobody]
"""

ciphers = pytest.mark.parametrize("cipher", [128, 256])


@pytest.fixture(scope="module")
def _certificate(_ktls_pair: Pair) -> None:
    for vm in (_ktls_pair.a, _ktls_pair.b):
        vm.write_file("/tmp/ktls.cnf", OPENSSL_CONF)
        vm.run(
            "cd /tmp && openssl req -config ktls.cnf -x509 -newkey ec -nodes -subj /CN=guest "
            "-pkeyopt ec_paramgen_curve:P-256 -keyout key.pem -out certificate.pem && "
            f"head -c {4 * MEBI} /dev/urandom >file",
            timeout=60,
        )


@contextmanager
def _server(vm: Vm, command: str) -> Iterator[GuestProcess]:
    server = vm.start(f"cd /tmp && {command}")
    try:
        vm.wait_until(f"ss -Hltn | grep -q :{HTTPS}")
        yield server
    finally:
        server.kill()
        server.wait(20, check=False)


@ciphers
@pytest.mark.usefixtures("_certificate")
def test_openssl_serves_a_file_by_sendfile(ktls_pair: Pair, cipher: int) -> None:
    """The client's openssl decrypts itself."""
    command = (
        f"OPENSSL_CONF=/tmp/ktls.cnf exec openssl s_server -accept {HTTPS} -WWW -sendfile "
        f"-cert certificate.pem -key key.pem -tls1_2 -cipher {SUITES[cipher]}"
    )
    with _server(ktls_pair.a, command), sending(ktls_pair) as sent:
        ktls_pair.b.run(
            "printf 'GET /file HTTP/1.0\\r\\n\\r\\n' | openssl s_client "
            f"-connect {ktls_pair.v4(ktls_pair.a)}:{HTTPS} -quiet -ign_eof 2>/tmp/said >/tmp/got",
            timeout=60,
        )
        got = ktls_pair.b.run(f"tail -c {4 * MEBI} /tmp/got | sha256sum").stdout
        assert got == ktls_pair.a.run("sha256sum </tmp/file").stdout
        ktls_pair.a.wait_until(f'[ -z "$(ss -Htn state established sport = :{HTTPS})" ]')
    assert sent.driver["tx_tls_encrypted_bytes"] > 4 * MEBI


@ciphers
@pytest.mark.usefixtures("_certificate")
def test_openssl_sends_what_another_decrypts(ktls_pair: Pair, cipher: int) -> None:
    """The client writes to a socket with kernel TLS, the library of the server decrypts itself."""
    command = (
        "exec socat -u OPENSSL-LISTEN:"
        f"{HTTPS},reuseaddr,cert=certificate.pem,key=key.pem,verify=0,"
        f"openssl-max-proto-version=TLS1.2,cipher={SUITES[cipher]} OPEN:got,creat,trunc"
    )
    with _server(ktls_pair.b, command) as server, sending(ktls_pair) as sent:
        ktls_pair.a.run(
            f"cd /tmp && OPENSSL_CONF=/tmp/ktls.cnf openssl s_client -connect "
            f"{ktls_pair.v4(ktls_pair.b)}:{HTTPS} -tls1_2 -nocommands -no_ign_eof <file >said 2>&1",
            timeout=60,
        )
        server.wait(30)
        assert (
            ktls_pair.b.run("sha256sum </tmp/got").stdout
            == ktls_pair.a.run("sha256sum </tmp/file").stdout
        )
    assert sent.driver["tx_tls_encrypted_bytes"] > 4 * MEBI


@pytest.mark.parametrize("receiver", ["s_client", "s_server"])
@pytest.mark.usefixtures("_certificate")
def test_openssl_reads_what_the_device_has_decrypted(ktls_pair: Pair, receiver: str) -> None:
    """Guest b's openssl hands its keys to the device, that of guest a encrypts by itself."""
    a, b = ktls_pair.a, ktls_pair.b
    offload(a, transmit=False)
    offload(b, transmit=False, receive=True)
    listen = (
        f"s_server -accept {HTTPS} -cert certificate.pem -key key.pem -tls1_2 -cipher {SUITES[128]}"
    )
    dial = f"s_client -connect %s:{HTTPS} -tls1_2 -quiet"
    kernel_tls = "OPENSSL_CONF=/tmp/ktls.cnf"
    if receiver == "s_client":
        serves, server = a, f"exec openssl {listen} -WWW"
        ask = "printf 'GET /file HTTP/1.0\\r\\n\\r\\n'"
        asks, client = b, f"{ask} | {kernel_tls} openssl {dial % ktls_pair.v4(a)} >got"
    else:  # a server whose input ends would end too
        once = f"{kernel_tls} exec openssl {listen} -quiet -naccept 1"
        serves, server = b, f"rm -f quiet; mkfifo quiet; {once} 0<>quiet >got"
        asks, client = a, f"openssl {dial % ktls_pair.v4(b)} -nocommands -no_ign_eof <file"
    before = tls_counters(b)
    with _server(serves, server) as process, no_software(b, "Rx"):
        asks.run(f"cd /tmp && {client} 2>said", timeout=60)
        if serves is b:
            process.wait(30, check=False)
        got = b.run(f"tail -c {4 * MEBI} /tmp/got | sha256sum").stdout
        assert got == a.run("sha256sum </tmp/file").stdout
    assert moved(before, tls_counters(b))["rx_tls_decrypted_bytes"] > 4 * MEBI * 9 // 10
