"""The Recorder as a process, without a lab: what it is told comes into the file, whatever happens to it. No root."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from labs import index
from labs.fault_ending import FaultEnding
from labs.journal import JOURNAL_FILE, Change, boot_id
from labs.recorder import Recorder
from labs.recording import _start, check_answers
from labs.telemetry import listening, telling
from labs.telemetry.listening import ListenedNode, Listening
from labs.telemetry.records import Clock, FaultEvent, HostRecord, Missed, Note, SessionEvent
from labs.telemetry.timeline import Timeline, read_timeline
from labs.telemetry.timers import timers
from labs.waiting import wait_until

LAB = "told"


@dataclass
class Recording:
    """A lab's folder in an index of its own, its run directory, and the Recorders that were started for it."""

    run_dir: Path
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def file(self) -> Path:
        return self.run_dir / "timeline.jsonl"

    @property
    def log(self) -> Path:
        return self.run_dir / "frr.log"

    def start(self) -> subprocess.Popen[bytes]:
        """Start a Recorder and wait until it answers, which a second one of the lab never does."""
        child = subprocess.Popen([sys.executable, "-m", "labs.recorder", LAB])
        self.started.append(child)
        waited = wait_until(
            "the Recorder answers", lambda: telling.answers(LAB, within=1.0), lambda said: said is not None, within=20.0
        )
        assert waited.held
        return child

    def fill_disk_of(self, child: subprocess.Popen[bytes]) -> None:
        """No room for more than half a line of it: not even for the small samples that come meanwhile."""
        room = self.file.stat().st_size + 20
        subprocess.run(["prlimit", f"--pid={child.pid}", f"--fsize={room}:unlimited"], check=True)

    def written(self) -> Timeline:
        """The timeline, with everything that was told so far."""
        assert telling.flush(LAB) is not None
        return read_timeline(self.file)


@pytest.fixture
def recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recording]:
    monkeypatch.setenv("RAILBED_STATE_DIR", str(tmp_path / "state"))
    index.lab_dir(LAB).mkdir(parents=True)
    made = Recording(tmp_path / "run")
    made.run_dir.mkdir()
    made.file.touch()
    made.log.write_text("of a former life\n")
    node = ListenedNode(netns=str(tmp_path / "none"), ports={"eth1": "eth1"}, peers={"10.0.0.1": "eth1"})
    nodes = {"leaf1": ListenedNode(netns=node.netns, ports=node.ports, peers=node.peers, log=str(made.log))}
    listening.write(Listening(lab=LAB, file=str(made.file), nodes=nodes, since_s=time.time(), cadence_s=0.2))
    yield made
    for child in made.started:
        child.kill()
        child.wait()


def note(text: str) -> Note:
    return Note(t=time.monotonic_ns(), text=text)


def texts(timeline: Timeline) -> list[str]:
    return [one.text for one in timeline.of(Note)]


def test_what_is_told_is_written_in_order(recording: Recording) -> None:
    """REC-1: a clock first, then what was told, sorted by when it happened; samples of the workstation beside it."""
    recording.start()
    later, sooner = note("later"), Note(t=time.monotonic_ns() - 1_000_000, text="sooner")
    assert telling.tell(LAB, later, sooner)
    timeline = recording.written()
    assert texts(timeline) == ["sooner", "later"]
    assert isinstance(next(iter(timeline)), Clock)
    assert timeline.of(Clock)[0].boot == boot_id()
    times = [record.t for record in timeline]
    assert times == sorted(times)
    waited = wait_until(
        "the workstation is sampled",
        lambda: recording.written().of(HostRecord),
        lambda seen: len(seen) > 2,
        within=10.0,
    )
    assert waited.held


def test_what_is_no_record_is_noted_and_spoils_nothing(recording: Recording) -> None:
    recording.start()
    with telling._connected(LAB) as to:
        to.sendall(b'{"kind":"of-tomorrow","t":1}\nnot json\n')
    telling.tell(LAB, note("after"))
    found = texts(recording.written())
    # In any order: the Recorder stamps what was no record when it reads it, which may be after `after` was made.
    assert found.count("after") == 1
    assert sum("is no record" in text for text in found) == 2


