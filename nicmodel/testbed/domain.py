# SPDX-License-Identifier: GPL-2.0-or-later
"""Domain XML of a guest (libvirt: formatdomain)."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

QEMU_NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"
AGENT_CHANNEL = "org.qemu.guest_agent.0"
EMULATOR = "/usr/bin/qemu-system-x86_64"
STALL_MS = 5000
# first slot on the root bus for devices that libvirt does not know of; it fills from slot 1 up
FIRST_OWN_SLOT = 0x10

Accelerator = Literal["kvm", "tcg"]
PeerModel = Literal["e1000e", "virtio-net-pci"]
End = Literal["listen", "connect"]

# Random addresses make TCG translate a program anew each time that it starts, and leave thousands
# of translations on each page of it; writing to such a page, as after a reboot, takes minutes.
# Merged slab caches would not tell what a module has leaked.
# The guest's first program brings the other CPUs up, once the kernel has patched itself.
# Mitigations cost most of a system call under emulation; a panic stops the guest, its console
# tells; networking names stay eth0, eth1 in PCI order.
KERNEL_COMMAND_LINE = (
    "console=ttyS0",
    "maxcpus=1",
    "mitigations=off",
    "no5lvl",
    "net.ifnames=0",
    "norandmaps",
    "slab_nomerge",
    "oops=panic",
    "panic=0",
)


@dataclass(frozen=True)
class ModelNic:
    """A NIC that nicmodel serves on the vhost-user ``socket``; ``plugin`` is QEMU's side."""

    socket: Path
    plugin: Path


@dataclass(frozen=True)
class PeerNic:
    """A NIC of QEMU itself, one end of a ``cable``: a unix stream socket between two guests.

    The guest whose end is ``listen`` must be launched first.
    """

    model: PeerModel
    cable: Path
    end: End
    mac: str


Nic = ModelNic | PeerNic


@dataclass(frozen=True)
class VmSpec:
    """What a guest is made of; memory in MiB."""

    name: str
    memory_mib: int = 512
    vcpus: int = 2
    nics: tuple[Nic, ...] = ()
    command_line: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Boot:
    """What a guest boots: kernel image and initramfs."""

    kernel: Path
    initramfs: Path


def domain_xml(
    spec: VmSpec, boot: Boot, accelerator: Accelerator, console: Path, console_socket: Path
) -> str:
    """Return the domain XML of ``spec``.

    The serial console is written to the file ``console`` and can be talked to at
    ``console_socket``. Guest memory is a shared memfd, which the NIC process maps.
    """
    domain = Element("domain", type="kvm" if accelerator == "kvm" else "qemu")
    _text(domain, "name", spec.name)
    _text(domain, "memory", str(spec.memory_mib), unit="MiB")
    backing = SubElement(domain, "memoryBacking")
    SubElement(backing, "source", type="memfd")
    SubElement(backing, "access", mode="shared")
    _text(domain, "vcpu", str(spec.vcpus))
    system = SubElement(domain, "os")
    _text(system, "type", "hvm", arch="x86_64", machine="q35")
    _text(system, "kernel", str(boot.kernel))
    _text(system, "initrd", str(boot.initramfs))
    words = (*KERNEL_COMMAND_LINE, f"nicmodel.name={spec.name}", *spec.command_line)
    _text(system, "cmdline", " ".join(words))
    features = SubElement(domain, "features")
    SubElement(features, "acpi")
    SubElement(features, "apic")
    SubElement(features, "smm", state="off")
    _processor(domain, accelerator)
    for event, action in (("poweroff", "destroy"), ("reboot", "restart"), ("crash", "destroy")):
        _text(domain, f"on_{event}", action)
    _devices(domain, console, console_socket)
    _own_devices(domain, spec.nics)
    return ElementTree.tostring(domain, encoding="unicode")


def _processor(domain: Element, accelerator: Accelerator) -> None:
    if accelerator == "kvm":
        SubElement(domain, "cpu", mode="host-passthrough")
    else:
        processor = SubElement(domain, "cpu", mode="maximum")
        # a fifth level of page tables makes every TLB miss of an emulated guest dearer
        SubElement(processor, "feature", policy="disable", name="la57")


def _devices(domain: Element, console: Path, console_socket: Path) -> None:
    devices = SubElement(domain, "devices")
    _text(devices, "emulator", EMULATOR)
    SubElement(devices, "controller", type="usb", model="none")
    serial = SubElement(devices, "serial", type="unix")
    SubElement(serial, "source", mode="bind", path=str(console_socket))
    SubElement(serial, "log", file=str(console), append="on")
    SubElement(serial, "target", port="0")
    channel = SubElement(devices, "channel", type="unix")
    SubElement(channel, "target", type="virtio", name=AGENT_CHANNEL)
    SubElement(devices, "memballoon", model="none")


def _own_devices(domain: Element, nics: tuple[Nic, ...]) -> None:
    """Add ``nics`` as QEMU arguments; libvirt knows neither the device type nor the back-ends."""
    ElementTree.register_namespace("qemu", QEMU_NAMESPACE)
    command_line = SubElement(domain, f"{{{QEMU_NAMESPACE}}}commandline")

    def argument(*values: str) -> None:
        for value in values:
            SubElement(command_line, f"{{{QEMU_NAMESPACE}}}arg", value=value)

    plugins = dict.fromkeys(nic.plugin for nic in nics if isinstance(nic, ModelNic))
    for plugin in plugins:
        argument("-plugin", _escape(plugin))
    for index, nic in enumerate(nics):
        port = f"nic{index}"
        slot = f"{FIRST_OWN_SLOT + index:#x}"
        # behind a root port the driver sees a PCIe link with a width and a speed
        argument("-device", f"pcie-root-port,id={port},chassis={100 + index},addr={slot}")
        if isinstance(nic, ModelNic):
            # a stall is a loss only when it is longer than a loaded machine makes any process wait
            options = f"socket={_escape(nic.socket)},bus={port},stall-ms={STALL_MS}"
            argument("-device", f"pci-vhost-user,{options}")
        else:
            argument(
                "-netdev",
                f"stream,id=cable{index},server={'on' if nic.end == 'listen' else 'off'},"
                f"addr.type=unix,addr.path={_escape(nic.cable)}",
            )
            argument("-device", f"{nic.model},netdev=cable{index},mac={nic.mac},bus={port}")


def _escape(path: Path) -> str:
    """Double the commas, which separate options in a QEMU argument."""
    return str(path).replace(",", ",,")


def _text(parent: Element, tag: str, text: str, **attributes: str) -> None:
    SubElement(parent, tag, attributes).text = text
