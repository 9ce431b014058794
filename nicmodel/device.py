# SPDX-License-Identifier: GPL-2.0-or-later
"""Composition root: one NIC, its parts built and connected. No logic of a part is here."""

from collections.abc import Callable
from pathlib import Path
from random import Random

from nicmodel.clock import Scheduler
from nicmodel.command.caps import CONNECTX6DX, FIRMWARE_VERSION, Profile
from nicmodel.command.firmware import Firmware
from nicmodel.command.interface import CommandInterface
from nicmodel.errors import UserError
from nicmodel.faults.injector import Injector, Reach
from nicmodel.frame import Traffic
from nicmodel.hunt.recorder import Recorder
from nicmodel.objects.counters import PortCounters
from nicmodel.objects.store import Objects
from nicmodel.pci.init_segment import CLOCK_AT, COMMAND_TIMEOUT_MS, InitSegment
from nicmodel.pci.uar import UarDecoder
from nicmodel.queues.arbiter import Arbiter, Policy
from nicmodel.queues.datapath import Datapath, Settings
from nicmodel.queues.exposure import Exposure
from nicmodel.sanitizer.findings import Finding
from nicmodel.sanitizer.options import SanitizerOptions
from nicmodel.sanitizer.sanitizer import Sanitizer
from nicmodel.spec.capabilities import CLOCK_KHZ
from nicmodel.trace.events import DeviceReset, UnknownMmio
from nicmodel.trace.tracer import Clock, Tracer
from nicmodel.transport.seam import Host, Identity
from nicmodel.units import PAGE_SIZE
from nicmodel.wire.port import Port

FIRST_UAR = 0x100 * PAGE_SIZE
"""BAR 0 offset of the first UAR page that is handed out."""

BAR_SIZE = 1 << 25
VECTORS = 64
VENDOR_CAP_SIZE = 0x18
"""The driver's gateway to configuration space (``lib/pci_vsc.c``). As plain memory it can be locked
and says of every space that it is not supported, so the driver offers no crash dump."""

HEARTBEAT = 0.5
"""Seconds between changes of the health counter; the driver looks every 2 s."""

RESTART = 0.2
"""Seconds that a restart of the firmware takes."""

IDENTITY = Identity(
    vendor_id=0x15B3,
    device_id=0x101D,
    subsystem_vendor_id=0x15B3,
    subsystem_id=0x0001,
    revision=0,
    class_code=0x020000,
    bar_size=BAR_SIZE,
    vectors=VECTORS,
    clock_offset=CLOCK_AT,
    clock_khz=CLOCK_KHZ,
    vendor_cap_size=VENDOR_CAP_SIZE,
)
"""PCI identity of a ConnectX-6 Dx physical function (``main.c`` mlx5_core_pci_table)."""


class _Life:
    """One life of the device, from attachment or reset to the next: nothing outlives it."""

    def __init__(self, nic: "Nic", host: Host) -> None:
        self.host = host
        objects = self.objects = Objects()
        counters = PortCounters()
        self.datapath = Datapath(
            host.memory,
            objects,
            counters,
            host.interrupt,
            lambda: self.firmware.port,
            nic.port.send,
            nic.scheduler,
            nic.timestamp,
            nic.tracer,
            Settings(nic.arbiter, nic.profile.other_lso),
        )
        nic.exposure.begin(self.datapath, objects)
        if nic.sanitizer is not None:
            nic.sanitizer.begin(self.datapath)
        self.firmware = Firmware(
            objects,
            self.datapath,
            counters,
            nic.mac,
            nic.tracer,
            profile=nic.profile,
            vectors=VECTORS,
        )
        self.firmware.carrier(nic.port.up, nic.port.speed)
        self.commands = CommandInterface(self.firmware, host.memory)
        self.init_segment = InitSegment(
            host.bar,
            FIRMWARE_VERSION,
            self.commands.set_queue_address,
            self.commands.doorbell,
            self._restart,
            nic.command_timeout_ms,
        )
        self.uar = UarDecoder(self.datapath)
        self.reach = Reach(self.datapath, objects, self.commands, self.init_segment)
        self._scheduler = nic.scheduler
        self._over = False

    def _restart(self) -> None:
        """The driver wants the firmware to start anew."""
        self.commands.stop()
        self.init_segment.stop()
        self._scheduler.call_later(RESTART, self._restarted)

    def _restarted(self) -> None:
        if not self._over:
            self.init_segment.start()

    def end(self) -> None:
        """Stop every queue: nothing is touched after this."""
        self._over = True
        self.datapath.reset()


