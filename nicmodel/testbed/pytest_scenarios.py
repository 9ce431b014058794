# SPDX-License-Identifier: GPL-2.0-or-later
"""pytest for a user's TOML file: each ``[[scenario]]`` is a test of its own."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from nicmodel.errors import UserError
from nicmodel.testbed.errors import GuestError, Unavailable
from nicmodel.testbed.inputs import Inputs
from nicmodel.testbed.lab import Lab, LabOptions
from nicmodel.testbed.scenario import Scenario
from nicmodel.testbed.stage import BOOT_SECONDS, ScenarioFailed, play


class Scenarios:
    """Collects the scenarios of one file; owns the run in which they are played."""

    def __init__(self, path: Path, inputs: Inputs, options: LabOptions) -> None:
        self._path = path.resolve()
        self.inputs = inputs
        self._options = options
        self._lab: Lab | None = None
        self._stack = ExitStack()

    def pytest_collect_file(
        self, file_path: Path, parent: pytest.Collector
    ) -> pytest.Collector | None:
        """Take the file, whatever its name is."""
        if file_path.resolve() != self._path:
            return None
        return ScenarioFile.from_parent(
            parent, path=file_path, nodeid=file_path.name, scenarios=self
        )

    def lab(self) -> Lab:
        """The run, begun when it is needed first."""
        if self._lab is None:
            # make and CI end a run with SIGTERM: it takes the way that Ctrl-C takes
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            self._lab = self._stack.enter_context(Lab(self._options))
        return self._lab

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """End the run."""
        self._stack.close()


class ScenarioFile(pytest.File):
    """A user's file."""

    def __init__(self, *, scenarios: Scenarios, **settings: Any) -> None:
        super().__init__(**settings)
        self._scenarios = scenarios

    def collect(self) -> Iterator[pytest.Item]:
        """Yield a test for each scenario."""
        for one in self._scenarios.inputs.scenarios:
            yield ScenarioItem.from_parent(
                self, name=one.name, scenario=one, scenarios=self._scenarios
            )


class ScenarioItem(pytest.Item):
    """One scenario as a test."""

    def __init__(self, *, scenario: Scenario, scenarios: Scenarios, **settings: Any) -> None:
        super().__init__(**settings)
        self._scenario = scenario
        self._scenarios = scenarios
        self.add_marker(pytest.mark.timeout(scenario.seconds + BOOT_SECONDS))

    def runtest(self) -> None:
        """Play it."""
        try:
            lab = self._scenarios.lab()
        except Unavailable as error:
            pytest.skip(str(error))
        play(lab.within(self._scenario.name), self._scenario, self._scenarios.inputs)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *_: Any) -> Any:
        """Say what did not hold; only a bug of ours shows where it stands."""
        if isinstance(excinfo.value, ScenarioFailed | UserError | GuestError):
            return str(excinfo.value)
        return super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Name the file and the scenario."""
        return self.path, None, self.name
