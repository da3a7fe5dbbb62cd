"""What every test folder shares: pytest may take `pytest_plugins` only from here."""

from __future__ import annotations

import os
import signal

import pytest

# What `make test` asks for: it has little time. Else, and at night, every test is played.
BY_DAY = os.environ.get("RAILBED_DEAL") == "1" and os.environ.get("RAILBED_NIGHTLY") != "1"

pytest_plugins = ["pytester"]


def pytest_configure(config: pytest.Config) -> None:
    """Started by a shell in the background it ignores Ctrl-C, and so does all that it starts: tests interrupt that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "nightly: takes minutes, of which `make test` has not enough")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave to the night what takes minutes."""
    late = [one for one in items if BY_DAY and one.get_closest_marker("nightly")]
    if late:
        config.hook.pytest_deselected(items=late)
        items[:] = [one for one in items if one not in late]
