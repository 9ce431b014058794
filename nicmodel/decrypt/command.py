# SPDX-License-Identifier: GPL-2.0-or-later
"""The command ``nicmodel decrypt``."""

import argparse

from nicmodel.decrypt.output import write_plain
from nicmodel.decrypt.records import Direction
from nicmodel.decrypt.run import decrypt
from nicmodel.errors import UserError
from nicmodel.spec.smt import SmtProtocol
from nicmodel.spec.tls import TlsVersion
from nicmodel.wire.keyfile import read_keys

_VERSIONS = {TlsVersion.TLS_1_2: "TLS 1.2", TlsVersion.TLS_1_3: "TLS 1.3"}


def run(args: argparse.Namespace) -> int:
    """Say what is in ``args.capture``; 0 if all of it authenticates, 1 if not."""
    keys = read_keys(args.keys)
    directions = decrypt(args.capture, keys)
    if not directions:
        raise UserError(
            f"{args.capture} has no payload of the {len(keys)} keys in {args.keys}: is it the "
            "capture that the keys were written beside?"
        )
    for one in directions:
        print(_summary(one))
        for problem in one.problems:
            print(f"  {problem}")
    if args.output is not None:
        write_plain(args.output, directions)
        print(f"{args.output}: {sum(len(one.records) for one in directions)} records")
    return 1 if any(one.problems for one in directions) else 0


def _summary(one: Direction) -> str:
    key, read = one.key, one.authentic
    octets = sum(len(record.plaintext or b"") for record in read)
    context = "TIS" if key.way.name == "OUT" else "TIR"
    bad = len(one.records) - len(read)
    rest = f", {one.rest} bytes are the beginning of another" if one.rest else ""
    said = f"{len(read)} records of {octets} bytes authenticate, {bad} do not{rest}"
    if key.flow.protocol in list(SmtProtocol):
        variant = SmtProtocol(key.flow.protocol).name
        messages = len({record.message for record in one.records})
        kind = f"SMT variant {variant} AES-{len(key.key) * 8}-GCM"
        return f"{key.flow}, {kind}: {messages} messages, {said}"
    return (
        f"{key.nic} {key.way.name.lower()}, {key.flow}, {_VERSIONS[key.version]} "
        f"AES-{len(key.key) * 8}-GCM, {context} {key.context:#x}, DEK {key.dek:#x}: {said}"
    )
