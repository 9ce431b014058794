# SPDX-License-Identifier: GPL-2.0-or-later
"""SMT in guests: the module and its programs, keys, and what the oracle says of the captures."""

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from nicmodel.testbed import smt as kmod
from nicmodel.testbed.paths import cached
from nicmodel.testbed.vm import Vm
from tests.oracles import smt
from tests.vm.pair import Pair

PEER = "eth1"
"""The e1000e of each guest, in a network of its own."""

SMT = "ip.proto == 253"
CORRUPTION = {"match": f"{SMT} and frame.len > 124", "corrupt_bytes": "74-"}
"""Records, which authenticate what becomes of them. Shorter packets are those that control RPCs,
and have no checksum: a bit that flips in an ACK ends an RPC that it was not for (smt.7, seen)."""

TIMERS = "net.smt.resend_ticks=300 net.smt.resend_interval=200 net.smt.timeout_resends=8"
"""The defaults mean a data centre: an emulated guest may need longer than their 15 ms to answer."""

OURS = ("smt_call", "SMT")
CACHES = (*OURS, "skbuff_head_cache", *(
    f"kmalloc-{size}" for size in (64, 96, 128, 192, 256, 512, "1k", "2k", "4k", "8k")
))  # fmt: skip
"""Slab caches that the module takes memory from."""
NOISE = 300
"""By how many objects a cache may grow meanwhile because of anything else; measured: 165."""

TAKEN = (
    *("rx_data", "rx_grant", "rx_resend", "rx_unknown", "rx_busy", "rx_cutoffs", "rx_freeze"),
    *("rx_need_ack", "rx_ack", "drop_short", "drop_type", "drop_no_port", "drop_not_host"),
)
"""Of these counters each packet raises one."""

_PORTS = count(4000)

Stats = dict[str, int]


def tools(module: Path = kmod.SOURCE) -> Path:
    """Return the folder with the programs of a module, else ours; host and guests have one libc."""
    root = module if (module / "tools" / "Makefile").exists() else kmod.SOURCE
    place = root / "tools"
    sources = [*place.glob("*.[ch]"), place / "Makefile", *root.glob("include/**/*.h")]

    def make(folder: Path) -> None:
        _make("the programs of SMT", ["make", "-C", str(place), f"O={folder}"])

    return cached("programs", f"smt-{_digest(root, sources)}", make)


def _digest(root: Path, paths: Sequence[Path]) -> str:
    texts = (str(path.relative_to(root)).encode() + path.read_bytes() for path in sorted(paths))
    return hashlib.sha256(b"\0".join(texts)).hexdigest()[:16]


def _make(what: str, command: list[str]) -> None:
    # make would hand its flags on to the make that this is called by
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    if done.returncode:
        raise AssertionError(f"{what} does not build:\n{done.stderr}")


@dataclass(frozen=True)
class KeyFile:
    """Keys of one client and one server; ``path`` is that in the guests."""

    path: str
    text: str


@dataclass
class Answer:
    """What a client says: ``loads`` in order, ``errors`` by name."""

    status: int
    finished: bool
    seconds: float
    loads: list[dict[str, Any]]
    errors: dict[str, int]

    @property
    def good(self) -> int:
        """RPCs that were answered rightly."""
        return sum(load["good"] for load in self.loads)


