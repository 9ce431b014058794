# SPDX-License-Identifier: GPL-2.0-or-later
"""The function's life: enable, capabilities, init, teardown (``main.c``, ``fw.c``)."""

from nicmodel.command.caps import CapType
from nicmodel.command.declaration import command
from nicmodel.command.firmware import Firmware, HcaState
from nicmodel.errors import CommandError
from nicmodel.spec.commands import (
    Done,
    EnableHcaIn,
    EnableHcaOut,
    InitHcaIn,
    QueryAdapterIn,
    QueryAdapterOut,
    QueryAdapterParamBlock,
    QueryHcaCapIn,
    QueryHcaCapOut,
    QueryIssiIn,
    QueryIssiOut,
    SetDriverVersionIn,
    SetHcaCapIn,
    SetIssiIn,
    TeardownHcaIn,
    TeardownHcaOut,
)
from nicmodel.spec.opcodes import CommandOpcode
from nicmodel.spec.status import CommandStatus

ISSI_MASK = 0b11
"""Interface steps that the device speaks: 0 and 1."""

IEEE_VENDOR_ID = 0x0002C9
"""The vendor's OUI."""

PSID = b"NICMODEL00000001"
"""Parameter set id, as ``devlink dev info`` shows it; no product has this one."""


def own_function(other: bool, number: int) -> None:
    """There is but one function; CommandError BAD_PARAM for any other."""
    if number:
        raise CommandError(
            CommandStatus.BAD_PARAM,
            f"there is no function or vport {number} ({'other' if other else 'own'})",
        )


@command(
    CommandOpcode.ENABLE_HCA,
    request=EnableHcaIn,
    reply=EnableHcaOut,
    requires=HcaState.DISABLED,
)
def enable_hca(firmware: Firmware, request: EnableHcaIn) -> EnableHcaOut:
    """Wake the function up; whatever an earlier driver left behind is gone."""
    own_function(request.embedded_cpu_function, request.function_id)
    if firmware.state is not HcaState.DISABLED:
        firmware.reset("ENABLE_HCA of a function that was enabled")
    firmware.state = HcaState.ENABLED
    return EnableHcaOut()


@command(
    CommandOpcode.DISABLE_HCA,
    request=EnableHcaIn,
    reply=EnableHcaOut,
    requires=HcaState.ENABLED,
)
def disable_hca(firmware: Firmware, request: EnableHcaIn) -> EnableHcaOut:
    """Put the function to sleep; everything is forgotten."""
    own_function(request.embedded_cpu_function, request.function_id)
    firmware.reset("DISABLE_HCA")
    return EnableHcaOut()


@command(
    CommandOpcode.QUERY_ISSI, request=QueryIssiIn, reply=QueryIssiOut, requires=HcaState.ENABLED
)
def query_issi(firmware: Firmware, request: QueryIssiIn) -> QueryIssiOut:
    """Report the interface steps 0 and 1, and the present one."""
    return QueryIssiOut(current_issi=firmware.issi, supported_issi_dw0=ISSI_MASK)


@command(CommandOpcode.SET_ISSI, request=SetIssiIn, reply=Done, requires=HcaState.ENABLED)
def set_issi(firmware: Firmware, request: SetIssiIn) -> Done:
    """Choose an interface step; both mean the same here."""
    if not ISSI_MASK >> request.current_issi & 1:
        raise CommandError(
            CommandStatus.BAD_PARAM, f"interface step {request.current_issi} is not supported"
        )
    firmware.issi = request.current_issi
    return Done()


def _cap_type(op_mod: int) -> CapType:
    try:
        return CapType(op_mod >> 1)
    except ValueError:
        raise CommandError(
            CommandStatus.BAD_PARAM, f"there is no capability type {op_mod >> 1:#x}"
        ) from None


@command(
    CommandOpcode.QUERY_HCA_CAP,
    request=QueryHcaCapIn,
    reply=QueryHcaCapOut,
    requires=HcaState.ENABLED,
)
def query_hca_cap(firmware: Firmware, request: QueryHcaCapIn) -> QueryHcaCapOut:
    """Report a block of the profile, or (op_mod bit 0) what SET_HCA_CAP made of it."""
    own_function(request.other_function, request.function_id)
    kind = _cap_type(request.op_mod)
    return QueryHcaCapOut(capability=firmware.caps(kind, current=bool(request.op_mod & 1)))


@command(CommandOpcode.SET_HCA_CAP, request=SetHcaCapIn, reply=Done, requires=HcaState.ENABLED)
def set_hca_cap(firmware: Firmware, request: SetHcaCapIn) -> Done:
    """Keep a block as the current one, for later queries; limits stay those of the profile."""
    own_function(request.other_function, request.function_id)
    if firmware.state is not HcaState.ENABLED:
        raise CommandError(CommandStatus.BAD_SYS_STATE, "capabilities cannot change after INIT_HCA")
    firmware.current_caps[_cap_type(request.op_mod)] = request.capability
    return Done()


@command(CommandOpcode.INIT_HCA, request=InitHcaIn, reply=Done, requires=HcaState.ENABLED)
def init_hca(firmware: Firmware, request: InitHcaIn) -> Done:
    """Start work: objects can be created from now on."""
    firmware.state = HcaState.READY
    return Done()


@command(
    CommandOpcode.TEARDOWN_HCA,
    request=TeardownHcaIn,
    reply=TeardownHcaOut,
    requires=HcaState.ENABLED,
)
def teardown_hca(firmware: Firmware, request: TeardownHcaIn) -> TeardownHcaOut:
    """Destroy every object, gracefully or not; pages stay until they are taken back."""
    firmware.teardown()
    return TeardownHcaOut()


@command(CommandOpcode.QUERY_ADAPTER, request=QueryAdapterIn, reply=QueryAdapterOut)
def query_adapter(firmware: Firmware, request: QueryAdapterIn) -> QueryAdapterOut:
    """Report vendor and parameter set id."""
    return QueryAdapterOut(
        query_adapter_struct=QueryAdapterParamBlock(
            ieee_vendor_id=IEEE_VENDOR_ID, vsd_contd_psid=tuple(PSID)
        )
    )


@command(CommandOpcode.SET_DRIVER_VERSION, request=SetDriverVersionIn, reply=Done)
def set_driver_version(firmware: Firmware, request: SetDriverVersionIn) -> Done:
    """Remember the driver's version."""
    text = bytes(request.driver_version).split(b"\0")[0]
    firmware.driver_version = text.decode("ascii", "replace")
    return Done()
