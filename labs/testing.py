"""The names that tests import: values, plans, judges and waits, from one place."""

from __future__ import annotations

__all__ = [name for name in dir() if not name.startswith("_") and name != "annotations"]
