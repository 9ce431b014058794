# SPDX-License-Identifier: GPL-2.0-or-later
"""All that moves: queues by number, doorbells, a frame's way out and in.

The command interface creates, modifies and destroys queues here; it has allocated the numbers and
checked that what a queue refers to exists.
"""

from nicmodel.objects.queue import CqConfig, EqConfig, QueueState, RqConfig, SqConfig
from nicmodel.units import CounterSet, Cqn, Eqn, Rqn, Sqn


class Datapath:
    """The moving parts of one NIC (being written)."""

    def create_eq(self, config: EqConfig) -> None:
        """Start event queue ``config.eqn``."""
        raise NotImplementedError

    def destroy_eq(self, eqn: Eqn) -> None:
        """Stop it; nothing of it is touched after this returns."""
        raise NotImplementedError

    def create_cq(self, config: CqConfig) -> None:
        """Start completion queue ``config.cqn``; its EQ exists."""
        raise NotImplementedError

    def modify_cq(self, config: CqConfig) -> None:
        """Replace the configuration (moderation) of ``config.cqn``."""
        raise NotImplementedError

    def destroy_cq(self, cqn: Cqn) -> None:
        """Stop it."""
        raise NotImplementedError

    def create_sq(self, config: SqConfig) -> None:
        """Create send queue ``config.sqn`` in state RST; its CQ exists."""
        raise NotImplementedError

    def sq_state(self, sqn: Sqn) -> QueueState:
        """State as QUERY_SQ reports it."""
        raise NotImplementedError

    def modify_sq(self, sqn: Sqn, state: QueueState) -> None:
        """Move to ``state``; the command has checked that the transition is legal."""
        raise NotImplementedError

    def destroy_sq(self, sqn: Sqn) -> None:
        """Stop it."""
        raise NotImplementedError

    def create_rq(self, config: RqConfig) -> None:
        """Create receive queue ``config.rqn`` in state RST; its CQ exists."""
        raise NotImplementedError

    def rq_state(self, rqn: Rqn) -> QueueState:
        """State as QUERY_RQ reports it."""
        raise NotImplementedError

    def modify_rq(self, rqn: Rqn, state: QueueState) -> None:
        """Move to ``state``."""
        raise NotImplementedError

    def destroy_rq(self, rqn: Rqn) -> None:
        """Stop it."""
        raise NotImplementedError

    def out_of_buffer(self, counter_set: CounterSet) -> int:
        """Frames dropped since creation for want of a receive WQE, by queue counter set."""
        raise NotImplementedError

    def post_event(self, event_type: int, sub_type: int, data: bytes) -> None:
        """Post an EQE to the EQ whose ``event_mask`` has ``event_type``; ``data`` goes to EQE
        offset 0x20 (at most 28 bytes). Silently none if no EQ wants it.
        """
        raise NotImplementedError

    def reset(self) -> None:
        """Forget every queue."""
        raise NotImplementedError
