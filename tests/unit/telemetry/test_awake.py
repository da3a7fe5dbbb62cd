"""Processors are kept awake by processes of the lowest class, which end with their block and with their parent.

Here in a folder that only looks like a control group; tests/netns/test_awake.py has the real one, as root.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from labs.telemetry import awake
from labs.telemetry.awake import GROUP, SPIN, has_siblings, is_virtual, is_wanted, kept_awake, spun_ns, tree
from labs.waiting import wait_until
from topologies.errors import SpecError

ALL = len(os.sched_getaffinity(0))
CPUS = sorted(os.sched_getaffinity(0))


def spinning(parent: int | None = None) -> list[int]:
    """The processes that keep awake for a process, by default this one."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if str(SPIN).encode() in words and words[-3] == str(parent or os.getpid()).encode():
            found.append(int(path.parent.name))
    return found


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    monkeypatch.setenv("RAILBED_KEEP_AWAKE", "1")
    monkeypatch.setattr(awake, "tree", lambda: tmp_path)
    yield tmp_path
    assert not spinning()


def test_one_a_processor_of_the_lowest_class_in_their_group_until_the_last_block_ends(groups: Path) -> None:
    with kept_awake():
        first = spinning()
        assert sorted(next(iter(os.sched_getaffinity(pid))) for pid in first) == CPUS
        lowest = wait_until(
            "they are of it", lambda: {os.sched_getscheduler(pid) for pid in first}, {os.SCHED_IDLE}.__eq__, within=30.0
        )
        assert lowest.held
        group = groups / f"{GROUP}{os.getpid()}"
        assert (group / "cpu.idle").read_text() == "1"
        assert int((group / "cgroup.procs").read_text()) in first
        with kept_awake():
            assert spinning() == first
        assert spinning() == first
    assert (group / "cpu.idle").read_text() == "0", "else they would wait for a processor to end on"


@pytest.mark.usefixtures("groups")
def test_what_they_run_is_known_while_they_do_and_after() -> None:
    before = spun_ns()
    with kept_awake():
        spun = wait_until("they run", spun_ns, lambda ns: ns > before, within=30.0).last
        assert spun is not None
        again = wait_until("they go on", spun_ns, lambda ns: ns > spun, within=30.0).last
    assert again is not None
    after = spun_ns()
    assert after >= again > spun > before
    assert spun_ns() == after


def test_they_end_with_a_parent_that_is_killed(groups: Path) -> None:
    """And the last one removes the group, here a folder that is empty but for what a kernel would have there."""
    program = (
        "import signal, sys\nfrom pathlib import Path\nfrom labs.telemetry import awake\n"
        "awake.tree = lambda: Path(sys.argv[1])\n"
        "with awake.kept_awake():\n print('in', flush=True)\n signal.pause()"
    )
    environment = {**os.environ, "RAILBED_KEEP_AWAKE": "1"}
    words = [sys.executable, "-c", program, str(groups)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=environment, cwd=SPIN.parents[2]) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == b"in\n"
        assert len(spinning(parent.pid)) == ALL
        group = groups / f"{GROUP}{parent.pid}"
        for path in list(group.iterdir()):
            path.unlink()
        for pid in spinning(parent.pid):
            os.kill(pid, signal.SIGINT)  # Ctrl-C reaches them too, and is not for them
        assert len(spinning(parent.pid)) == ALL
        parent.send_signal(signal.SIGKILL)
    gone = wait_until("they are gone", lambda: spinning(parent.pid), lambda pids: not pids, within=30.0)
    assert gone.held
    assert not group.exists()


def test_what_a_killed_process_has_left_is_removed_by_the_next(groups: Path) -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    left, others = groups / f"{GROUP}{gone.pid}", groups / f"{GROUP}{os.getppid()}"
    left.mkdir()
    others.mkdir()
    with kept_awake():
        assert (left.exists(), others.exists()) == (False, True)


