"""The logs of switches are followed, whoever is there first: the Recorder, or the folders they are in."""

from __future__ import annotations

from pathlib import Path

from labs.telemetry.inotify import Inotify
from labs.telemetry.listening import ListenedNode
from labs.telemetry.log_watch import LogWatch


def test_a_folder_that_comes_later_is_heard_of(tmp_path: Path) -> None:
    """Else nothing of that switch is told until the lab goes."""
    log = tmp_path / "leaf1" / "frr.log"
    inotify = Inotify()
    watch = LogWatch({"leaf1": ListenedNode(netns="", ports={}, log=str(log))}, inotify)
    assert watch.listen() == ()
    log.parent.mkdir()
    assert watch.listen() == ("leaf1",)
    assert watch.listen() == ()
    log.write_text("a line\n")
    heard = {number for number, _ in inotify.read()}
    assert len(heard) == 1
    assert list(watch.heard(heard.pop())) == []
    assert watch._read["leaf1"] == len("a line\n")
