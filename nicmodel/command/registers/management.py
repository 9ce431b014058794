# SPDX-License-Identifier: GPL-2.0-or-later
"""Which registers there are, firmware versions, and the host's byte order (``fw.c``)."""

from nicmodel.command.caps import FIRMWARE_VERSION
from nicmodel.command.firmware import Firmware
from nicmodel.command.registers.declaration import Register, bad_param
from nicmodel.spec.layout import Layout, layout
from nicmodel.spec.registers import (
    DefaultTimeout,
    DtorReg,
    McamAccessReg,
    McamEnhancedFeatures,
    McamReg,
    McqiReg,
    McqiVersion,
    McqsReg,
    PcamEnhancedFeatures,
    PcamReg,
    PcamRegs5000To507f,
    QcamReg,
    RegisterId,
    SbcamReg,
)

BOOT_IMAGE = 1
"""``identifier`` of the only firmware component (``fw.c`` MCQS_IDENTIFIER_BOOT_IMG)."""

VERSION = 1
"""``info_type`` of MCQI that tells a version (``fw.c`` MCQI_INFO_TYPE_VERSION)."""

CELL_SIZE = 128
"""``cap_cell_size``: unit of buffers, bytes (``en_dcbnl.c`` MLX5E_BUFFER_CELL_SHIFT)."""


def _pcam(_firmware: Firmware, request: PcamReg) -> PcamReg:
    return PcamReg(
        feature_group=request.feature_group,
        access_reg_group=request.access_reg_group,
        port_access_reg_cap_mask=PcamRegs5000To507f(pplm=True, ppcnt=True),
        feature_cap_mask=PcamEnhancedFeatures(
            ptys_extended_ethernet=True,
            per_lane_error_counters=True,
            rx_buffer_fullness_counters=True,
            ptys_connector_type=True,
            ppcnt_statistical_group=True,
        ),
    )


def _mcam(_firmware: Firmware, request: McamReg) -> McamReg:
    first = request.access_reg_group == 0
    return McamReg(
        feature_group=request.feature_group,
        access_reg_group=request.access_reg_group,
        mng_access_reg_cap_mask=McamAccessReg(mcqi=first, mcqs=first),
        mng_feature_cap_mask=McamEnhancedFeatures(
            mcia_32dwords=True,
            pcie_outbound_stalled=True,
            tx_overflow_buffer_pkt=True,
            pcie_performance_group=True,
        ),
    )


def _qcam(_firmware: Firmware, request: QcamReg) -> QcamReg:
    return QcamReg(feature_group=request.feature_group, access_reg_group=request.access_reg_group)


def _sbcam(_firmware: Firmware, request: SbcamReg) -> SbcamReg:
    return SbcamReg(
        feature_group=request.feature_group,
        access_reg_group=request.access_reg_group,
        cap_cell_size=CELL_SIZE,
    )


TIMEOUTS = DtorReg(
    pcie_toggle_to=DefaultTimeout(to_value=2000),
    health_poll_to=DefaultTimeout(to_value=2000),
    full_crdump_to=DefaultTimeout(to_value=60_000),
    fw_reset_to=DefaultTimeout(to_value=58_000),
    flush_on_err_to=DefaultTimeout(to_value=2000),
    pci_sync_update_to=DefaultTimeout(to_value=2000),
    tear_down_to=DefaultTimeout(to_value=3000),
    fsm_reactivate_to=DefaultTimeout(to_value=5000),
    reclaim_pages_to=DefaultTimeout(to_value=5000),
    reclaim_vfs_pages_to=DefaultTimeout(to_value=120_000),
)
"""What the driver would wait without being told (``lib/tout.c`` tout_def_sw_val); it adds the first
to ``fw_reset_to`` and ``tear_down_to`` to ``pci_sync_update_to``."""


def _dtor(_firmware: Firmware, _request: DtorReg) -> DtorReg:
    return TIMEOUTS


def _only(component: int) -> None:
    if component:
        raise bad_param(f"there is no firmware component {component}")


def _mcqs(_firmware: Firmware, request: McqsReg) -> McqsReg:
    _only(request.component_index)
    return McqsReg(last_index_flag=True, identifier=BOOT_IMAGE)


def _mcqi(_firmware: Firmware, request: McqiReg) -> McqiReg:
    _only(request.component_index)
    if request.info_type != VERSION:
        raise bad_param(f"there is no information of type {request.info_type}")
    major, minor, sub = FIRMWARE_VERSION
    text = f"{major}.{minor}.{sub}".encode()
    data = McqiVersion(
        version_string_length=len(text),
        version=major << 24 | minor << 16 | sub,
        version_string=text.ljust(92, b"\0"),
    ).encode()[request.offset :][: request.data_size]
    return McqiReg(
        info_type=VERSION,
        info_size=McqiVersion.SIZE,
        offset=request.offset,
        data_size=len(data),
        data=data,
    )


@layout(0x0)
class _Nothing(Layout):
    """A register whose data do not matter."""


def _host_endianness(_firmware: Firmware, _request: _Nothing) -> _Nothing:
    return _Nothing()


def _ignore(_firmware: Firmware, _request: _Nothing) -> None:
    return


REGISTERS = (
    Register(RegisterId.PCAM, PcamReg, _pcam),
    Register(RegisterId.MCAM, McamReg, _mcam),
    Register(RegisterId.QCAM, QcamReg, _qcam),
    Register(RegisterId.SBCAM, SbcamReg, _sbcam),
    Register(RegisterId.MCQS, McqsReg, _mcqs),
    Register(RegisterId.MCQI, McqiReg, _mcqi),
    Register(RegisterId.DTOR, DtorReg, _dtor),
    Register(RegisterId.HOST_ENDIANNESS, _Nothing, _host_endianness, _ignore),
)
