"""What a scenario asks of its lab, found before anything starts: hosts, ranks, targets, a soft ASIC, BFD."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from labs.errors import SpecError, Where
from labs.faults import catalogue, injecting
from labs.faults.fault import check_sender, check_target
from labs.probing import probed_hosts
from labs.scenarios.scenario import ClaimStep, FaultStep, LoadStep, ProbeStep, Scenario, Step, TrafficStep
from labs.scenarios.words import CLAIMS
from labs.spec import NO_PROFILE, Bgp
from labs.verdicts.outage import ends_of
from topologies import addressing
from topologies.fabric import Fabric
from traffic.operations import operation
from traffic.patterns import pattern


def check_on_lab(step: Step, scenario: Scenario, fabric: Fabric, bgp: Bgp, plays: str) -> None:
    """Refuse what this lab has not: hosts, ranks, targets, a soft ASIC, BFD. Raises SpecError without a place."""
    if isinstance(step, ClaimStep):
        _check_claim(step, scenario, fabric, bgp, plays)
    if isinstance(step, LoadStep):
        _check_load(step, fabric, plays)
    if isinstance(step, TrafficStep):
        _check_traffic(step, fabric)
    if isinstance(step, ProbeStep):
        with _at("around"):
            fabric.link(step.around)
    if isinstance(step, FaultStep):
        _check_fault(step, fabric)


def _check_claim(step: ClaimStep, scenario: Scenario, fabric: Fabric, bgp: Bgp, plays: str) -> None:
    word = CLAIMS[step.claim]
    if word.soft_asic and plays == NO_PROFILE:
        allowed = "a claim that needs no soft ASIC, or a profile"
        raise SpecError(f"found {step.claim} on a lab that plays no profile", allowed=allowed)
    if "worst" in step.words:
        with _at("worst"):
            _check_host(step.words["worst"], fabric)
    if step.words.get("protocol") == "bfd" and bgp.bfd is None:
        allowed = "bgp, or a lab with it: bgp: {bfd: {interval_ms: 300, multiplier: 3}}"
        raise SpecError("found bfd on a lab without BFD", allowed=allowed, where=Where(key="protocol"))
    if word.probed:
        _check_probed(step, scenario, fabric)


def _check_probed(step: ClaimStep, scenario: Scenario, fabric: Fabric) -> None:
    """Refuse a claim on a fault at a host that no probe goes to: it could not see it."""
    fault = next(one for one in scenario.steps if isinstance(one, FaultStep) and one.name == step.of)
    went_to = probed_hosts(fabric)
    for name in ends_of(fault.target):
        if name not in went_to and name in {host.name for host in fabric.hosts}:
            found = f"found {step.of!r} on {fault.target}: no probe goes to {name}"
            allowed = f"a fault between switches, or on one of {', '.join(went_to)}"
            raise SpecError(found, allowed=allowed, where=Where(key="of"))


def _check_traffic(step: TrafficStep, fabric: Fabric) -> None:
    hosts = step.hosts or tuple(host.name for host in fabric.hosts)
    with _at("hosts"):
        for name in hosts:
            _check_host(name, fabric)
    with _at("pattern"):
        pattern(step.pattern, step.algorithm)
    ranks = sum(len(addressing.nics(fabric, name)) for name in hosts) if not step.hosts else len(hosts)
    with _at("size"):
        operation(step.pattern, ranks, size=step.size, algorithm=step.algorithm)


def _check_load(step: LoadStep, fabric: Fabric, plays: str) -> None:
    if plays == NO_PROFILE:
        raise SpecError("found load on a lab that plays no profile", allowed="a profile: queues are what is measured")
    for key, names in (("hosts", step.hosts), ("sink", (step.sink,))):
        with _at(key):
            for name in names:
                _check_host(name, fabric)
    if step.sink in step.hosts or len(set(step.hosts)) < len(step.hosts):
        raise SpecError(f"found {', '.join(step.hosts)} to {step.sink}", allowed="each host once, and another sink")


def _check_host(name: str, fabric: Fabric) -> None:
    if fabric.node(name).is_switch:
        raise SpecError(f"found {name!r}", allowed="hosts")


def _check_fault(step: FaultStep, fabric: Fabric) -> None:
    """Refuse a fault that the catalogue or this fabric does not have; what else a lab refuses, it does when asked."""
    with _at("fault"):
        fault = catalogue.fault(step.fault)
    if step.for_s is not None and step.for_s < injecting.LEAST_S:
        raise SpecError(f"found {step.for_s:g} s", allowed=injecting.DURATION_RULE, where=Where(key="for"))
    with _at("params"):
        fault.read_params(step.params)
    with _at("target"):
        check_target(fault, step.target, fabric)
    with _at("from"):
        check_sender(fault, step.target, step.sender, fabric)


@contextmanager
def _at(key: str) -> Iterator[None]:
    """Errors inside are about this key."""
    try:
        yield
    except SpecError as error:
        raise SpecError(error.found, allowed=error.allowed, where=Where(key=key)) from None
