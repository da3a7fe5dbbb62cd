"""Faults of the daemons that run a switch: killed, frozen, restarted."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from labs.errors import NotReady, SpecError
from labs.faults.fault import Example, Fault, On, Param, Site, Step
from labs.faults.nodes import check_running
from labs.faults.undoing import Verb
from labs.kinds import driver, software
from labs.lab import Lab
from labs.node import LiveNode
from labs.pid_namespaces import outside
from labs.undo import identity, is_process, kill_until_gone
from labs.waiting import wait_until

DAEMON_RUNS = "daemon-runs"
DAEMON_GOES_ON = "daemon-goes-on"
STARTS_WITHIN = 30.0


def _kill(site: Site) -> Sequence[Step]:
    args = _running(site)
    return [*_unwatched(site), Step(DAEMON_RUNS, args, lambda: _end(args), _claims(args))]


def _restart(site: Site) -> Sequence[Step]:
    args, unwatched = _running(site), _unwatched(site)

    def make() -> None:
        try:
            _end(args)
            runs(site.lab, args)
        finally:
            for step in unwatched:  # the fault is over: nothing is left that would let a supervisor go on
                _goes_on(site.lab, step.args)

    return [*unwatched, Step(DAEMON_RUNS, args, make, _claims(args))]


def _stop(site: Site) -> Sequence[Step]:
    args = _running(site)
    return [*_unwatched(site), Step(DAEMON_GOES_ON, args, partial(_freeze, args), _claims(args))]


def _freeze(args: Mapping[str, Any]) -> None:
    _check_alive(args)
    os.kill(int(args["process"]["pid"]), signal.SIGSTOP)


def _unwatched(site: Site) -> Sequence[Step]:
    """Where a supervisor runs, as in labs of others, it is frozen meanwhile: it would start the daemon by itself."""
    found = software(site.node.kind).supervisor(site.node)
    if found is None:
        return []
    name, inside = found
    pid = outside(site.lab.deployment.netns(site.target), inside, name)
    if pid is None:
        return []
    args = {"node": site.target, "daemon": name, "process": dict(identity(pid))}
    return [Step(DAEMON_GOES_ON, args, partial(_freeze, args), (f"{site.target}/{name}",))]


def _claims(args: Mapping[str, Any]) -> tuple[str, ...]:
    """The daemon, and those that its restart restarts: a fault in one of them would be taken back unseen."""
    return tuple(f"{args['node']}/{name}" for name in (args["daemon"], *args["claimed"]))


def _running(site: Site) -> Mapping[str, Any]:
    """The daemon as it runs: which process, and by which words it was started."""
    node, daemon = site.node, str(site.params["daemon"])
    software(node.kind)
    check_running(site.lab, node.name)
    known = driver(node.kind).daemons(node)
    if daemon not in known:
        raise SpecError(f"daemon={daemon}", allowed=" | ".join(known) or f"none: {node.name} runs no daemons")
    claimed = software(node.kind).restarted_with(daemon)
    others = {name: _pid(site.lab, node, name) for name in claimed if name in known}
    with_it = [as_it_runs(site.lab, node, name) for name, number in others.items() if number is not None]
    return {**as_it_runs(site.lab, node, daemon), "with": with_it, "claimed": list(claimed)}


def as_it_runs(lab: Lab, node: LiveNode, daemon: str) -> dict[str, Any]:
    """A daemon as it runs: how it was started, which process it is, and by which configuration."""
    pid = _pid(lab, node, daemon)
    if pid is None:
        raise NotReady(f"{node.name}: {daemon} does not run")
    argv = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    was = software(node.kind).written(node, daemon)
    if not was:
        raise NotReady(f"{node.name}: {daemon} does not say its configuration, which a restart would lose")
    return {"node": node.name, "daemon": daemon, "argv": argv, "process": dict(identity(pid)), "config": was}


def _pid(lab: Lab, node: LiveNode, daemon: str) -> int | None:
    """The daemon's pid as the workstation counts, by the one it has recorded; None when that one is gone."""
    return outside(lab.deployment.netns(node.name), software(node.kind).pid(node, daemon), daemon)


