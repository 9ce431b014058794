# SPDX-License-Identifier: GPL-2.0-or-later
"""Domain XML: what libvirt and QEMU are told."""

from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from nicmodel.testbed.domain import (
    QEMU_NAMESPACE,
    STALL_MS,
    Accelerator,
    Boot,
    End,
    ModelNic,
    Nic,
    PeerNic,
    VmSpec,
    domain_xml,
)

BOOT = Boot(Path("/k/vmlinux"), Path("/k/initramfs"))
PLUGIN = Path("/p/plugin.so")


def build(*nics: Nic, accelerated: bool = False, command_line: tuple[str, ...] = ()) -> Element:
    spec = VmSpec("a", memory_mib=256, vcpus=3, nics=nics, command_line=command_line)
    kind: Accelerator = "kvm" if accelerated else "tcg"
    return ElementTree.fromstring(
        domain_xml(spec, BOOT, kind, Path("/r/<console>.log"), Path("/s/a.console"))
    )


def text(domain: Element, path: str) -> str:
    found = domain.findtext(path)
    assert found is not None, path
    return found


def arguments(domain: Element) -> list[str]:
    return [arg.get("value", "") for arg in domain.iter(f"{{{QEMU_NAMESPACE}}}arg")]


def test_guest_memory_can_be_mapped_by_the_model() -> None:
    backing = build().find("memoryBacking")
    assert backing is not None
    source, access = backing.find("source"), backing.find("access")
    assert source is not None
    assert access is not None
    assert (source.get("type"), access.get("mode")) == ("memfd", "shared")


def test_size_and_command_line() -> None:
    domain = build(command_line=("nicmodel.nodriver",))
    assert (text(domain, "memory"), text(domain, "vcpu")) == ("256", "3")
    words = text(domain, "os/cmdline").split()
    assert {"nicmodel.name=a", "nicmodel.nodriver", "console=ttyS0", "oops=panic"} <= set(words)


def test_accelerator_chooses_type_and_processor() -> None:
    for accelerated, kind, mode in ((True, "kvm", "host-passthrough"), (False, "qemu", "maximum")):
        domain = build(accelerated=accelerated)
        processor = domain.find("cpu")
        assert processor is not None
        assert (domain.get("type"), processor.get("mode")) == (kind, mode)


def test_markup_in_a_path_is_quoted() -> None:
    log = build().find("devices/serial/log")
    assert log is not None
    assert log.get("file") == "/r/<console>.log"


def test_each_model_nic_is_behind_its_own_port_and_the_plugin_is_loaded_once() -> None:
    args = arguments(build(ModelNic(Path("/s/0"), PLUGIN), ModelNic(Path("/s/1"), PLUGIN)))
    assert args.count("-plugin") == 1
    assert args[args.index("-plugin") + 1] == str(PLUGIN)
    devices = [after for flag, after in pairwise(args) if flag == "-device"]
    assert devices == [
        "pcie-root-port,id=nic0,chassis=100,addr=0x10",
        f"pci-vhost-user,socket=/s/0,bus=nic0,stall-ms={STALL_MS}",
        "pcie-root-port,id=nic1,chassis=101,addr=0x11",
        f"pci-vhost-user,socket=/s/1,bus=nic1,stall-ms={STALL_MS}",
    ]


def test_comma_in_a_path_starts_no_option() -> None:
    args = arguments(build(ModelNic(Path("/s/a,addr=1"), PLUGIN)))
    assert f"pci-vhost-user,socket=/s/a,,addr=1,bus=nic0,stall-ms={STALL_MS}" in args


def test_ends_of_a_cable_listen_and_connect() -> None:
    ends: tuple[tuple[End, str], ...] = (("listen", "on"), ("connect", "off"))
    for end, server in ends:
        nic = PeerNic("e1000e", Path("/s/c"), end, "02:00:00:00:00:01")
        args = arguments(build(nic))
        assert f"stream,id=cable0,server={server},addr.type=unix,addr.path=/s/c" in args
        assert "e1000e,netdev=cable0,mac=02:00:00:00:00:01,bus=nic0" in args
