# SPDX-License-Identifier: GPL-2.0-or-later
"""The command queue: doorbell in, executed commands and completion events out."""

from nicmodel.command.events import DoorbellWithoutCommand
from nicmodel.command.firmware import Firmware
from nicmodel.command.mailbox import DeliveryError, Memory, gather, output_blocks, scatter
from nicmodel.command.registry import REGISTRY
from nicmodel.errors import CommandError, DmaFault, GuestFault
from nicmodel.spec.eqe import EqeCmd, EventType
from nicmodel.spec.layout import LayoutError
from nicmodel.spec.mailbox import (
    LOG_CMDQ_SIZE,
    LOG_CMDQ_STRIDE,
    PCI_CMD_XPORT,
    STATUS_OWN,
    CmdLayout,
    ReplyHeader,
    RequestHeader,
)
from nicmodel.spec.status import CommandStatus, DeliveryStatus
from nicmodel.trace.events import CommandDone, CommandRefused, CommandUndelivered, UnknownCommand
from nicmodel.units import GuestAddr


class CommandInterface:
    """Executes the commands of one function."""

    def __init__(self, firmware: Firmware, memory: Memory) -> None:
        self._firmware = firmware
        self._memory = memory
        self.serving = 0
        """The slot whose command is being executed."""
        self._queue: GuestAddr | None = None
        self._slots = 1 << LOG_CMDQ_SIZE
        self._log_stride = LOG_CMDQ_STRIDE

    def set_queue_address(
        self,
        addr: GuestAddr,
        log_size: int = LOG_CMDQ_SIZE,
        log_stride: int = LOG_CMDQ_STRIDE,
    ) -> None:
        """The driver has written the address of the queue: a new life begins.

        A driver that took the device for dead does not destroy its objects (``cmd.c``
        mlx5_internal_err_ret_value), so they go here.
        """
        self._queue = addr
        self._slots = 1 << log_size
        self._log_stride = log_stride
        self._firmware.reset("the driver set a command queue")

    def stop(self) -> None:
        """The firmware goes down: commands are neither read nor answered until a queue is set."""
        self._queue = None
        self._firmware.reset("the driver restarts the firmware")

    def doorbell(self, mask: int) -> None:
        """Execute the commands in the slots of ``mask``, lowest first. Never raises."""
        for slot in range(32):
            if mask >> slot & 1:
                self._serve(slot)

    def _serve(self, slot: int) -> None:
        firmware = self._firmware
        if self._queue is None or slot >= self._slots:
            reason = "no queue is set" if self._queue is None else "there is no such slot"
            firmware.tracer.emit(DoorbellWithoutCommand(slot, reason))
            return
        self.serving = slot
        addr = GuestAddr(self._queue + (slot << self._log_stride))
        # The command that creates or destroys the event queue for commands is polled (cmd.c
        # mlx5_cmd_use_events, mlx5_cmd_use_polling): an event would complete it twice.
        heard = firmware.command_events
        try:
            entry = CmdLayout.decode(self._memory.read(addr, CmdLayout.SIZE))
            if not entry.hardware_owns:
                firmware.tracer.emit(DoorbellWithoutCommand(slot, "the driver owns it"))
                return
            delivery = self._deliver(slot, addr, entry)
            if delivery is None:
                return
            self._memory.write(addr + STATUS_OWN, bytes((delivery << 1,)))
        except DmaFault as fault:
            self._undelivered(slot, DeliveryStatus.FW_ERR, str(fault))
            return
        if heard and firmware.command_events:
            firmware.queues.post_event(EventType.CMD, 0, EqeCmd(vector=1 << slot).encode())

    def _deliver(self, slot: int, addr: GuestAddr, entry: CmdLayout) -> DeliveryStatus | None:
        """Gather, execute, scatter; the delivery status, or None for a command that hangs."""
        try:
            if entry.type != PCI_CMD_XPORT:
                raise DeliveryError(
                    DeliveryStatus.CMD_DESCR_ERR, f"an entry of type {entry.type} is unknown"
                )
            data = gather(self._memory, entry)
            blocks = output_blocks(self._memory, entry)
            reply = self.execute(data, entry.outlen)
            if reply is None:
                return None
            scatter(self._memory, addr, blocks, reply)
        except DeliveryError as error:
            self._undelivered(slot, error.delivery, str(error))
            return error.delivery
        except DmaFault as fault:
            self._undelivered(slot, DeliveryStatus.FW_ERR, str(fault))
            return DeliveryStatus.FW_ERR
        return DeliveryStatus.OK

    def _undelivered(self, slot: int, delivery: DeliveryStatus, reason: str) -> None:
        self._firmware.tracer.emit(CommandUndelivered(slot, delivery.name, reason))

    def execute(self, data: bytes, outlen: int) -> bytes | None:
        """Execute the request ``data``; exactly ``outlen`` bytes of reply.

        None means that there is no answer: what a fault does (``nicmodel.faults``).
        """
        header = RequestHeader.decode(data.ljust(RequestHeader.SIZE, b"\0"))
        tracer = self._firmware.tracer
        command = REGISTRY.get(header.opcode)
        if command is None:
            tracer.emit(UnknownCommand(header.opcode, header.op_mod))
            return refusal(CommandStatus.BAD_OP, 0, outlen)
        name = command.opcode.name
        try:
            if outlen < command.reply.SIZE:
                raise CommandError(
                    CommandStatus.BAD_OUTP_LEN,
                    f"{name} needs {command.reply.SIZE} bytes of output, not {outlen}",
                )
            reply = command.run(self._firmware, data)
        except CommandError as error:
            tracer.emit(CommandRefused(name, header.op_mod, error.status.name, str(error)))
            return refusal(error.status, error.syndrome, outlen)
        except (LayoutError, GuestFault) as error:
            status = CommandStatus.BAD_PARAM
            tracer.emit(CommandRefused(name, header.op_mod, status.name, str(error)))
            return refusal(status, 0, outlen)
        tracer.emit(CommandDone(name, header.op_mod, CommandStatus.OK.name, 0))
        return reply[:outlen].ljust(outlen, b"\0")


def refusal(status: CommandStatus, syndrome: int, outlen: int) -> bytes:
    """``outlen`` bytes of reply that say no."""
    reply = ReplyHeader(status=status, syndrome=syndrome).encode()
    return reply[:outlen].ljust(outlen, b"\0")