def test_a_session_in_a_log_is_an_event(recording: Recording) -> None:
    """Only what the log says from now on, whole lines of it, stamped when the daemon wrote that it happened."""
    recording.start()
    before = time.monotonic_ns()
    stamp = datetime.now(UTC).strftime("%Y/%m/%d %H:%M:%S.%f")
    after = time.monotonic_ns()
    line = f"{stamp} BGP: [X] %ADJCHANGE: neighbor 10.0.0.1(spine1) in vrf default Down Interface down\n"
    with recording.log.open("a") as log:
        log.write(line[:40])
        log.flush()
        assert recording.written().of(SessionEvent) == ()
        log.write(line[40:])
    found = recording.written().of(SessionEvent)
    assert [(one.node, one.port, one.state, one.because) for one in found] == [
        ("leaf1", "eth1", "Down", "Interface down")
    ]
    assert before - 10_000_000 <= found[0].t <= after + 10_000_000  # two clocks and a microsecond's rounding apart


def test_a_killed_recorder_loses_no_more_than_it_held_back(recording: Recording) -> None:
    """REC-2: SIGKILL; the next one goes on in the same file with a clock of its own, and no line is torn."""
    first = recording.start()
    telling.tell(LAB, note("one"))
    recording.written()
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not telling.tell(LAB, note("nobody hears this"))
    assert telling.flush(LAB, within=1.0) is None
    with recording.file.open("ab") as file:
        file.write(b'{"kind":"note","t":1,"tex')  # as if it had been killed in mid-line
    assert read_timeline(recording.file).torn == 1
    recording.start()
    telling.tell(LAB, note("two"))
    timeline = recording.written()
    assert (texts(timeline), timeline.torn, timeline.unread) == (["one", "two"], 0, 0)
    assert len(timeline.of(Clock)) == 2


def test_there_is_one_recorder_of_a_lab(recording: Recording) -> None:
    first = recording.start()
    second = subprocess.run([sys.executable, "-m", "labs.recorder", LAB], timeout=30, check=False)
    assert second.returncode == 0
    answer = telling.answers(LAB)
    assert answer is not None
    assert answer.pid == first.pid


def test_the_last_words_of_a_lab_are_written_at_once(recording: Recording) -> None:
    child = recording.start()
    telling.tell(LAB, note("last"))
    assert telling.finish(LAB) is not None
    child.kill()
    assert texts(read_timeline(recording.file)) == ["last"]


def test_a_recorder_that_railbed_started_keeps_a_log(recording: Recording) -> None:
    """What fails in it can be read afterwards: the traceback stands in the run directory."""
    journal = index.journal(LAB)
    entry = journal.will(Change("process", {"token": f"{LAB}:0"}))[0]
    _start(LAB, journal, entry)
    check_answers(LAB)
    recording.log.unlink()
    recording.log.mkdir()
    assert any("IsADirectoryError" in one.because for one in recording.written().of(Missed))
    log = (recording.run_dir / "logs" / "recorder.log").read_text()
    assert log.startswith("Traceback")
    assert "IsADirectoryError" in log
    recording.file.unlink()  # it ends with its lab
    gone = wait_until("it has ended", lambda: telling.answers(LAB, within=1.0), lambda said: said is None, within=20.0)
    assert gone.held


def test_a_recorder_ends_with_its_lab(recording: Recording) -> None:
    child = recording.start()
    recording.file.unlink()
    assert child.wait(timeout=20) == 0


def test_a_full_disk_is_survived_and_confessed(recording: Recording) -> None:
    """REC-3: no room for more than half a line, then room again: what is missing is said, what comes after is there."""
    child = recording.start()
    recording.fill_disk_of(child)
    telling.tell(LAB, *(note("x" * 1000) for _ in range(10)))
    answer = telling.flush(LAB)
    assert answer is not None
    assert answer.full
    assert answer.lost >= 10
    assert read_timeline(recording.file).torn == 0
    subprocess.run(["prlimit", f"--pid={child.pid}", "--fsize=unlimited:unlimited"], check=True)
    telling.tell(LAB, note("room"))
    timeline = recording.written()
    assert [one.because for one in timeline.of(Missed)] == ["File too large"]
    assert timeline.of(Missed)[0].count >= 10
    assert texts(timeline)[-1] == "room"