@pytest.mark.usefixtures("groups")
def test_a_forked_child_has_none_and_may_have_its_own() -> None:
    with kept_awake():
        child = os.fork()
        if not child:
            code = 1
            try:
                none = not spinning()
                with kept_awake():
                    code = int(not none or len(spinning()) != ALL)
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert len(spinning()) == ALL, "the parent's go on"


@pytest.mark.usefixtures("groups")
@pytest.mark.parametrize(
    "program",
    ["import sys\nif int(sys.argv[1]) == LAST: raise OSError", "import signal\nsignal.pause()"],
    ids=["ends", "says nothing"],
)
def test_where_one_does_not_come_none_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str) -> None:
    refused = tmp_path / "spin.py"
    good = f"\nsys.path.insert(0, {str(SPIN.parents[2])!r})\nfrom labs.telemetry import spin\nspin.main(0, 0, None)\n"
    refused.write_text(program.replace("LAST", str(CPUS[-1])) + good)
    monkeypatch.setattr(awake, "SPIN", refused)
    monkeypatch.setattr(awake, "READY_WITHIN_S", 0.5)
    with kept_awake():
        assert not awake._awake.running


def test_where_there_is_no_group_the_block_is_as_any_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAILBED_KEEP_AWAKE", "1")
    for found in (None, tmp_path / "not" / "there"):
        monkeypatch.setattr(awake, "tree", lambda found=found: found)
        with kept_awake():
            assert not spinning()


def test_who_wants_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RAILBED_KEEP_AWAKE", raising=False)
    for virtual, siblings in ((True, False), (True, True), (False, False)):
        monkeypatch.setattr(awake, "is_virtual", lambda virtual=virtual: virtual)
        monkeypatch.setattr(awake, "has_siblings", lambda siblings=siblings: siblings)
        assert is_wanted() == (virtual and not siblings)
    monkeypatch.setenv("RAILBED_KEEP_AWAKE", "1")
    assert is_wanted()
    monkeypatch.setenv("RAILBED_KEEP_AWAKE", "0")
    assert not is_wanted()
    monkeypatch.setenv("RAILBED_KEEP_AWAKE", "yes")
    with pytest.raises(SpecError, match=r"RAILBED_KEEP_AWAKE=yes.*0 \(never\), 1 \(always\)"):
        is_wanted()

    told = tmp_path / "told"
    for text, virtual in (("processor : 0\nflags\t\t: fpu vme\n", False), ("flags\t: fpu hypervisor vme\n", True)):
        told.write_text(text)
        assert is_virtual(told) == virtual
    for text, siblings in (("0\n", False), ("0,32\n", True), ("0-1\n", True)):
        told.write_text(text)
        assert has_siblings(told) == siblings
    assert not is_virtual(tmp_path / "none")
    assert not has_siblings(tmp_path / "none")


def test_where_processors_are_shared_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The tree of version 1 with the controller, of version 2 where it hands it down; none of a container's own."""
    groups, membership, namespace = tmp_path / "groups", tmp_path / "membership", tmp_path / "namespace"
    for path in (groups, groups / "cpu,cpuacct", namespace):
        path.mkdir()
    monkeypatch.setattr(awake, "_FIRST_NAMESPACE", namespace.stat().st_ino)

    def found() -> Path | None:
        return tree(groups, membership, namespace)

    assert found() is None
    membership.write_text("3:cpuset:/a\n2:cpu,cpuacct:/user\n0::/user.slice\n")
    assert found() is None
    (groups / "cpu,cpuacct" / "cgroup.procs").touch()
    assert found() == groups / "cpu,cpuacct"
    membership.write_text("0::/user.slice\n")
    assert found() is None
    for handed_down, root in (("memory pids\n", None), ("cpuset cpu memory\n", groups)):
        (groups / "cgroup.subtree_control").write_text(handed_down)
        assert found() == root
    monkeypatch.setattr(awake, "_FIRST_NAMESPACE", 0)
    assert found() is None
