"""How often switches are asked on the way to convergence: all at one moment, and no more often than that takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from labs.backends.fake import FakeDeployment
from labs.channel import CommandResult
from labs.lab import Lab, open_lab
from labs.request import Request

SWITCHES = ("leaf1", "leaf2", "leaf3", "leaf4", "spine1", "spine2")


@pytest.fixture
def lab() -> Lab:
    return open_lab(Request("clos_frr", backend="fake", name="asked")).lab


@contextmanager
def asked(monkeypatch: pytest.MonkeyPatch, silenced: Callable[[Counter[str], str], bool]) -> Iterator[Counter[str]]:
    """How often each node was asked for its routes; it has none where `silenced` says so of that count and its name."""
    answer, count = FakeDeployment._answer, Counter[str]()

    def counted(self: FakeDeployment, node: str, argv: tuple[str, ...], stdin: str) -> CommandResult:
        said = answer(self, node, argv, stdin)
        if not any("route show" in word for word in argv):
            return said
        count[node] += 1
        return CommandResult(argv, 0, "[]\036[]", "") if silenced(count, node) else said

    with monkeypatch.context() as patched:
        patched.setattr(FakeDeployment, "_answer", counted)
        yield count


def test_what_has_converged_by_the_first_look_is_asked_once(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    with asked(monkeypatch, lambda _count, _node: False) as count:
        assert lab.wait_converged()
    assert count == Counter(SWITCHES)


def test_who_converges_later_has_all_of_them_asked_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a switch that forwarded as expected at the first look may have ceased to, until the last one does."""
    with asked(monkeypatch, lambda count, node: node == "leaf3" and count[node] == 1) as count:
        assert lab.wait_converged()
    assert count == Counter(dict.fromkeys(SWITCHES, 2)) + Counter(leaf3=1)


def test_who_loses_its_routes_while_the_last_one_converges_is_found(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """It forwarded as expected when it was first asked, and does not when all are asked at one moment."""

    def silenced(count: Counter[str], node: str) -> bool:
        return (node == "leaf3" and count[node] == 1) or (node == "leaf1" and count[node] == 2)

    with asked(monkeypatch, silenced) as count:
        assert lab.wait_converged()
    assert count["leaf1"] >= 3
