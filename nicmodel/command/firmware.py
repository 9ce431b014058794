# SPDX-License-Identifier: GPL-2.0-or-later
"""Firmware: the state behind the commands."""

from dataclasses import replace
from enum import IntEnum
from typing import Protocol

from nicmodel.command.caps import CONNECTX6DX, CapType, Profile
from nicmodel.command.events import ObjectsLeft
from nicmodel.objects.counters import PortCounters
from nicmodel.objects.port import PortState, Vport
from nicmodel.objects.queue import CqConfig, EqConfig, QueueState, RqConfig, SqConfig
from nicmodel.objects.store import Objects
from nicmodel.spec.eqe import EqePortState, EventType, PortChange
from nicmodel.trace.events import DeviceReset, LinkChanged
from nicmodel.trace.tracer import Tracer
from nicmodel.units import CounterSet, Cqn, Dekn, Eqn, GuestAddr, Rqn, Sqn, Tirn, Tisn


class Queues(Protocol):
    """What moves, as commands see it; ``Datapath`` is the real one."""

    def create_eq(self, config: EqConfig) -> None:
        """Start an event queue."""
        ...

    def destroy_eq(self, eqn: Eqn) -> None:
        """Stop it."""
        ...

    def create_cq(self, config: CqConfig) -> None:
        """Start a completion queue; its EQ exists."""
        ...

    def modify_cq(self, config: CqConfig) -> None:
        """Replace its configuration."""
        ...

    def destroy_cq(self, cqn: Cqn) -> None:
        """Stop it."""
        ...

    def create_sq(self, config: SqConfig) -> None:
        """Create a send queue in state RST; its CQ exists."""
        ...

    def sq_state(self, sqn: Sqn) -> QueueState:
        """Its state."""
        ...

    def modify_sq(self, sqn: Sqn, state: QueueState) -> None:
        """Move it to ``state``."""
        ...

    def destroy_sq(self, sqn: Sqn) -> None:
        """Stop it."""
        ...

    def create_rq(self, config: RqConfig) -> None:
        """Create a receive queue in state RST; its CQ exists."""
        ...

    def configure_rq(self, config: RqConfig) -> None:
        """Replace its configuration (VLAN stripping) while it runs."""
        ...

    def rq_state(self, rqn: Rqn) -> QueueState:
        """Its state."""
        ...

    def modify_rq(self, rqn: Rqn, state: QueueState) -> None:
        """Move it to ``state``."""
        ...

    def destroy_rq(self, rqn: Rqn) -> None:
        """Stop it."""
        ...

    def tis_destroyed(self, tisn: Tisn) -> None:
        """Forget what a TIS with TLS has set up."""
        ...

    def tir_destroyed(self, tirn: Tirn) -> None:
        """Forget what a TIR with TLS has set up."""
        ...

    def dek_destroyed(self, dekn: Dekn) -> None:
        """An encryption key is gone."""
        ...

    def out_of_buffer(self, counter_set: CounterSet) -> int:
        """Frames dropped for want of a receive WQE, by queue counter set."""
        ...

    def post_event(self, event_type: int, sub_type: int, data: bytes) -> None:
        """Post an EQE to the EQ that wants ``event_type``."""
        ...

    def reset(self) -> None:
        """Forget every queue."""
        ...


class HcaState(IntEnum):
    """How far the function is; each command needs at least one of these."""

    DISABLED = 0
    """After reset, and after DISABLE_HCA."""
    ENABLED = 1
    """After ENABLE_HCA, and after TEARDOWN_HCA."""
    READY = 2
    """After INIT_HCA."""


class Firmware:
    """Objects, capabilities, port and pages of one function.

    ``mac``: 6 bytes, the permanent address. ``vectors``: how many MSI-X vectors an EQ may name.
    """

    def __init__(
        self,
        objects: Objects,
        queues: Queues,
        counters: PortCounters,
        mac: bytes,
        tracer: Tracer,
        *,
        profile: Profile = CONNECTX6DX,
        vectors: int = 64,
    ) -> None:
        self.objects = objects
        self.queues = queues
        self.counters = counters
        self.mac = mac
        self.tracer = tracer
        self.profile = profile
        self.vectors = vectors
        self.port = PortState()
        self._forget()

    def _forget(self) -> None:
        self.state = HcaState.DISABLED
        self.issi = 0
        self.current_caps: dict[CapType, bytes] = {}
        self.pages: dict[GuestAddr, None] = {}
        self.vport = Vport(mac=self.mac)
        self.counters_seen: dict[CounterSet, int] = {}
        self.driver_version = ""
        self.port = PortState(carrier=self.port.carrier, line_speed=self.port.line_speed)

    def reset(self, cause: str) -> None:
        """Forget everything but the wire; numbers are free again."""
        self.tracer.emit(DeviceReset(cause))
        self.queues.reset()
        self.objects.clear()
        self._forget()

    def teardown(self) -> None:
        """TEARDOWN_HCA: objects go, pages stay until the driver takes them back."""
        if left := self.objects.leaked():
            self.tracer.emit(ObjectsLeft(tuple(left.items())))
        self.queues.reset()
        self.objects.clear()
        self.counters_seen.clear()
        self.state = HcaState.ENABLED

    @property
    def command_events(self) -> bool:
        """Does an event queue want to hear of completed commands?"""
        return any(eq.event_mask >> EventType.CMD & 1 for eq in self.objects.eqs.values())

    def caps(self, kind: CapType, *, current: bool) -> bytes:
        """A capability block; the current one is what SET_HCA_CAP made of it."""
        block = self.profile.block(kind)
        return self.current_caps.get(kind, block) if current else block

    def carrier(self, up: bool, speed: int | None = None) -> None:
        """The wire's link came or went; it has ``speed`` Mbit/s, None if it takes any."""
        self.set_port(replace(self.port, carrier=up, line_speed=speed))

    def set_port(self, port: PortState) -> None:
        """The state of the port is ``port`` from now on; the driver hears if its link changes."""
        was, self.port = self.port.up, port
        if port.up == was:
            return
        if was:
            self.counters.link_downs += 1
        self.tracer.emit(LinkChanged(port.up))
        sub_type = PortChange.ACTIVE if port.up else PortChange.DOWN
        self.queues.post_event(EventType.PORT_CHANGE, sub_type, EqePortState(port=1).encode())
