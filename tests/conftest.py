"""What every test folder shares: pytest may take `pytest_plugins` only from here."""

from __future__ import annotations

import signal

pytest_plugins = ["pytester"]


def pytest_configure() -> None:
    """Started by a shell in the background it ignores Ctrl-C, and so does all that it starts: tests interrupt that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
