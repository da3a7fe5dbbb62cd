"""Starting a lab's Recorder (labs/recorder.py), and starting it again should it have been killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from labs import index, run_dir
from labs.errors import LeftoverLab, NotReady, SpecError
from labs.journal import Entry, Journal
from labs.kinds import recipe
from labs.spec import RenderedLab, SessionAddressing
from labs.telemetry import listening, telling
from labs.telemetry.listening import LEAST_CADENCE_S, MOST_CADENCE_S, ListenedNode, Listening
from labs.undo import TOKEN_VARIABLE, identity
from labs.waiting import wait_until
from topologies import addressing
from topologies.fabric import Node, Tier

CADENCE_VARIABLE = "RAILBED_SAMPLE_S"
TIMELINE = "timeline.jsonl"
LOG = "recorder.log"
# It is there in half a second; the rest is for a workstation that does much else.
ANSWERS_WITHIN_S, ASKED_WITHIN_S = 20.0, 1.0
# What a child is given of the environment: where state and native programs are, and whose the files are to be.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
KEPT = ("HOME", "LANG", "RAILBED_STATE_DIR", "RAILBED_NATIVE", "SUDO_UID", "SUDO_GID", "DOCKER_HOST")


def cadence_s() -> float:
    """Seconds between samples: RAILBED_SAMPLE_S, by default one. Raises SpecError."""
    text = os.environ.get(CADENCE_VARIABLE) or str(listening.CADENCE_S)
    with suppress(ValueError):
        if LEAST_CADENCE_S <= float(text) <= MOST_CADENCE_S:
            return float(text)
    raise SpecError(f"{CADENCE_VARIABLE}={text}", allowed=f"seconds, {LEAST_CADENCE_S:g} to {MOST_CADENCE_S:g}")


def begin(
    lab: RenderedLab,
    run_path: Path,
    journal: Journal,
    processes: Entry,
    netns: Callable[[str], Path],
    *,
    engine: str = "",
    labels: Mapping[str, str] | None = None,
) -> None:
    """Start the Recorder of a lab that is about to be made; `processes` is the journal's entry with its start token.

    The nodes need not be there yet, and nobody waits for it: while it starts it yields to whatever else runs.
    """
    timeline = run_dir.write(run_path, TIMELINE, "")
    told = Listening(
        lab=lab.name,
        file=str(timeline),
        nodes={node.name: _node(lab, run_path, node, netns(node.name)) for node in lab.fabric.nodes},
        since_s=time.time(),
        engine=engine,
        labels=dict(labels or {}),
        cadence_s=cadence_s(),
    )
    listening.write(told)
    _start(lab.name, journal, processes)


def has_asic(lab_name: str, ports: Sequence[tuple[str, str]]) -> None:
    """From now on the lab's Recorder samples the soft ASIC: its ports, (node, port), in the order of its maps."""
    with suppress(OSError):
        listening.write(msgspec.structs.replace(listening.read(lab_name), asic=list(ports)))


def revive(lab_name: str) -> bool:
    """Start the Recorder of a running lab again where it does not answer; whether it was started.

    Not while another command changes the lab: the next one will.
    """
    if os.geteuid() != 0 or not listening.path_of(lab_name).exists() or telling.answers(lab_name) is not None:
        return False
    with suppress(LeftoverLab), index.locked(lab_name):
        journal = index.journal(lab_name)
        processes = next((entry for entry in journal.open_entries() if entry.change.undo == "process"), None)
        if processes is not None:
            _start(lab_name, journal, processes)
            return True
    return False


def check_answers(lab_name: str) -> None:
    """Make sure that a Recorder answers, which is started where none does. Raises NotReady."""
    if telling.answers(lab_name) is not None:
        return
    revive(lab_name)
    known = listening.path_of(lab_name).exists()
    waited = wait_until(
        "the Recorder answers",
        lambda: telling.answers(lab_name, within=ASKED_WITHIN_S),
        lambda said: said is not None,
        within=ANSWERS_WITHIN_S if known else 0.0,
    )
    if not waited.held:
        where = f"logs/{LOG} of its run directory says why" if known else ""
        raise NotReady(f"lab {lab_name!r} has no Recorder that answers, which would end a fault in time", remedy=where)


def _start(lab_name: str, journal: Journal, processes: Entry) -> None:
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    log = _log(lab_name)
    child = subprocess.Popen(  # never waited for: it outlives this command, and is ended by the journal's record of it
        ["nice", "-n", "19", sys.executable, "-m", "labs.recorder", lab_name],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=log,
        cwd=Path(__file__).parents[1],
        env={**kept, "PATH": PATH, TOKEN_VARIABLE: str(processes.change.args["token"])},
        start_new_session=True,
    )
    if log != subprocess.DEVNULL:
        os.close(log)
    journal.learned(processes, {"recorder": lab_name, **identity(child.pid)})


def _log(lab_name: str) -> int:
    """Where the Recorder says what went wrong with it; where that cannot be written, nowhere."""
    try:
        return os.open(run_dir.log_of(Path(listening.read(lab_name).file).parent, LOG), os.O_WRONLY | os.O_APPEND)
    except (OSError, msgspec.MsgspecError):
        return subprocess.DEVNULL


def _node(lab: RenderedLab, run_path: Path, node: Node, netns: Path) -> ListenedNode:
    logs = () if lab.foreign else tuple(recipe(lab.spec.kind_of(node)).logs().values())
    ports = lab.fabric.ports(node)
    return ListenedNode(
        netns=str(netns),
        ports={port.name: port.name for port in ports},
        peers=_peers(lab, node) if logs else {},
        log=str(run_path / "logs" / node.name / logs[0]) if logs else "",
    )


def _peers(lab: RenderedLab, node: Node) -> dict[str, str]:
    """The port behind each of a switch's neighbours, as FRR names them."""
    found = {port.name: port.name for port in lab.fabric.ports(node)}
    if lab.spec.bgp.addressing is SessionAddressing.UNNUMBERED:
        return found
    for port in lab.fabric.ports(node):
        far = lab.fabric.link_at(node.name, port.name).far(node.name)
        if lab.fabric.node(far.node).tier is not Tier.HOST:
            for family in (4, 6) if lab.spec.ipv6 else (4,):
                found[str(addressing.port_interface(lab.fabric, far, family).ip)] = port.name
    return found
