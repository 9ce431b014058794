# SPDX-License-Identifier: GPL-2.0-or-later
"""Toeplitz against the published verification vectors (Microsoft, "Verifying the RSS Hash")."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nicmodel.offload.rss import symmetric_input, toeplitz
from tests.oracles import rss as oracle

KEY = bytes.fromhex(
    "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa"
)
VECTORS = [
    ("66.9.149.187", 2794, "161.142.100.80", 1766, 0x323E8FC2, 0x51CCC178),
    ("199.92.111.2", 14230, "65.69.140.83", 4739, 0xD718262A, 0xC626B0EA),
    ("24.19.198.95", 12898, "12.22.207.184", 38024, 0xD2D0A5DE, 0x5C2B394A),
    ("3ffe:2501:200:1fff::7", 2794, "3ffe:2501:200:3::1", 1766, 0x2CC18CD5, 0x40207D3D),
    ("3ffe:501:8::260:97ff:fe40:efab", 14230, "ff02::1", 4739, 0x0F0C461C, 0xDDE51BBF),
]


@pytest.mark.parametrize(("source", "sport", "dest", "dport", "ip_only", "with_ports"), VECTORS)
def test_published_vectors(
    source: str, sport: int, dest: str, dport: int, ip_only: int, with_ports: int
) -> None:
    data = ipaddress.ip_address(source).packed + ipaddress.ip_address(dest).packed
    assert toeplitz(KEY, data) == ip_only
    ports = sport.to_bytes(2, "big") + dport.to_bytes(2, "big")
    assert toeplitz(KEY, data + ports) == with_ports


@pytest.mark.parametrize(("source", "sport", "dest", "dport", "ip_only", "with_ports"), VECTORS)
def test_published_vectors_for_the_oracle(
    source: str, sport: int, dest: str, dport: int, ip_only: int, with_ports: int
) -> None:
    assert oracle.flow_hash(KEY, source, dest, symmetric=False) == ip_only
    assert oracle.flow_hash(KEY, source, dest, sport, dport, symmetric=False) == with_ports


@given(st.binary(min_size=40, max_size=40), st.binary(max_size=36))
def test_the_oracle_agrees_on_any_key_and_input(key: bytes, data: bytes) -> None:
    assert toeplitz(key, data) == oracle.toeplitz(key, data)


@given(st.binary(min_size=4, max_size=4), st.binary(min_size=4, max_size=4))
def test_symmetric_input_does_not_know_directions(a: bytes, b: bytes) -> None:
    assert symmetric_input(a, b) == symmetric_input(b, a)
    assert symmetric_input(a, b"") == symmetric_input(b"", a) == a


def test_symmetric_input_is_or_and_xor() -> None:
    assert symmetric_input(b"\x0f\xf0", b"\x3c\x3c").hex() == "3ffc33cc"