@pytest.fixture
def fault() -> Callable[..., str]:
    """Enter a fault into the journal, as an injector does."""

    def enter(**args: object) -> str:
        journal = index.journal(LAB)
        told = {"fault": "link-down", "target": "a:b", "params": {}, "claims": [], "at": "", "made_ns": 0, "steps": []}
        entry = journal.will(Change("fault", {**told, "until_ns": None, "boot": boot_id(), **args}))[0]
        assert timers(index.journal(LAB).open_entries())
        return f"f{entry.n}"

    return enter


def failures(recording: Recording) -> list[str]:
    return [event.id for event in recording.written().of(FaultEvent) if event.phase == "failed"]


def test_a_fault_whose_time_is_up_is_tried_until_it_is_gone(recording: Recording, fault: Callable[..., str]) -> None:
    """Here it fails, for there is no lab: each try is an event with its reason, until somebody closes the entry."""
    recording.start()
    number = fault(until_ns=time.monotonic_ns() + 300_000_000)
    fault(until_ns=time.monotonic_ns() + 86_400 * 10**9)
    waited = wait_until("it failed twice", lambda: failures(recording), lambda seen: len(seen) >= 2, within=30.0)
    assert set(waited.last) == {number}
    first, second = recording.written().of(FaultEvent)[:2]
    assert "told" in first.because
    assert first.because.endswith("; tried again in 1 s")
    assert first.by == "the Recorder"
    assert second.because.endswith("; tried again in 2 s")
    assert second.t - first.t >= 1_000_000_000
    journal = index.journal(LAB)
    journal.done(journal.open_entries()[:1])
    tried = len(failures(recording))
    due = time.monotonic() + 2.5
    wait_until("its next time is over", time.monotonic, lambda now: now > due, within=5.0)
    assert len(failures(recording)) == tried


def test_a_full_disk_keeps_no_fault_from_its_end(recording: Recording, fault: Callable[..., str]) -> None:
    """REC-3: what is tried meanwhile cannot be told; the tries go on, and are told once there is room."""
    child = recording.start()
    recording.fill_disk_of(child)
    telling.tell(LAB, *(note("x" * 1000) for _ in range(20)))
    number = fault(until_ns=time.monotonic_ns() + 200_000_000)
    due = time.monotonic() + 1.0
    wait_until("its time is over", time.monotonic, lambda now: now > due, within=5.0)
    answer = telling.flush(LAB)
    assert answer is not None
    assert answer.lost >= 20
    subprocess.run(["prlimit", f"--pid={child.pid}", "--fsize=unlimited:unlimited"], check=True)
    waited = wait_until("it was tried", lambda: failures(recording), bool, within=30.0)
    assert set(waited.last) == {number}


def test_a_source_that_fails_keeps_none_of_the_others_from_being_heard(recording: Recording) -> None:
    """REC-4: a log that is a folder cannot be read: that is missed, its traceback in the log, and all else goes on."""
    child = recording.start()
    recording.log.rename(recording.log.with_suffix(".old"))
    recording.log.mkdir()
    (recording.log.parent / "beside").touch()
    telling.tell(LAB, note("after"))
    (recording.log.parent / "beside").write_text("again")
    found = recording.written()
    assert "after" in texts(found)
    said = "the log of a switch could not be heard: IsADirectoryError: [Errno 21] Is a directory"
    assert [one.because for one in found.of(Missed)] == [said]
    recording.log.rmdir()
    (recording.log.parent / "beside").touch()
    recording.log.write_text("a new one\n")
    first, *_, last = recording.written().of(Missed)
    assert (last.because, last.since) == (said, first.t)
    assert child.poll() is None


def test_a_fault_ends_with_its_holder(recording: Recording, fault: Callable[..., str]) -> None:
    from labs.undo import identity

    recording.start()
    holder = subprocess.Popen(["sleep", "600"])
    number = fault(by=identity(holder.pid))
    assert failures(recording) == []
    holder.kill()
    holder.wait()
    waited = wait_until("it was tried", lambda: failures(recording), bool, within=20.0)
    assert waited.last == [number]


