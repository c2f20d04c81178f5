"""What holds for all tests."""

import os
import signal
from collections.abc import Generator, Iterator
from datetime import datetime, tzinfo
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings

from tests.faulty_storage import CUTS

# An example that waits for a busy machine breaks no rule.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--no-skips", action="store_true", help="fail what would skip: for machines that have all that tests need"
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _failed_if_skipped((yield), item.config)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _failed_if_skipped((yield), collector.config)


def _failed_if_skipped(report: Report, config: pytest.Config) -> Report:
    if report.skipped and config.getoption("no_skips"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{reason}; with --no-skips nothing may be missing"
    return report


def pytest_configure(config: pytest.Config) -> None:
    """Make warnings errors: here, because pytest reads the configuration above any path it is given, and a suite that another project
    runs against our programs (``--entrypoint .venv/bin/packager-vehicle``) would be run under it."""
    config.addinivalue_line("filterwarnings", "error")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell how often the power was cut; what tests print themselves is not seen when they pass."""
    reports = terminalreporter.getreports("passed")
    cuts = [value for report in reports for name, value in report.user_properties if name == CUTS]
    if cuts:
        terminalreporter.write_line(f"power cuts tried: {sum(map(int, cuts))}, in {len(cuts)} tests")


@pytest.fixture(scope="session", autouse=True)
def _no_wait_for_the_disk() -> Iterator[None]:
    """Syncing took half the time of the tests of whole homes, and a test can't see it: what survives a cut is told by `faulty_storage`."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("fsync", "fdatasync"):
            patch.setattr(os, name, os.fstat)
        yield


@pytest.fixture(scope="session", autouse=True)
def _interrupts_reach_programs() -> None:
    """A job in the background of a shell ignores interrupts, and so would the programs that tests start and interrupt."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def clock_stands_still() -> Iterator[None]:
    """For commands in this process it is 24 November 2026: what is issued shortly before at fixed times, for fixed bytes, never expires."""

    class StandingClock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime(2026, 11, 24, tzinfo=tz)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("packager.cli.times.datetime", StandingClock)
        yield
