"""Says at the end how many schedules were run: a number that a glance at the time does not give."""

from __future__ import annotations

from collections.abc import Callable

import pytest

TOLD = "told"


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Adds a line to the summary of the test run, whichever process of it the test runs in."""
    return lambda line: record_property(TOLD, line)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "call":
                for name, line in report.user_properties:
                    if name == TOLD:
                        terminalreporter.write_line(line)
