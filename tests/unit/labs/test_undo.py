"""Ending processes: exactly ours, found by token or by a recorded identity, and no other."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from labs import engine, undo
from labs.engine import Container, Inspected
from labs.errors import NotReady
from labs.journal import Change, Entry, Journal

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a child that sleeps, with variables of its own in its environment."""
    with ExitStack() as stack:

        def begin(**env: str) -> subprocess.Popen[bytes]:
            child = subprocess.Popen(["sleep", "300"], env={"PATH": os.environ["PATH"], **env})
            stack.callback(child.wait)
            stack.callback(child.kill)
            return child

        yield begin


def process(token: str, *facts: Mapping[str, object]) -> tuple[Entry, ...]:
    return (Entry(1, Change("process", {"token": token}), facts),)


def test_all_that_carry_the_token_and_nothing_else(start: Start) -> None:
    ours = [start(RAILBED_TOKEN="lab:1"), start(RAILBED_TOKEN="lab:1", OTHER="x")]
    others = [start(RAILBED_TOKEN="lab:12"), start(RAILBED_TOKEN="lab:"), start(MY_RAILBED_TOKEN="lab:1"), start()]
    undo.end_processes("lab", process("lab:1"))
    assert [child.wait(5) for child in ours] == [-9, -9]
    assert [child.poll() for child in others] == [None] * 4
    undo.end_processes("lab", process("lab:1"))  # idempotent


def test_recorded_pid_is_ended_only_while_it_is_the_same_process(start: Start) -> None:
    child = start()
    who = undo.identity(child.pid)
    start_ticks = int(str(who["start"]))
    for other in ({**who, "start": start_ticks + 1}, {**who, "boot": "another"}, {"pid": child.pid}):
        assert not undo.is_process(other)
        undo.end_processes("lab", process("nobody", other))
        assert child.poll() is None
    assert undo.is_process(who)
    undo.end_processes("lab", process("nobody", who))
    assert child.wait(5) == -9
    assert not undo.is_process(who)


def test_start_time_of_the_dead_and_the_unburied(start: Start) -> None:
    child = start()
    assert undo.start_time(child.pid) is not None
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and not buried
    assert undo.start_time(child.pid) is None
    child.wait()
    assert undo.start_time(child.pid) is None


def test_looks_again_until_nothing_is_left(start: Start) -> None:
    """A process that was started while the first ones were ended is ended too."""
    children = [start()]

    def find() -> set[int]:
        if len(children) < 3:
            children.append(start())
        return {child.pid for child in children}

    undo.kill_until_gone(find)
    assert [child.wait(5) for child in children] == [-9] * 3


def test_never_ourselves(start: Start) -> None:
    child = start()
    undo.kill_until_gone(lambda: {os.getpid(), child.pid})
    assert child.wait(5) == -9


def test_what_does_not_end_is_named(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    child = start()
    monkeypatch.setattr(undo, "KILL_WITHIN", -1.0)
    with pytest.raises(NotReady, match=rf"processes do not end: \[{child.pid}\]"):
        undo.kill_until_gone(lambda: {child.pid})


def test_order_processes_first_then_last_change_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, list[int]]] = []

    def verb(name: str) -> Callable[[str, tuple[Entry, ...]], None]:
        return lambda _, entries: seen.append((name, [entry.n for entry in entries]))

    monkeypatch.setattr(undo, "UNDO", {name: verb(name) for name in ("process", "netns", "sysctl")})
    journal = Journal(tmp_path / "journal.jsonl")
    journal.will(*(Change(name, {}) for name in ("sysctl", "process", "netns", "netns", "sysctl", "process")))
    assert undo.undo_all("lab", journal) == 6
    assert seen == [("process", [2, 6]), ("sysctl", [5]), ("netns", [4, 3]), ("sysctl", [1])]
    assert undo.undo_all("lab", Journal(journal.path)) == 0


def test_undo_that_fails_is_not_marked_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(lab: str, entries: tuple[Entry, ...]) -> None:
        raise NotReady(f"{lab}: {len(entries)}")

    monkeypatch.setattr(undo, "UNDO", {"netns": fail, "sysctl": lambda *_: None})
    journal = Journal(tmp_path / "journal.jsonl")
    journal.will(Change("netns", {}), Change("sysctl", {}))
    with pytest.raises(NotReady):
        undo.undo_all("lab", journal)
    assert [entry.n for entry in Journal(journal.path).open_entries()] == [1]


def test_a_setting_is_written_back_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "rp_filter"
    file.write_text("0\n")
    monkeypatch.setattr("labs.sysctl.path_of", lambda _: file)
    journal = Journal(tmp_path / "journal.jsonl")
    journal.will(Change("setting", {"key": "net.x", "was": "2"}), Change("adopted", {"lab": "x"}))
    assert undo.undo_all("x", journal) == 2
    assert file.read_text() == "2"
    assert undo.undo_all("x", journal) == 0


@pytest.mark.parametrize(("facts", "looks"), [((), ["", "a", "", "b", ""]), (({"deployed": True},), ["ab", ""])])
def test_last_requests_of_a_deployment(
    facts: tuple[Mapping[str, object], ...], looks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was killed may have left several: each is waited for anew. One that came to its end has left none."""
    seen, removed = iter(looks), list[str]()

    def containers(_labels: Mapping[str, str], _at: str) -> tuple[Container, ...]:
        return tuple(Container(name, name, "image", "created", {}) for name in next(seen, ""))

    monkeypatch.setattr(undo, "LAST_REQUEST_S", 0.1)
    monkeypatch.setattr(engine, "containers", containers)
    monkeypatch.setattr(engine, "remove_containers", lambda which, _at: removed.extend(one.id for one in which))
    undo.remove_containers("x", (Entry(1, Change("containers", {"engine": "unix:///x", "labels": {}}), facts),))
    assert removed == ["a", "b"]
    assert next(seen, None) is None


def test_a_namespace_keeps_its_number_while_its_members_are_looked_for(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel gives the number of one that is gone to the next that is made, which may be somebody else's."""
    child = start()
    monkeypatch.setattr(engine, "inspect", lambda *_: Inspected(child.pid, "running", 0))
    running = [Container("a", "a", "image", "running", {})]
    number = Path(f"/proc/{child.pid}/ns/net").stat().st_ino
    with ExitStack() as stack:
        assert [inode for _, inode in undo._networks(running, "unix:///x", stack)] == [number]
        assert number in opened()
    assert number not in opened()


def opened() -> set[int]:
    """The inodes of what this process has open."""
    found = set()
    for path in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add(path.stat().st_ino)
    return found
