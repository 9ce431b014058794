# SPDX-License-Identifier: GPL-2.0-or-later
"""qemu-plugin/protocol.h, as the C compiler sees it, says what messages.py says."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from nicmodel.transport import messages as m
from nicmodel.transport import seam

BUILD = Path(__file__).parents[3] / "qemu-plugin" / "build.sh"


@pytest.fixture(scope="module")
def header() -> dict[str, int]:
    lines = subprocess.check_output([BUILD, "--constants"], text=True).splitlines()
    return {name: int(value) for name, value in (line.split() for line in lines)}


def declared() -> dict[str, int]:
    """The Python declarations under the names that constants.c prints."""
    values: dict[str, int] = {
        "FEATURE_PROTOCOL_FEATURES": m.Feature.PROTOCOL_FEATURES,
        "MAX_VECTORS": seam.MAX_VECTORS,
        "MAX_VENDOR_CAP": seam.MAX_VENDOR_CAP,
        "MIN_BAR_SIZE": seam.MIN_BAR_SIZE,
        "MAX_BAR_SIZE": seam.MAX_BAR_SIZE,
    }
    for request in m.Request:
        values[f"REQUEST_{request.name}"] = request
    for flag in m.Flag:
        values[f"FLAG_{flag.name}"] = flag
    for feature in m.ProtocolFeature:
        values[f"PROTOCOL_FEATURE_{feature.name}"] = feature
    for name in (
        *("PROTOCOL_FEATURES", "MAX_TABLE_REGIONS", "MAX_CONFIG_SIZE", "MAX_BODY"),
        *("IDENTITY_OFFSET", "COMMAND_OFFSET", "BAR_OFFSET"),
        *("IDENTITY_MAGIC", "IDENTITY_VERSION"),
    ):
        values[name] = getattr(m, name)
    layouts: dict[str, m.Layout[Any]] = {
        "Header": m.HEADER,
        "Region": m.REGION,
        "Config": m.CONFIG,
        "Inflight": m.INFLIGHT,
        "IdentityBlock": m.IDENTITY_BLOCK,
    }
    for name, layout in layouts.items():
        values[f"sizeof.{name}"] = layout.size
        for field, offset in layout.offsets().items():
            values[f"offsetof.{name}.{field}"] = offset
    # In C these contain a Region; in Python its fields.
    values["sizeof.SingleRegion"] = m.SINGLE_REGION.size
    single = m.SINGLE_REGION.offsets()
    values["offsetof.SingleRegion.padding"] = single["padding"]
    values["offsetof.SingleRegion.region"] = single["guest_addr"]
    for field, offset in m.TABLE.offsets().items():
        values[f"offsetof.Table.{field}"] = offset
    values["offsetof.Table.region"] = m.TABLE.size
    return values


def test_c_and_python_declare_the_same(header: dict[str, int]) -> None:
    assert header == declared()


def test_protocol_features_are_all_of_them() -> None:
    total = m.ProtocolFeature(0)
    for feature in m.ProtocolFeature:
        total |= feature
    assert total == m.PROTOCOL_FEATURES
