"""Which faults end by themselves."""

from __future__ import annotations

import errno
import os

import pytest

from labs.journal import Change, Entry
from labs.telemetry.timers import holder, timers

BASE = {"fault": "link-down", "target": "leaf1:spine1", "params": {"sender": "leaf1"}, "boot": "b", "until_ns": None}
SELF = {"pid": os.getpid()}


def entry(n: int, undo: str = "fault", **args: object) -> Entry:
    return Entry(n, Change(undo, {**BASE, **args}))


def test_faults_that_end_by_themselves() -> None:
    found = timers([entry(1), entry(2, until_ns=7), entry(3, by=SELF), entry(4, undo="netns")], "b")
    assert [(one.id, one.until_ns, one.by) for one in found] == [("f2", 7, None), ("f3", None, SELF)]
    assert (found[0].fault, found[0].target, dict(found[0].params)) == (
        "link-down",
        "leaf1:spine1",
        {"sender": "leaf1"},
    )


def test_a_time_of_another_boot_means_nothing() -> None:
    assert timers([entry(2, until_ns=7)], "another") == ()


def test_a_holder_is_held_only_while_it_is_that_process() -> None:
    timer = timers([entry(3, by=SELF)], "b")[0]
    fd = holder(timer, lambda _: True)
    assert fd is not None
    os.close(fd)
    assert holder(timer, lambda _: False) is None
    gone = timers([entry(3, by={"pid": 2**22 + 1})], "b")[0]
    assert holder(gone, lambda _: True) is None
    assert holder(timers([entry(2, until_ns=7)], "b")[0], lambda _: True) is None


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_workstation_without_room_does_not_make_a_holder_gone(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its fault would be taken back under its hands."""

    def refused(pid: int) -> int:
        raise OSError(number, os.strerror(number), pid)

    monkeypatch.setattr(os, "pidfd_open", refused)
    with pytest.raises(OSError, match=os.strerror(number)):
        holder(timers([entry(3, by=SELF)], "b")[0], lambda _: True)
