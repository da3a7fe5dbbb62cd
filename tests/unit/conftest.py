"""What holds for every unit test."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """No processor is kept awake for measurements that are only pretended."""
    monkeypatch.setenv("RAILBED_KEEP_AWAKE", "0")
