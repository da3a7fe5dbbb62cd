"""CLEAN-1 in containers: what only they have. A containerlab that outlives its railbed, and an engine that is away.

     up ──┬── containerlab deploy ── container ── container ── container ── host names, ssh settings ── end
     KILL ┘        │                     │                                                               │
                   └ reap                └ reap                                                          └ reap

Left alone, containerlab would end with its parent: what it says goes into a pipe, and nobody reads it any more. Here
it says it to nobody from the start, so that it goes on to its end, which is the worst that a reap can meet.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from labs import containerlab, engine
from labs.testing import wait_until

if TYPE_CHECKING:
    from tests.fabric.crash.conftest import Ground

pytestmark = pytest.mark.usefixtures("in_containers")

CALL_LINE = 12  # of `up`: containerlab has been started, and this is its record
WITHIN_S = 60.0
# Longer than the engine takes to make a container, and than containerlab takes from one thing to the next.
AFTERWARDS_S = 2.0


@pytest.fixture
def silent(tmp_path: Path) -> str:
    """A containerlab that says nothing while it works."""
    program = tmp_path / "containerlab"
    program.write_text(f'#!/bin/sh\nexec {containerlab.find().path} "$@" 2>/dev/null\n')
    program.chmod(0o755)
    return str(program)


def children(ground: Ground) -> dict[int, str]:
    """The containerlab of the lab, by its token."""
    token = f"RAILBED_TOKEN={ground.name}:".encode()
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            carries = any(word.startswith(token) for word in (folder / "environ").read_bytes().split(b"\0"))
        except OSError:
            continue
        if carries and b"deploy" in words:
            found[int(folder.name)] = b" ".join(words).decode()
    return found


def containers(ground: Ground) -> list[str]:
    """The lab's containers, whatever their state."""
    found = engine.containers({"railbed-lab": ground.name})
    return [one.name for one in found if one.name.startswith(f"clab-{ground.name}-")]


MOMENTS: dict[str, Callable[[Ground], bool]] = {
    "at once": lambda ground: bool(children(ground)),
    "first container": lambda ground: bool(containers(ground)),
    "its end": lambda ground: not children(ground),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_containerlab_that_outlives_its_parent(ground: Ground, silent: str, moment: str) -> None:
    """It goes on while `up` is dead; whenever `reap` comes, nothing is left, and nothing comes afterwards."""
    code, said = ground.up(crash_after=CALL_LINE, RAILBED_CONTAINERLAB=silent)
    assert code == -signal.SIGKILL, said
    left = children(ground)
    assert left, "containerlab has not outlived its parent: there is nothing to see here"
    waited = wait_until(moment, lambda: MOMENTS[moment](ground), bool, within=WITHIN_S)
    assert waited.held, waited
    if moment == "its end":
        assert len(ground.played.namespaces(ground.name)) == len(ground.played.fabric.nodes)
    ground.reap()
    ground.assert_spotless()
    again = wait_until("something comes afterwards", ground.remains, bool, within=AFTERWARDS_S)
    assert not again.held, again.last


def test_it_is_ended_before_anything_is_removed(ground: Ground, silent: str) -> None:
    """A reap that dies after its first line has ended containerlab, and has removed nothing yet; the next one does."""
    code, said = ground.up(crash_after=CALL_LINE, RAILBED_CONTAINERLAB=silent)
    assert code == -signal.SIGKILL, said
    waited = wait_until("a container", lambda: containers(ground), bool, within=WITHIN_S)
    assert waited.held, waited
    assert children(ground)
    code, said = ground.run("reap", crash_after=1)
    assert code == -signal.SIGKILL, said
    assert not children(ground)
    assert containers(ground)
    ground.reap()
    ground.assert_spotless()


def test_it_works_in_a_network_of_its_own(ground: Ground, silent: str) -> None:
    """What it sets for the whole host, reverse path filters and firewall rules, it sets in there."""
    code, said = ground.up(crash_after=CALL_LINE, RAILBED_CONTAINERLAB=silent)
    assert code == -signal.SIGKILL, said
    waited = wait_until("a container", lambda: containers(ground), bool, within=WITHIN_S)
    assert waited.held, waited
    inside = {Path(f"/proc/{pid}/ns/net").stat().st_ino for pid in children(ground)}
    assert inside, "containerlab has ended too early to be looked at"
    assert Path("/proc/self/ns/net").stat().st_ino not in inside
    ground.reap()
    ground.assert_spotless()


def test_an_engine_that_is_away_keeps_the_journal(ground: Ground, tmp_path: Path) -> None:
    """`reap` says in one message that the engine is away, and removes nothing of the record; later it does its work."""
    there, away = tmp_path / "docker.sock", tmp_path / "docker.sock.away"
    there.symlink_to(engine.address().removeprefix("unix://"))
    lines = ground.played.lines_of_up(ground.played.fabric)
    code, said = ground.up(crash_after=lines, DOCKER_HOST=f"unix://{there}")
    assert code == -signal.SIGKILL, said
    there.rename(away)
    for verb in (("reap",), ("down", ground.name), ("reap",)):
        code, said = ground.run(*verb)
        assert code == 2, said
        assert said.count("no Docker engine answers") == 1, said
        assert "railbed reap" in said or verb[0] == "down", said
        assert "Traceback" not in said
        assert len(containers(ground)) == len(ground.played.fabric.nodes)
    away.rename(there)
    ground.reap()
    ground.assert_spotless()


def test_a_network_that_somebody_else_uses(ground: Ground) -> None:
    """A container that its owner has put into the lab's network stays; `down` names it, and `reap` goes on later."""
    from_elsewhere = f"clab-{ground.name}x-leaf1"
    code, said = ground.up()
    assert code == 0, said
    api = engine.client(engine.address()).api
    api.connect_container_to_network(from_elsewhere, f"railbed-{ground.name}")
    code, said = ground.run("down", ground.name)
    assert code == 2, said
    assert f"docker network railbed-{ground.name} is in use by {from_elsewhere}" in said
    assert f"docker network disconnect -f railbed-{ground.name} {from_elsewhere}" in said
    api.disconnect_container_from_network(from_elsewhere, f"railbed-{ground.name}")
    ground.reap()
    ground.assert_spotless()
