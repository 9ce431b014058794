# SPDX-License-Identifier: GPL-2.0-or-later
"""What a user puts in: kernel, driver patch, module, NIC, scenarios; from flags and a TOML file.

The file lies in the user's own repository; relative paths in it are relative to its folder. A flag
takes the place of the file's key.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from nicmodel.command.caps import CONNECTX6DX, PROFILES
from nicmodel.entry import Entry, check_known
from nicmodel.errors import UserError
from nicmodel.testbed import driver, foreign, kernel, smt
from nicmodel.testbed.foreign import Module, Programs
from nicmodel.testbed.scenario import Scenario, scenario

OWN_MODULE = smt.SOURCE
"""The module that is built where a user names none."""

FLAGS = ("kernel", "driver", "driver_patch", "smt_kmod", "smt_cflags", "nic", "seed")
"""What may be said on the command line; the first five name what is built."""

_TOP = ("kernel", "driver", "driver_patch", "nic", "seed")
_TABLES = ("module", "programs", "matrix")
_AXES = {**{key: key for key in _TOP}, "module": "smt_kmod", "cflags": "smt_cflags"}
"""What a matrix may vary, and the flag that says it."""


@dataclass(frozen=True)
class Inputs:
    """One run's inputs, checked; ``kernel`` is None where nothing was said."""

    kernel: str | None = None
    nic_driver: driver.Choice = driver.STOCK
    nic: str = CONNECTX6DX.name
    seed: int | None = None
    module: Module | None = None
    programs: Programs | None = None
    scenarios: tuple[Scenario, ...] = ()

    def facts(self) -> dict[str, str]:
        """What shall be known of the module later."""
        if self.module is None:
            return {}
        digest = foreign.digest(self.module.folder)
        return {"module": str(self.module.folder), "module content": digest}

    def prepare(self) -> None:
        """Build what was named, so that a mistake in it is seen before any guest boots.

        Without scenarios the suite here is what runs, with a module that it knows.

        :raises UserError: it does not build, or a patch does not apply
        """
        if self.kernel is None and self.nic_driver == driver.STOCK and self.module is None:
            return
        chosen = kernel.find(self.kernel or kernel.DEFAULT)
        driver.find(chosen, self.nic_driver)
        if self.module is not None and self.scenarios:
            foreign.build(self.module, chosen)
        elif self.module is not None:
            smt.under_test(self.module, chosen)


def load(path: Path | None, flags: Mapping[str, Any]) -> Inputs:
    """Return what file ``path`` (None: there is none) and ``flags`` (``FLAGS``, or None) say.

    :raises UserError: one of them makes no sense
    """
    document = _read(path)
    entry = Entry(str(path or "command line"), document, path.parent if path else Path())
    given = {key: value for key, value in flags.items() if value is not None}
    if not given.get("kernel"):
        given.pop("kernel", None)  # make exports it whatever it is
    values = Entry(entry.place, {key: document[key] for key in _TOP if key in document})
    folder = path.absolute().parent if path else Path()
    for key in ("kernel", "driver_patch"):
        if key in document and key not in given:
            values.values[key] = _beside(folder, key, values.text(key))
    values.values |= {key: given[key] for key in _TOP if key in given}
    nic = values.known("nic", PROFILES, CONNECTX6DX.name)
    # in a matrix "" is the driver without a patch
    patch = values.text("driver_patch") if values.values.get("driver_patch") else None
    word = values.text("driver", "stock")
    return Inputs(
        values.text("kernel") if "kernel" in values.values else None,
        driver.choice(word, Path(patch) if patch else None),
        nic,
        values.whole("seed", 0) if "seed" in values.values else None,
        _module(entry.table("module"), folder, given),
        _programs(entry.table("programs"), folder),
        _scenarios(entry),
    )


def matrix(path: Path | None, flags: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the flags of each run of ``[matrix]``, in the order of the file; without one: [{}].

    What a flag says is not varied. Raises UserError.
    """
    document = _read(path)
    table = Entry(str(path), document, Path()).table("matrix")
    table.check_keys(_AXES)
    folder = path.absolute().parent if path else Path()
    axes: list[list[tuple[str, Any]]] = []
    for key, choices in table.values.items():
        if not isinstance(choices, list) or not choices:
            raise table.fault(key, "write a list of values, one for each run")
        flag = _AXES[key]
        if flags.get(flag) is None:
            axes.append([(flag, _beside(folder, key, choice)) for choice in choices])
    return [dict(pairs) for pairs in product(*axes)]


def _read(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        document = tomllib.loads(path.read_text())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path} is not valid: {error}") from error
    for key in document:
        check_known(str(path), key, [*_TOP, *_TABLES, "scenario"])
    return document


def _beside(folder: Path, key: str, value: Any) -> Any:
    """A path in the file is relative to it; a kernel without ``/`` is a package."""
    if not isinstance(value, str):
        return value
    if key in ("driver_patch", "module") or (key == "kernel" and "/" in value):
        return str(folder / value) if value else value
    return value


def _module(entry: Entry, folder: Path, flags: Mapping[str, Any]) -> Module | None:
    entry.check_keys(("folder", "cflags", "build", "load", "needs", "sysctl"))
    values = entry.values
    named = flags.get("smt_kmod")
    if not values and named is None:
        if "smt_cflags" in flags:
            return Module(OWN_MODULE, flags["smt_cflags"])
        return None
    place = Path(named).absolute() if named else folder / entry.text("folder", ".")
    sysctl = entry.table("sysctl").values
    return Module(
        place,
        flags.get("smt_cflags") or (entry.text("cflags") if "cflags" in values else ""),
        entry.text("build") if "build" in values else "",
        entry.texts("load"),
        entry.texts("needs"),
        {key: str(value) for key, value in sysctl.items()},
    )


def _programs(entry: Entry, folder: Path) -> Programs | None:
    entry.check_keys(("build", "files"))
    if not entry.values:
        return None
    build = entry.text("build") if "build" in entry.values else ""
    return Programs(folder, entry.texts("files"), build)


def _scenarios(entry: Entry) -> tuple[Scenario, ...]:
    found = tuple(scenario(one) for one in entry.tables("scenario"))
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{entry.place}: two scenarios are called {name}; rename one")
    return found
