"""What a comparison of schemes says to words it does not know: every message against its file in comparison/.

RAILBED_UPDATE_GOLDEN=1 writes the messages anew: then read them, as a user would have to.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from labs.cli import run

FOLDER = Path(__file__).parent / "comparison"
CASES = {
    "unknown_lb": ("--lb", "kernel,sprai"),
    "lb_of_another_way": ("--lb", "adaptive:random"),
    "lb_twice": ("--lb", "spray,spray"),
    "lb_word_missing": ("--lb", "kernel,"),
    "unknown_cc": ("--cc", "dcqcn,swift"),
    "no_repeat": ("--repeat", "0"),
    "overlap": ("--overlap", "2"),
    "recovery": ("--recovery", "tcp"),
}


@pytest.mark.parametrize("case", CASES)
def test_message(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["traffic", "compare", *CASES[case]]) == 2
    words = capsys.readouterr()
    assert words.out == ""
    golden = FOLDER / f"{case}.txt"
    if os.environ.get("RAILBED_UPDATE_GOLDEN") == "1":
        golden.write_text(words.err, encoding="utf-8")
    assert words.err == golden.read_text(encoding="utf-8")


def test_every_file_is_a_case() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(CASES)
