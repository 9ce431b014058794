# SPDX-License-Identifier: GPL-2.0-or-later
"""Parameters of TLS contexts, of a TIS as of a TIR, as UMR and SET_PSV bring them.

Source: ``ktls_txrx.c`` mlx5e_ktls_build_static_params, mlx5e_ktls_build_progress_params. That a
card checks what the driver always sets, and the syndromes, are assumptions.
"""

from struct import Struct

from nicmodel.errors import QueueFault
from nicmodel.objects.table import ObjectTable
from nicmodel.objects.tls import Dek
from nicmodel.offload.tls.cipher import RecordCipher
from nicmodel.spec.cqe import CqeSyndrome
from nicmodel.spec.layout import LayoutError
from nicmodel.spec.tls import (
    ENCRYPTION_STANDARD_TLS,
    PROGRESS_PARAMS_AT,
    STATIC_CONST_1,
    STATIC_CONST_2,
    STATIC_PARAMS_AT,
    TlsProgressParams,
    TlsStaticParams,
    TlsVersion,
)
from nicmodel.spec.wqe import XLT_OCTOWORD, CtrlSeg, UmrCtrlSeg, UmrFlags
from nicmodel.units import Dekn, Pdn

_NUMBER = Struct(">I")
_PARAMS = TlsStaticParams.SIZE // XLT_OCTOWORD


def static_params(wqe: bytes) -> TlsStaticParams:
    """The static parameters in a UMR. Raises QueueFault if they are not well-formed."""
    try:
        control = UmrCtrlSeg.decode(wqe, CtrlSeg.SIZE)
        params = TlsStaticParams.decode(wqe, STATIC_PARAMS_AT)
    except LayoutError as error:
        raise QueueFault(f"TLS static parameters: {error}", CqeSyndrome.LOCAL_QP_OP_ERR) from error
    if not control.flags & UmrFlags.INLINE or control.bsf_octowords != _PARAMS:
        raise QueueFault("TLS static parameters are not inline", CqeSyndrome.LOCAL_QP_OP_ERR)
    consts = (params.const_1, params.const_2, params.encryption_standard)
    if consts != (STATIC_CONST_1, STATIC_CONST_2, ENCRYPTION_STANDARD_TLS):
        raise QueueFault("these are no TLS static parameters", CqeSyndrome.LOCAL_QP_OP_ERR)
    if params.tls_version not in list(TlsVersion):
        raise QueueFault(
            f"TLS version {params.tls_version} is unknown", CqeSyndrome.LOCAL_QP_OP_ERR
        )
    return params


def progress_params(wqe: bytes) -> tuple[int, TlsProgressParams]:
    """TIS or TIR number (24 bit) and progress parameters in a SET_PSV. QueueFault if too short."""
    try:
        params = TlsProgressParams.decode(wqe, PROGRESS_PARAMS_AT + _NUMBER.size)
    except LayoutError as error:
        raise QueueFault(f"TLS progress params: {error}", CqeSyndrome.LOCAL_QP_OP_ERR) from error
    (number,) = _NUMBER.unpack_from(wqe, PROGRESS_PARAMS_AT)
    return number & 0xFFFFFF, params


def find_dek(deks: ObjectTable[Dekn, Dek], params: TlsStaticParams, pd: Pdn | None) -> Dek:
    """The key that ``params`` name, which must be of protection domain ``pd`` (None: any).

    Raises QueueFault.
    """
    dek = deks.find(params.dek_index)
    if dek is None or pd not in (None, dek.pd):
        reason = "there is no DEK" if dek is None else "of another protection domain is DEK"
        raise QueueFault(f"{reason} {params.dek_index:#x}", CqeSyndrome.LOCAL_PROT_ERR)
    return dek


def make_cipher(params: TlsStaticParams, dek: Dek) -> RecordCipher:
    """The cipher of a context with these parameters."""
    iv = params.gcm_iv + params.implicit_iv
    return RecordCipher(TlsVersion(params.tls_version), dek.key, iv)
