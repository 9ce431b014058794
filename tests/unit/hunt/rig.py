# SPDX-License-Identifier: GPL-2.0-or-later
"""A driver that sends messages of one packet by contexts that it brings into step for each."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nicmodel.hunt.recording import Recording, load
from nicmodel.spec import commands as c
from nicmodel.spec.contexts import Tisc
from nicmodel.spec.opcodes import CommandOpcode as Op
from nicmodel.spec.tls import (
    CreateGeneralObjectIn,
    EncryptionKeyObj,
    GeneralObjInCmdHdr,
    GeneralObjOutCmdHdr,
)
from nicmodel.spec.wqe import WqeOpcode
from tests.unit.device.machine import Loop, Machine, Work
from tests.unit.offload.tls.records import plain12
from tests.unit.queues.rig import eth_segment
from tests.unit.queues.tls import headers, progress_params, static_params

HOLD = 0.005
DEK = 0xC
PROTO = 254
"""Shaped like TCP and unknown to the sanitizer, as any transport of messages is."""


class Driver(Machine):
    """``expected``: by context, the record that the driver thinks it expects."""

    def __init__(self, loop: Loop) -> None:
        super().__init__("a", b"\2\0\0\0\0\1", loop)
        self.up(2)
        self.expected: dict[int, int] = {}

    def context(self) -> tuple[int, int]:
        """A new context: TIS and key."""
        request = CreateGeneralObjectIn(
            general_obj_in_cmd_hdr=GeneralObjInCmdHdr(obj_type=DEK),
            encryption_key_object=EncryptionKeyObj(key_type=1, pd=self.pd, key=bytes(32)),
        ).encode()
        request = Op.CREATE_GENERAL_OBJECT.to_bytes(2, "big") + request[2:]
        dek = GeneralObjOutCmdHdr.decode(self.command(request, 16)).obj_id
        tisc = Tisc(tls_en=True, transport_domain=self.td, pd=self.pd)
        tis = self.run(Op.CREATE_TIS, c.CreateTisIn(ctx=tisc), c.CreateTisOut).tisn
        return tis, dek

    def resync(self, queue: Work, context: tuple[int, int], record: int) -> None:
        tis, dek = context
        self.put(queue, WqeOpcode.UMR, static_params(dek, record), ce=0, imm=tis << 8, opmod=1)
        self.put(queue, WqeOpcode.SET_PSV, progress_params(tis), ce=0, opmod=1)
        self.put(queue, WqeOpcode.NOP, b"", ce=0)
        self.expected[tis] = record

    def packet(self, queue: Work, context: tuple[int, int], record: int) -> None:
        sealed = plain12(b"text %d" % record, record.to_bytes(8, "big"))
        body = eth_segment(inline=headers(len(sealed), proto=PROTO)) + self.segment(sealed)
        self.put(queue, WqeOpcode.SEND, body, imm=context[0] << 8)
        self.expected[context[0]] = record + 1

    def message(
        self,
        queue: Work,
        context: tuple[int, int],
        record: int,
        *,
        resync_on: Work | None = None,
    ) -> None:
        """Post one and ring; ``resync_on``: the queue that brings its context into step."""
        if self.expected.get(context[0]) != record:
            self.resync(resync_on or queue, context, record)
            if resync_on is not None:
                self.ring(resync_on)
        self.packet(queue, context, record)
        self.ring(queue)

    @contextmanager
    def recorded(self, path: Path) -> Iterator[None]:
        """What the queues are given meanwhile."""
        self.nic.record(path, HOLD)
        yield
        assert self.nic.recorder is not None
        self.nic.recorder.end()


def shared_context(driver: Driver, path: Path) -> Recording:
    """The paper's race: records 4 and 5 on two queues that share a context, among others."""
    shared, own = driver.context(), driver.context()
    with driver.recorded(path):
        for record in (0, 1, 2):
            driver.message(driver.sq(0), own, record)
        driver.loop.advance(2 * HOLD)
        driver.message(driver.sq(0), own, 3)
        driver.message(driver.sq(1), shared, 9)
        driver.loop.advance(2 * HOLD)
        driver.message(driver.sq(0), own, 4)
        driver.message(driver.sq(0), shared, 4)
        del driver.expected[shared[0]]  # the other queue knows nothing of it
        driver.message(driver.sq(1), shared, 5)
        driver.message(driver.sq(0), own, 5)
        driver.loop.advance(2 * HOLD)
        driver.message(driver.sq(1), own, 6)
    return load(path)