@dataclass
class SmtPair:
    """Guests with the module loaded. ``keys`` are all that were made for them."""

    pair: Pair
    folder: Path
    keys: list[str] = field(default_factory=list)

    @property
    def a(self) -> Vm:
        return self.pair.a

    @property
    def b(self) -> Vm:
        return self.pair.b

    @property
    def tools(self) -> Path:
        """Programs for the module under test."""
        module = self.pair.lab.options.module
        return tools(kmod.SOURCE if module is None else module.folder)

    def load(self, vm: Vm) -> None:
        """Load the module, and bring the programs to a guest that has not got them."""
        if vm.run("test -x /tmp/smt_keys", check=False).status:
            for name in ("smt_echo", "smt_keys", "smt_refuses"):
                vm.write_file(f"/tmp/{name}", (self.tools / name).read_bytes(), mode=0o755)
        kmod.load(vm, kmod.under_test(self.pair.lab.options.module, self.pair.lab.kernel))
        vm.run(f"sysctl -qw {TIMERS}")

    def peer_network(self) -> None:
        """Bring the e1000e network up: addresses 10.78.0.1 and 10.78.0.2."""
        for vm in (self.a, self.b):
            number = self.pair.number(vm)
            vm.run(
                f"ip link set {PEER} up; ip addr replace 10.78.0.{number}/24 dev {PEER}; "
                f"ethtool -K {PEER} tso on gso on",
                timeout=60,
            )
        for vm in (self.a, self.b):
            vm.wait_until(f"grep -q 1 /sys/class/net/{PEER}/carrier", timeout=30)
        self.a.run("ping -c 1 -w 30 10.78.0.2", timeout=40)

    def v4(self, vm: Vm, *, peer: bool = False) -> str:
        """Address in our network, or in that of the e1000e."""
        return f"10.{78 if peer else 77}.0.{self.pair.number(vm)}"

    def new_keys(
        self, client: Vm, server: Vm, port: int, *, bits: int = 128, peer: bool = False
    ) -> KeyFile:
        """Fresh keys in a file in both guests."""
        address = f"{self.v4(server, peer=peer)}:{port}"
        return self.keys_between(self.v4(client, peer=peer), address, client, server, bits=bits)

    def keys_between(self, client: str, server: str, *vms: Vm, bits: int = 128) -> KeyFile:
        """Fresh keys of a client (its port is optional) and a server, in a file in these guests."""
        done = subprocess.run(
            [self.tools / "smt_keys", client, server, str(bits)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        self.keys.append(done.stdout)
        made = KeyFile(f"/tmp/keys.{len(self.keys)}", done.stdout)
        for vm in vms:
            vm.write_file(made.path, made.text.encode(), mode=0o600)
        return made

    @contextmanager
    def server(self, vm: Vm, *options: str, port: int = 0) -> Iterator["Server"]:
        """``smt_echo`` serves; ``ended`` is what it says in the end."""
        port = port or next(_PORTS)
        log = f"/tmp/serve.{port}"
        words = " ".join(options)
        process = vm.start(f"exec /tmp/smt_echo serve {port} {words} >{log} 2>{log}.err")
        server = Server(vm, port)
        try:
            vm.wait_until(f"grep -q ready {log} || test -s {log}.err", timeout=20)
            server.said = vm.read_file(f"{log}.err")
            assert not server.said, server.said
            yield server
        finally:
            if vm.alive:
                process.kill("TERM")
                process.wait(20, check=False)
                server.said = vm.read_file(f"{log}.err")
                lines = vm.read_file(log).splitlines()
                server.ended = json.loads(lines[-1]) if len(lines) > 1 else {}

    def ask(
        self,
        vm: Vm,
        address: str,
        *loads: tuple[int, int, int],
        options: Sequence[str] = (),
        timeout: float = 60,
        check: bool = True,
    ) -> Answer:
        """Let ``smt_echo`` ask ``address`` (host:port); loads are size, concurrency, count."""
        words = [f"--load {size}:{concurrency}:{number}" for size, concurrency, number in loads]
        line = f"/tmp/smt_echo {address} {' '.join(words)} --timeout {timeout:g}"
        said = vm.run(f"{line} {' '.join(options)}", timeout=timeout + 20, check=False)
        assert said.stdout, said.stderr
        answer = Answer(said.status, **json.loads(said.stdout))
        if check:
            assert answer.status == 0, said.stdout
            assert answer.good == sum(number for _, _, number in loads)
        return answer

    def talk(
        self,
        *loads: tuple[int, int, int],
        client: Vm | None = None,
        secure: bool = True,
        bits: int = 128,
        peer: bool = False,
        options: Sequence[str] = (),
        **more: Any,
    ) -> Answer:
        """A server in one guest, a client in the other (a), with fresh keys."""
        source = client or self.a
        sink = self.b if source is self.a else self.a
        port = next(_PORTS)
        words: list[str] = []
        if secure:
            keys = self.new_keys(source, sink, port, bits=bits, peer=peer)
            words = ["--keys", keys.path, "--secure"]
        with self.server(sink, *words, port=port):
            address = f"{self.v4(sink, peer=peer)}:{port}"
            return self.ask(source, address, *loads, options=[*words, *options], **more)

    def stats(self, vm: Vm) -> Stats:
        """``/proc/net/smt``."""
        words = vm.read_file("/proc/net/smt").split()
        return dict(zip(words[::2], map(int, words[1::2]), strict=True))

    def wait_for(self, vm: Vm, name: str, least: int) -> None:
        """Wait until a counter of a guest is so high."""
        vm.wait_until(
            f"test $(awk '$1 == \"{name}\" {{print $2}}' /proc/net/smt) -ge {least}", timeout=20
        )

    @contextmanager
    def counting(self, vm: Vm) -> Iterator[Stats]:
        """By how much the counters of a guest rise meanwhile; those that do not are not there."""
        before, moved = self.stats(vm), Stats()
        yield moved
        now = self.stats(vm)
        moved |= {name: by for name in now if (by := now[name] - before[name])}

    def objects(self, vm: Vm) -> dict[str, int]:
        """Objects in use of each of ``CACHES``; boot with ``slab_nomerge``."""
        said = vm.run(
            f"cd /sys/kernel/slab; for c in {' '.join(CACHES)}; do"
            ' echo 1 >$c/shrink; echo "$c $(cut -d" " -f1 $c/objects)"; done'
        )  # processors keep what was freed, and objects would count it
        words = said.stdout.split()
        return dict(zip(words[::2], map(int, words[1::2]), strict=True))

    def no_calls(self, *vms: Vm, timeout: float = 30) -> None:
        """Wait until no RPC of any socket is left in these guests."""
        path = "/sys/kernel/slab/smt_call"
        for vm in vms or (self.a, self.b):
            vm.wait_until(
                f"echo 1 >{path}/shrink && read -r n more <{path}/objects && test $n = 0",
                timeout=timeout,
            )

    def key_file(self, keys: KeyFile) -> Path:
        """The same keys in a file of the host, for the oracle."""
        path = self.folder / "some.keys"
        path.write_text(keys.text)
        return path

    def held(self) -> dict[str, dict[str, int]]:
        """What both guests hold in memory, for ``leaked``."""
        return {vm.name: self.objects(vm) for vm in (self.a, self.b)}

    def leaked(self, before: dict[str, dict[str, int]]) -> list[str]:
        """Wait for the end of all RPCs; sentences on what the guests then hold more than before."""
        self.no_calls()
        return [
            f"{name} holds {by} more of {cache}"
            for name, now in self.held().items()
            for cache in CACHES
            if (by := now[cache] - before[name][cache]) > (0 if cache in OURS else NOISE)
        ]

    @contextmanager
    def no_leak(self) -> Iterator[None]:
        """After all that happens meanwhile, both guests hold as much memory as before."""
        before = self.held()
        yield
        more = self.leaked(before)
        assert not more, more

    def all_keys(self) -> list[smt.Key]:
        """For the oracle."""
        path = self.folder / "smt.keys"
        path.write_text("".join(self.keys))
        path.chmod(0o600)
        return smt.read_keys([path])


@dataclass
class Server:
    """A server that runs in ``vm``; ``said`` are its complaints, ``ended`` its last word."""

    vm: Vm
    port: int
    said: str = ""
    ended: dict[str, int] = field(default_factory=dict)