def _check_alive(args: Mapping[str, Any]) -> None:
    if not is_process(args["process"]):
        raise NotReady(f"{args['node']}: {args['daemon']} has ended by itself")


def _end(args: Mapping[str, Any]) -> None:
    _check_alive(args)
    kill_until_gone(lambda: {int(args["process"]["pid"])} if is_process(args["process"]) else set())


def runs(lab: Lab, args: Mapping[str, Any]) -> None:
    """Start a daemon again by the very words of before, and give it its configuration; one never killed stays.

    Those that are restarted with it come after it, likewise, unless that was done already.
    """
    if is_process(args["process"]):
        return
    check_running(lab, args["node"])
    _start(lab, args)
    for other in args.get("with", ()):
        if is_process(other["process"]):
            _end(other)
        _start(lab, other)


def start_anew(lab: Lab, args: Mapping[str, Any]) -> None:
    """End a daemon and have it again: by its supervisor where one runs, else by `runs`, which a killed one calls."""
    node, daemon = lab.node(args["node"]), args["daemon"]
    _end(args)
    if software(node.kind).supervisor(node) is not None:
        wait_until(
            f"{daemon} runs again", lambda: _pid(lab, node, daemon), lambda pid: pid is not None, within=STARTS_WITHIN
        )
    runs(lab, args)


def _start(lab: Lab, args: Mapping[str, Any]) -> None:
    node, daemon = lab.node(args["node"]), args["daemon"]
    if _pid(lab, node, daemon) is None:
        software(node.kind).clear(node, daemon)
        said = node.channel.run(*args["argv"], timeout=STARTS_WITHIN)
        if not said.ok:
            raise NotReady(f"{node.name}: {daemon} does not start: {(said.stderr + said.stdout).strip()[-300:]}")
    software(node.kind).configure(node, daemon, args["config"])


def _goes_on(lab: Lab, args: Mapping[str, Any]) -> None:
    del lab
    if is_process(args["process"]):
        with suppress(ProcessLookupError):
            os.kill(int(args["process"]["pid"]), signal.SIGCONT)


_DAEMON = Param("daemon", "a daemon of the node, as bgpd, zebra or bfdd", "bgpd")

KILL = Fault(
    name="daemon-kill",
    on=On.SWITCH,
    imitates="a daemon that crashes (KILL, by its recorded pid) and stays dead until the fault is taken back; then it "
    "is started by the words of before and given the configuration of before, also what was never saved. A supervisor "
    "(watchfrr, in labs of others) is frozen meanwhile",
    detected_by="bgpd: its sessions go at once, for the kernel closes them; bfdd: the peers' BFD; zebra: nobody, the "
    "kernel keeps its routes",
    recovers="sessions established; routes as designed; packets lost (none with graceful restart)",
    steps=_kill,
    params=(_DAEMON,),
)
STOP = Fault(
    name="daemon-stop",
    on=On.SWITCH,
    imitates="a daemon that hangs (STOP): its sockets stay open and it answers nobody",
    detected_by="bgpd: the peers' hold time, for BFD is another daemon's; bfdd: the peers' BFD, in its detection time",
    recovers="sessions established; routes as designed",
    steps=_stop,
    params=(_DAEMON,),
)
RESTART = Fault(
    name="daemon-restart",
    on=On.SWITCH,
    imitates="a daemon that crashes and is started again at once, as a supervisor does",
    detected_by="bgpd: sessions that go and come back; zebra: routes that are taken out and put back as it starts",
    recovers="sessions established; routes as designed; packets lost",
    steps=_restart,
    params=(_DAEMON,),
    lasts=False,
)

FAULTS = (KILL, STOP, RESTART)
EXAMPLES: Mapping[str, Example] = {
    "daemon-kill": Example("leaf1", {"daemon": "bgpd"}),
    "daemon-stop": Example("leaf1", {"daemon": "bfdd"}),
    "daemon-restart": Example("leaf1", {"daemon": "bgpd"}),
}
VERBS: Mapping[str, Verb] = {DAEMON_RUNS: runs, DAEMON_GOES_ON: _goes_on}