def test_a_fault_that_somebody_took_back_is_left_alone(recording: Recording, fault: Callable[..., str]) -> None:
    recording.start()
    fault(until_ns=time.monotonic_ns() + 1_500_000_000)
    journal = index.journal(LAB)
    journal.done(journal.open_entries())
    recording.written()
    due = time.monotonic() + 1.7
    wait_until("its time is over", time.monotonic, lambda now: now > due, within=5.0)
    assert failures(recording) == []


def test_who_cannot_be_taken_in_is_heard_later(recording: Recording) -> None:
    """No descriptor is left for a connection: that is missed, and whoever waits is heard once there is one again."""
    child = recording.start()
    recording.written()
    subprocess.run(["prlimit", f"--pid={child.pid}", "--nofile=3:"], check=True)  # what is open stays open
    telling.tell(LAB, note("waits"))
    said = "its socket could not be heard: OSError: [Errno 24] Too many open files"
    waited = wait_until(
        "it says so",
        lambda: [one.because for one in read_timeline(recording.file).of(Missed)],
        lambda seen: said in seen,
        within=20.0,
    )
    assert waited.held, waited.last
    subprocess.run(["prlimit", f"--pid={child.pid}", "--nofile=1024:"], check=True)
    assert "waits" in texts(recording.written())
    assert child.poll() is None


@pytest.fixture
def recorder(recording: Recording) -> Iterator[Recorder]:
    """One in this process, whose loop is the test."""
    assert recording.run_dir.exists()
    made = Recorder(listening.read(LAB))
    made.begin()
    yield made
    made._socket.socket.close()
    made._selector.close()
    os.close(made._inotify.fd)


class Looks:
    """How often the journal was looked at, and how often in vain."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, in_vain: int = 0) -> None:
        self.in_vain, self.count = in_vain, 0
        monkeypatch.setattr(FaultEnding, "look", lambda _: self.look())

    def look(self) -> None:
        self.count += 1
        if self.count <= self.in_vain:
            raise OSError("no descriptor is left")


def test_a_journal_that_could_not_be_read_is_read_with_the_next_beat(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = Looks(monkeypatch, in_vain=2)
    recorder._listen_again(time.monotonic_ns())
    assert looks.count == 0  # nothing has changed
    recorder._lab_changed(JOURNAL_FILE)
    for count in (2, 3, 3, 3):
        recorder._listen_again(time.monotonic_ns())
        assert looks.count == count


def test_events_of_files_that_were_lost_are_made_up_for(
    recorder: Recorder, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's queue of them overflows: the journal and every log are read, whatever has changed."""
    looks = Looks(monkeypatch)
    line = "%ADJCHANGE: neighbor 10.0.0.1(spine1) in vrf default Down Interface down"
    with recording.log.open("a") as log:
        log.write(f"{datetime.now(UTC):%Y/%m/%d %H:%M:%S.%f} BGP: [X] {line}\n")
    monkeypatch.setattr(recorder._inotify, "read", lambda: [(-1, "")])
    recorder._hear_files()
    assert looks.count == 1
    recorder._writer.write_all()
    assert [one.state for one in read_timeline(recording.file).of(SessionEvent)] == ["Down"]


def test_a_source_that_was_closed_while_it_rested_is_not_heard_again(recorder: Recorder) -> None:
    """Its descriptor's number may be another's by then."""

    def fails() -> None:
        raise OSError("gone")

    fd, other = os.pipe()
    recorder._register("a pipe", fd, fails)
    os.close(other)
    recorder._beat_due = time.monotonic_ns() + 10**9
    recorder._turn()
    assert [resting for resting, _ in recorder._rested] == [fd]
    recorder._forget(fd)
    assert recorder._rested == []
    os.close(fd)


def test_a_source_that_closes_itself_and_fails_does_not_rest(recorder: Recorder) -> None:
    fd, other = os.pipe()

    def fails() -> None:
        recorder._forget(fd)
        raise OSError("gone")

    recorder._register("a pipe", fd, fails)
    os.close(other)
    recorder._beat_due = time.monotonic_ns() + 10**9
    recorder._turn()
    assert recorder._rested == []
    os.close(fd)
