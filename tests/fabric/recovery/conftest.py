"""How often a fault is repeated here."""

from __future__ import annotations

import os

import pytest

NIGHTLY = os.environ.get("RAILBED_NIGHTLY") == "1"


@pytest.fixture
def repeats() -> int:
    """A few in the ordinary run; in the nightly one so many that "19 of 20" can be said."""
    return 20 if NIGHTLY else 2
