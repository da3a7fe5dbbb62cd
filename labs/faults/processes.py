"""Faults that go on by themselves, as a flapping port does: processes of the workstation, found by marks they carry.

It carries two tokens in its environment: the lab's, so that `down` ends it with everything else, and one of its own,
which is journaled before it starts, so that its fault's undo finds it, and nothing else, whoever started it.
"""

from __future__ import annotations

import os
import secrets
import select
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from labs import index
from labs.errors import NotReady
from labs.lab import Lab
from labs.undo import TOKEN_VARIABLE, carriers, kill_until_gone

FAULT_VARIABLE = "RAILBED_FAULT"
READY = "ready"
# Python starts in a tenth of a second; this is for a workstation with all else to do.
READY_WITHIN_S = 20.0


def new_token(lab: Lab) -> str:
    """A mark that no other process carries; it belongs into the step's args."""
    return f"{lab.name}:{secrets.token_hex(16)}"


def start(lab: Lab, token: str, argv: Sequence[str], *, netns: Path | None = None) -> None:
    """Start a fault's process, in a node's network namespace or none; it must say ``ready`` once it acts.

    What it says of its troubles is in the run directory's logs. Raises NotReady when it is not ready; the fault's undo
    ends it all the same.
    """
    log = lab.run_dir / "logs" / "faults.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    inside = ("nsenter", f"--net={netns}", "--") if netns else ()
    with log.open("ab") as errors:
        child = subprocess.Popen(
            [*inside, *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **_marks(lab.name, token)},
            cwd="/",
            start_new_session=True,
        )
    child.returncode = 0  # it outlives us: whoever undoes the fault ends it
    if child.stdout is None:
        return
    with child.stdout as said:
        heard = select.select([said], [], [], READY_WITHIN_S)[0]
        word = said.readline().decode(errors="replace").strip() if heard else ""
    if word != READY:
        last = log.read_text(errors="replace").strip().splitlines()[-1:]
        raise NotReady(f"{' '.join(argv[:3])} did not start: {word or ' '.join(last) or 'no word'}")


def running(token: str) -> frozenset[int]:
    """The processes that carry a fault's token."""
    return frozenset(carriers({f"{FAULT_VARIABLE}={token}".encode()}))


def end(token: str) -> None:
    """End what carries a fault's token, and wait for its end. Raises NotReady when it hangs."""
    found = running(token)
    kill_until_gone(partial(carriers, {f"{FAULT_VARIABLE}={token}".encode()}))
    for pid in found:
        with suppress(ChildProcessError):  # another process started it
            os.waitpid(pid, os.WNOHANG)


def _marks(lab: str, token: str) -> Mapping[str, str]:
    own = {FAULT_VARIABLE: token}
    for entry in index.journal(lab).open_entries():
        if entry.change.undo == "process":
            return {**own, TOKEN_VARIABLE: str(entry.change.args["token"])}
    return own
