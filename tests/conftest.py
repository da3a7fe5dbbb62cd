"""What every test folder shares: pytest may take `pytest_plugins` only from here."""

from __future__ import annotations

pytest_plugins = ["pytester"]
