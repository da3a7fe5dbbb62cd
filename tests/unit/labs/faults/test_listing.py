"""docs/faults.md lists the catalogue as it is."""

from __future__ import annotations

from pathlib import Path

from labs.faults.listing import filled

PAGE = Path(__file__).parents[4] / "docs" / "faults.md"


def test_the_page_lists_the_catalogue() -> None:
    """Written anew by ``python -m labs.faults.listing docs/faults.md``."""
    assert PAGE.read_text() == filled(PAGE.read_text())