class Nic:
    """A ConnectX-6 Dx: the transport drives one side (``seam.Device``), the wire the other.

    ``mac`` has 6 bytes; ``clock`` is CLOCK_MONOTONIC in ns, which the plug-in uses too; ``seed`` is
    that of the run; ``profile`` and ``arbitration`` say what kind of card it is;
    ``command_timeout_ms`` is how long the firmware asks the driver to wait for a command.
    ``faults`` is what breaks it, ``exposure`` what of its secrets is shown, ``sanitizer`` what
    watches it; None watches nothing.
    """

    def __init__(
        self,
        name: str,
        mac: bytes,
        scheduler: Scheduler,
        clock: Clock,
        tracer: Tracer,
        *,
        seed: int = 0,
        profile: Profile = CONNECTX6DX,
        arbitration: Policy = Policy.FAIR,
        command_timeout_ms: int = COMMAND_TIMEOUT_MS,
        sanitizer: SanitizerOptions | None = None,
        frozen: Callable[[Finding], None] = lambda _: None,
    ) -> None:
        self.name = name
        self.mac = mac
        self.scheduler = scheduler
        self.tracer = tracer
        self.profile = profile
        self.arbiter = Arbiter(arbitration, Random(f"{seed}/arbitration/{name}"))
        self.command_timeout_ms = command_timeout_ms
        self.faults = Injector(name, seed, scheduler, tracer)
        self.sanitizer: Sanitizer | None = None
        if sanitizer is not None:
            self.sanitizer = Sanitizer(sanitizer, tracer, frozen)
            tracer.add(self.sanitizer)
        self.port = Port(name, self)
        self.exposure = Exposure(name, tracer)
        self.recorder: Recorder | None = None
        """Records what the send queues are given, if somebody wants it."""
        self._clock = clock
        self._life: _Life | None = None
        self._frozen = False
        self._beat()

    @property
    def identity(self) -> Identity:
        """See ``seam.Device``."""
        return IDENTITY

    def timestamp(self) -> int:
        """The internal timer, in ticks of ``CLOCK_KHZ``."""
        return self._clock() * CLOCK_KHZ // 1_000_000

    def attach(self, host: Host) -> None:
        """A front-end is ready: a new life begins."""
        self._begin(host, "a front-end has attached")

    def detach(self) -> None:
        """The front-end is gone."""
        if self._life is not None:
            self._end("the guest is gone")
            self.faults.end()
            self._life = None

    def reset(self) -> None:
        """PCI reset or FLR."""
        if self._life is not None:
            self._end("the device was reset")
            self.faults.end()
            self._begin(self._life.host, "PCI reset")

    def record(self, path: Path, hold: float) -> None:
        """Record what the send queues are given; see ``Recorder``. Raises UserError."""
        life = self._life
        if life is None:
            raise UserError(f"NIC {self.name} has no guest yet")
        if self.recorder is not None:
            raise UserError(f"NIC {self.name} is being recorded already; stop that first")
        self.recorder = Recorder(
            path,
            self.name,
            hold,
            life.datapath,
            life.host.memory,
            life.objects,
            self.profile.other_lso,
            self.scheduler,
            self.tracer,
            self._recorded,
        )

    def _recorded(self) -> None:
        self.recorder = None

    def bus_master(self, enabled: bool) -> None:
        """The transport has opened or closed guest memory; queues find out when they use it."""

    def bar_write(self, offset: int, data: bytes) -> None:
        """The guest wrote to BAR 0."""
        life = self._life
        if life is None:
            return
        if offset >= FIRST_UAR:
            known = life.uar.write(offset, data)
        else:
            known = life.init_segment.write(offset, data)
        if not known:
            self.tracer.emit(UnknownMmio(offset, data))

    def flush(self) -> None:
        """A batch of writes is done: serve the queues that they rang."""
        if self._life is not None:
            self._life.datapath.run()

    def freeze(self) -> None:
        """Execute nothing more until ``thaw``; the queues stay as they are, for a debugger."""
        self._still(True)

    def thaw(self) -> None:
        """Go on."""
        self._still(False)
        self.flush()

    def _still(self, still: bool) -> None:
        self._frozen = still
        if self._life is not None:
            self._life.datapath.frozen = still

    def receive(self, traffic: Traffic) -> None:
        """Traffic has arrived on the wire (``wire.port.Endpoint``)."""
        if self._life is not None:
            self._life.datapath.receive(traffic)

    def carrier(self, up: bool) -> None:
        """The link came up, went down, or has another speed."""
        if self._life is not None:
            self._life.firmware.carrier(up, self.port.speed)

    def _end(self, why: str) -> None:
        assert self._life is not None
        if self.recorder is not None:
            self.recorder.drop(why)
        self._life.end()

    def _begin(self, host: Host, cause: str) -> None:
        self.tracer.emit(DeviceReset(cause))
        self._life = _Life(self, host)
        self._life.datapath.frozen = self._frozen
        self.faults.begin(self._life.reach)

    def _beat(self) -> None:
        if self._life is not None:
            self._life.init_segment.beat()
        self.scheduler.call_later(HEARTBEAT, self._beat)
