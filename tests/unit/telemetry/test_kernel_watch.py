"""What a node's kernel could not say: from the last time that it had said everything."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from typing import cast

import pytest

from labs.telemetry.kernel_watch import KernelWatch
from labs.telemetry.listening import ListenedNode
from labs.telemetry.records import Missed


class Netlink:
    """A socket that has these answers, one a call; then it has nothing to say."""

    def __init__(self, *answers: Exception | bytes) -> None:
        self.answers = list(answers)
        self.asked: list[bytes] = []

    def recv_into(self, room: memoryview) -> int:
        answer = self.answers.pop(0) if self.answers else BlockingIOError()
        if isinstance(answer, Exception):
            raise answer
        room[: len(answer)] = answer
        return len(answer)

    def send(self, said: bytes) -> None:
        self.asked.append(said)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that goes on by a millisecond whenever it is looked at."""
    times = (1_000_000 * n for n in range(1, 1000))
    monkeypatch.setattr(time, "monotonic_ns", lambda: next(cast("Iterator[int]", times)))


def watch_of(netlink: Netlink) -> KernelWatch:
    watch = KernelWatch("leaf1", ListenedNode(netns="/there/is/none", ports={}, peers={}))
    watch.socket = netlink  # type: ignore[assignment]
    return watch


@pytest.mark.usefixtures("clock")
def test_an_overflow_came_after_the_last_read() -> None:
    """Read at 1 ms; what overflowed is noticed 2 ms later, and everything is asked for again."""
    netlink = Netlink(BlockingIOError(), OSError(errno.ENOBUFS, "overflow"))
    watch = watch_of(netlink)
    assert list(watch.events()) == []
    (missed,) = watch.events()
    assert isinstance(missed, Missed)
    assert (missed.since, missed.t, missed.node) == (1_000_000, 3_000_000, "leaf1")
    assert len(netlink.asked) == 1


@pytest.mark.usefixtures("clock")
def test_a_read_that_had_an_answer_is_one_without_an_overflow() -> None:
    watch = watch_of(Netlink(b"", b"", OSError(errno.ENOBUFS, "overflow")))
    (missed,) = watch.events()
    assert isinstance(missed, Missed)
    assert missed.since == 3_000_000  # 1: read, 2: what it said; 3: read
