"""Every broken containerlab file in bad_foreign/ against the message beside it.

RAILBED_UPDATE_GOLDEN=1 writes the messages anew: then read them, as a user would have to.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from labs.request import Request, render_request
from topologies.errors import SpecError

FOLDER = Path(__file__).parent / "bad_foreign"
CASES = sorted(FOLDER.glob("*.clab.yml"), key=lambda path: path.name)


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name.partition(".")[0])
def test_message(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)
    with pytest.raises(SpecError) as caught:
        render_request(Request(case.name))
    message = str(caught.value).replace(f"{FOLDER}/", "")
    golden = case.with_suffix(".err")
    if os.environ.get("RAILBED_UPDATE_GOLDEN") == "1":
        golden.write_text(message + "\n", encoding="utf-8")
    assert message + "\n" == golden.read_text(encoding="utf-8")
    assert message.startswith(case.name)
    assert "; allowed: " in message
    assert "\n" not in message


def test_enough_cases() -> None:
    assert len(CASES) >= 12
    assert {case.stem for case in CASES} == {golden.stem for golden in FOLDER.glob("*.err")}
