"""What is to be said of a collective that did not come to its end on a lab: which hosts are down, whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from labs import index
from labs.backends.base import NodeState
from labs.errors import LabError, RailbedError
from labs.lab import Lab, adopt_lab
from topologies.errors import SpecError
from traffic.errors import TrafficError


def explained(lab: Lab, hosts: Sequence[str], because: str) -> str:
    """Why something failed, behind those of its hosts that are stopped or paused: they explain the rest."""
    with suppress(LabError):
        states = lab.deployment.states()
        down = [f"{host} is {states[host]}" for host in dict.fromkeys(hosts) if states[host] is not NodeState.RUNNING]
        return "; ".join([*down, because])
    return because


def check_running(lab: Lab, hosts: Sequence[str]) -> None:
    """Raise TrafficError for hosts that are stopped or paused: nothing is started then."""
    states = lab.deployment.states()
    down = [f"{host} is {states[host]}" for host in dict.fromkeys(hosts) if states[host] is not NodeState.RUNNING]
    if down:
        raise TrafficError(f"{', '.join(down)}: no flow can be from or to it; railbed status {lab.name} shows it")


def check_hosts(lab: Lab, hosts: Sequence[str]) -> None:
    """Raise SpecError for hosts this lab has not, with the running lab that has them: labs never meet."""
    own = [node.name for node in lab.fabric.hosts]
    for host in hosts:
        if host in own:
            continue
        others = [f"lab {name} has a {host}" for name in _other_labs(lab) if host in _hosts_of(name)]
        found = f"no host {host} in lab {lab.name}" + (f" ({', '.join(others)}; labs never meet)" if others else "")
        raise SpecError(found, allowed=_few(own))


def _other_labs(lab: Lab) -> list[str]:
    return [name for name in index.names() if name != lab.name]


def _hosts_of(name: str) -> list[str]:
    with suppress(RailbedError, OSError):
        return [node.name for node in adopt_lab(name).fabric.hosts]
    return []


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f", … {names[-1]}" if len(names) > 8 else "")
