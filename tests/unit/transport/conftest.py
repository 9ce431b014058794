# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests here count open descriptors, so what earlier tests left to the collector goes first."""

import gc

import pytest


@pytest.fixture(autouse=True)
def collected() -> None:
    gc.collect()
