# SPDX-License-Identifier: GPL-2.0-or-later
"""Return status of commands (PRM, "command return status"; ``device.h`` MLX5_CMD_STAT_*)."""

from enum import IntEnum


class CommandStatus(IntEnum):
    """Bits 31..24 of the first output dword."""

    OK = 0x00
    INT_ERR = 0x01
    BAD_OP = 0x02
    BAD_PARAM = 0x03
    BAD_SYS_STATE = 0x04
    BAD_RES = 0x05
    RES_BUSY = 0x06
    LIM = 0x08
    BAD_RES_STATE = 0x09
    IX = 0x0A
    NO_RES = 0x0F
    BAD_INP_LEN = 0x50
    BAD_OUTP_LEN = 0x51


class DeliveryStatus(IntEnum):
    """Bits 7..1 of ``status_own``: was the command delivered at all.

    ``cmd.c`` MLX5_CMD_DELIVERY_STAT_*.
    """

    OK = 0x0
    SIGNAT_ERR = 0x1
    TOK_ERR = 0x2
    BAD_BLK_NUM = 0x3
    OUT_PTR_ALIGN_ERR = 0x4
    IN_PTR_ALIGN_ERR = 0x5
    FW_ERR = 0x6
    IN_LENGTH_ERR = 0x7
    OUT_LENGTH_ERR = 0x8
    RES_FLD_NOT_CLR_ERR = 0x9
    CMD_DESCR_ERR = 0x10
