# SPDX-License-Identifier: GPL-2.0-or-later
"""``NICMODEL_FUZZ_SECONDS``: tests marked ``fuzz`` share that time instead of taking seconds.

Each is repeated, with new random numbers, until its part is over.
"""

import os
import time

import pytest
from hypothesis import HealthCheck, settings

SECONDS = float(os.environ.get("NICMODEL_FUZZ_SECONDS", "0"))

# how long an example takes says how busy the machine is
settings.register_profile(
    "nicmodel", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("fuzz", settings.get_profile("nicmodel"), max_examples=200)
settings.load_profile("fuzz" if SECONDS else "nicmodel")

_PART = pytest.StashKey[float]()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Part the time between those that were selected; they need no other limit."""
    fuzz = [item for item in items if item.get_closest_marker("fuzz")] if SECONDS else []
    for item in fuzz:
        item.stash[_PART] = SECONDS / len(fuzz)
        item.add_marker(pytest.mark.timeout(0))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Repeat a test that has a part of the time."""
    if _PART not in pyfuncitem.stash:
        return None
    end = time.monotonic() + pyfuncitem.stash[_PART]
    while time.monotonic() < end:
        pyfuncitem.obj()
    return True
