# SPDX-License-Identifier: GPL-2.0-or-later
"""UMR: a WQE that changes a memory key (``en_rx.c`` mlx5e_alloc_rx_mpwqe)."""

from nicmodel.errors import QueueFault
from nicmodel.queues.gather import Keys
from nicmodel.spec.cqe import CqeSyndrome
from nicmodel.spec.wqe import (
    MKEY_MASK_FREE,
    MTT_SIZE,
    XLT_OCTOWORD,
    CtrlSeg,
    MkeySeg,
    UmrCtrlSeg,
    UmrFlags,
)
from nicmodel.units import Pdn

_UMR_CTRL_AT = CtrlSeg.SIZE
_MKEY_AT = _UMR_CTRL_AT + UmrCtrlSeg.SIZE
_XLT_AT = _MKEY_AT + MkeySeg.SIZE


def update_key(wqe: bytes, pd: Pdn, keys: Keys) -> None:
    """Execute a UMR of a queue of protection domain ``pd``: inline translations, ``free``.

    Raises QueueFault, and then nothing has changed: MW_BIND_ERR for a key that this queue may not
    change so, LOCAL_QP_OP_ERR for a WQE that is malformed or asks for more than this.
    """
    if len(wqe) < _XLT_AT:
        raise QueueFault("the UMR ends before its translations", CqeSyndrome.LOCAL_QP_OP_ERR)
    ctrl = CtrlSeg.decode(wqe)
    umr = UmrCtrlSeg.decode(wqe, _UMR_CTRL_AT)
    if ctrl.opmod or umr.mkey_mask & ~MKEY_MASK_FREE or not umr.flags & UmrFlags.INLINE:
        raise QueueFault(
            f"UMR with opmod {ctrl.opmod}, mask {umr.mkey_mask:#x} and flags {umr.flags:#x}",
            CqeSyndrome.LOCAL_QP_OP_ERR,
        )
    length = umr.xlt_octowords * XLT_OCTOWORD
    if _XLT_AT + length > len(wqe):
        raise QueueFault("translations end behind the WQE", CqeSyndrome.LOCAL_QP_OP_ERR)
    key = keys.translated_key(ctrl.imm)
    if key is None or not key.umr or key.pd != pd:
        raise QueueFault(
            f"mkey {ctrl.imm:#x} is not for a UMR of this queue", CqeSyndrome.MW_BIND_ERR
        )
    if umr.flags & (UmrFlags.CHECK_NOT_FREE if key.free else UmrFlags.CHECK_FREE):
        raise QueueFault(f"mkey {ctrl.imm:#x} has free = {key.free}", CqeSyndrome.MW_BIND_ERR)
    first = 0
    if umr.flags & UmrFlags.TRANSLATION_OFFSET_EN:
        # the low half shares its place with the number of BSF octowords
        first = (umr.xlt_offset_47_16 << 16 | umr.bsf_octowords) * XLT_OCTOWORD // MTT_SIZE
    if not key.update(first, wqe[_XLT_AT : _XLT_AT + length]):
        raise QueueFault(f"mkey {ctrl.imm:#x} has no entry {first}", CqeSyndrome.MW_BIND_ERR)
    if umr.mkey_mask & MKEY_MASK_FREE:
        key.free = MkeySeg.decode(wqe, _MKEY_AT).free
