# SPDX-License-Identifier: GPL-2.0-or-later
"""Keys and TISes for TLS, as ``lib/crypto.c`` and ``ktls_tx.c`` ask for them."""

from dataclasses import replace

import pytest

from nicmodel.command.caps import CONNECTX6DX
from nicmodel.spec import commands as c
from nicmodel.spec.contexts import Tirc, TirDispType, Tisc
from nicmodel.spec.opcodes import CommandOpcode as Op
from nicmodel.spec.status import CommandStatus
from nicmodel.spec.tls import (
    CreateGeneralObjectIn,
    EncryptionKeyObj,
    GeneralObjInCmdHdr,
    GeneralObjOutCmdHdr,
)
from nicmodel.units import Dekn, Pdn, Tirn, Tisn
from tests.unit.command.fake_driver import Refused
from tests.unit.command.lifecycle import Driver

DEK = 0xC
KEY = bytes(range(1, 33))


@pytest.fixture
def driver() -> Driver:
    driver = Driver()
    driver.up()
    return driver


def create_key(driver: Driver, size: int = 0, *, longer: int = 0, **other: int) -> Dekn:
    """A key as the driver creates it, ``longer`` bytes behind it; ``other`` fields of the key."""
    fields = {"key_type": 1, "pd": driver.pd, "key_size": size} | other
    request = CreateGeneralObjectIn(
        general_obj_in_cmd_hdr=GeneralObjInCmdHdr(obj_type=DEK),
        encryption_key_object=EncryptionKeyObj(**fields, key=KEY),  # type: ignore[arg-type]
    ).encode()
    data = Op.CREATE_GENERAL_OBJECT.to_bytes(2, "big") + request[2:] + bytes(longer)
    return Dekn(GeneralObjOutCmdHdr.decode(driver.command(data, 16)).obj_id)


def refused(status: CommandStatus) -> "pytest.RaisesExc[Refused]":
    return pytest.raises(Refused, match=f"status {status:#x}")


def test_a_short_key_lies_in_the_second_half(driver: Driver) -> None:
    # 6.1 sends 0x110 bytes, 6.12 0x210
    short, full = create_key(driver, 0, longer=0xA0), create_key(driver, 1, longer=0x1A0)
    deks = driver.objects.deks
    assert (deks.get(short).key, deks.get(full).key) == (KEY[16:], KEY)
    assert KEY.hex() not in repr(deks.get(full))
    assert "key=" not in repr(deks.get(full))
    assert repr(KEY)[2:10] not in repr(EncryptionKeyObj(key=KEY))


def test_a_key_lives_until_it_is_destroyed_and_holds_its_protection_domain(driver: Driver) -> None:
    pd = driver.run(Op.ALLOC_PD, c.AllocPdIn(), c.AllocPdOut).pd
    dek = create_key(driver, pd=pd)
    with refused(CommandStatus.BAD_RES_STATE):
        driver.run(Op.DEALLOC_PD, c.DeallocPdIn(pd=pd), c.Done)
    destroy = GeneralObjInCmdHdr(obj_type=DEK, obj_id=dek)
    driver.run(Op.DESTROY_GENERAL_OBJECT, destroy, GeneralObjOutCmdHdr)
    assert driver.queues.gone == [dek]
    driver.run(Op.DEALLOC_PD, c.DeallocPdIn(pd=pd), c.Done)
    with refused(CommandStatus.BAD_RES):
        driver.run(Op.DESTROY_GENERAL_OBJECT, destroy, GeneralObjOutCmdHdr)


def test_what_is_not_a_tls_key_is_refused(driver: Driver) -> None:
    for other in ({"key_type": 2}, {"key_size": 2}):
        with refused(CommandStatus.BAD_PARAM):
            create_key(driver, **other)
    with refused(CommandStatus.BAD_RES):
        create_key(driver, pd=0xABCDEF)
    for header in (GeneralObjInCmdHdr(obj_type=0xD), GeneralObjInCmdHdr(obj_type=DEK)):
        with refused(CommandStatus.BAD_PARAM if header.obj_type != DEK else CommandStatus.BAD_RES):
            driver.run(Op.DESTROY_GENERAL_OBJECT, header, GeneralObjOutCmdHdr)
    many = CreateGeneralObjectIn(
        general_obj_in_cmd_hdr=GeneralObjInCmdHdr(obj_type=DEK, log_obj_range=4),
        encryption_key_object=EncryptionKeyObj(key_type=1, pd=driver.pd),
    )
    with refused(CommandStatus.BAD_PARAM):
        driver.run(Op.CREATE_GENERAL_OBJECT, many, GeneralObjOutCmdHdr)


def create_tis(driver: Driver, pd: Pdn) -> Tisn:
    context = Tisc(tls_en=True, transport_domain=driver.td, pd=pd)
    return driver.run(Op.CREATE_TIS, c.CreateTisIn(ctx=context), c.CreateTisOut).tisn


def test_a_tis_with_tls_is_in_a_protection_domain(driver: Driver) -> None:
    with refused(CommandStatus.BAD_RES):
        create_tis(driver, Pdn(0xABCDEF))
    pd = driver.run(Op.ALLOC_PD, c.AllocPdIn(), c.AllocPdOut).pd
    tisn = create_tis(driver, pd)
    with refused(CommandStatus.BAD_RES_STATE):
        driver.run(Op.DEALLOC_PD, c.DeallocPdIn(pd=pd), c.Done)
    driver.run(Op.DESTROY_TIS, c.DestroyTisIn(tisn=tisn), c.Done)
    assert driver.queues.gone == [tisn]
    driver.run(Op.DEALLOC_PD, c.DeallocPdIn(pd=pd), c.Done)


def create_tir(driver: Driver) -> Tirn:
    context = Tirc(
        tls_en=True,
        transport_domain=driver.td,
        disp_type=TirDispType.INDIRECT,
        indirect_table=driver.rqts[0],
    )
    return driver.run(Op.CREATE_TIR, c.CreateTirIn(ctx=context), c.CreateTirOut).tirn


def test_the_end_of_a_tir_with_tls_is_told(driver: Driver) -> None:
    tirn = create_tir(driver)
    assert driver.objects.tirs.get(tirn).tls_en
    assert driver.queues.gone == []
    driver.run(Op.DESTROY_TIR, c.DestroyTirIn(tirn=tirn), c.Done)
    assert driver.queues.gone == [tirn]
    driver.close()
    driver.remove()  # TIRs without TLS
    assert not [gone for gone in driver.queues.gone if gone != tirn]


def test_a_card_without_tls_refuses_both() -> None:
    general = replace(CONNECTX6DX.general, tls_tx=False, tls_rx=False, general_obj_types=0)
    driver = Driver(profile=replace(CONNECTX6DX, general=general))
    driver.up()
    with refused(CommandStatus.BAD_PARAM):
        create_key(driver)
    with refused(CommandStatus.BAD_PARAM):
        create_tis(driver, driver.pd)
    with refused(CommandStatus.BAD_PARAM):
        create_tir(driver)
