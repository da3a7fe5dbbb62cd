"""What every test folder shares: pytest may take `pytest_plugins` only from here; and which tests `make test` plays.

`make test` has half an hour. Of the tests that need a lab, or a backend, it plays others every day (RAILBED_DEAL), and
leaves those marked `nightly` out:

    tests/fabric                     a ninth on namespaces, and another ninth in containers: in nine days each on both
    tests/netns, tests/containers    a third: in three days each

Each of these has a number from 0 to 8 for good: the rows of a function are counted on from one that its name draws. On
day d (d days since 0001-01-01) namespaces play number d mod 9, containers the one four further. `RAILBED_DEAL=4` plays
what a day with d mod 9 = 4 does. Without it, as in `make test-fabric` and at night, all are played.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from zlib import crc32

import pytest

from labs.request import Request, choose_backend

HERE = Path(__file__).parent
SHARES = 9
DEAL = "RAILBED_DEAL"

pytest_plugins = ["pytester"]


def pytest_configure(config: pytest.Config) -> None:
    """Started by a shell in the background it ignores Ctrl-C, and so does all that it starts: tests interrupt that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "nightly: takes minutes, of which `make test` has not enough")


def pytest_report_header() -> str | None:
    """How to play the same again."""
    return f"dealt by the day: {DEAL}={_today()} plays the same tests" if _dealt() else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not for today."""
    if not _dealt():
        return
    today, others = _today(), {one for one in items if one.get_closest_marker("nightly")}
    for folder, played in _played(config, items):
        dealt = [one for one in items if HERE / folder in one.path.parents]
        numbers = _numbers([one.nodeid for one in dealt])
        others |= {one for one, number in zip(dealt, numbers, strict=True) if (number - today) % SHARES not in played}
    if others:
        config.hook.pytest_deselected(items=[one for one in items if one in others])
        items[:] = [one for one in items if one not in others]


def _dealt() -> bool:
    return DEAL in os.environ and os.environ.get("RAILBED_NIGHTLY") != "1"


def _today() -> int:
    """Today's number. Raises UsageError for a setting that is none."""
    said = os.environ[DEAL]
    if said != "today" and not said.isdigit():
        raise pytest.UsageError(f"{DEAL}={said}: allowed are today and a number; all are played without it")
    return (datetime.now(UTC).toordinal() if said == "today" else int(said)) % SHARES


def _played(config: pytest.Config, items: Sequence[pytest.Item]) -> Iterator[tuple[str, set[int]]]:
    """For each folder that is dealt, which numbers are played, counted from today's."""
    yield from (("netns", {0, 3, 6}), ("containers", {0, 3, 6}))
    if any(HERE / "fabric" in one.path.parents for one in items):
        chosen, _ = choose_backend(Request("clos_frr", backend=config.getoption("--lab-backend")))
        yield "fabric", {0 if chosen.name == "netns" else SHARES // 2}


def _numbers(names: Sequence[str]) -> Iterator[int]:
    """The number of each test, by its name: ``file::function[row]``."""
    rows: Counter[str] = Counter()
    for name in names:
        function = name.partition("[")[0]
        yield (crc32(function.encode()) + rows[function]) % SHARES
        rows[function] += 1
