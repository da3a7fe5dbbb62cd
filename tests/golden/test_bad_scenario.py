"""Every broken scenario in bad_scenario/ against the message beside it: nothing of it is started.

RAILBED_UPDATE_GOLDEN=1 writes the messages anew: then read them, as a user would have to.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from labs.scenarios.load import load_scenario
from topologies.errors import SpecError

FOLDER = Path(__file__).parent / "bad_scenario"
CASES = sorted(FOLDER.glob("*.yaml"), key=lambda path: path.name)


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_message(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)  # so that messages name files as a user beside them would
    with pytest.raises(SpecError) as caught:
        load_scenario(case.name)
    message = str(caught.value)
    golden = case.with_suffix(".err")
    if os.environ.get("RAILBED_UPDATE_GOLDEN") == "1":
        golden.write_text(message + "\n", encoding="utf-8")
    assert message + "\n" == golden.read_text(encoding="utf-8")
    assert re.match(rf"{re.escape(case.name)}:\d+: ", message), "no file and line"
    assert "; allowed: " in message
    assert "\n" not in message


def test_enough_cases() -> None:
    assert len(CASES) >= 40
    assert {case.stem for case in CASES} == {golden.stem for golden in FOLDER.glob("*.err")}
