"""A scenario under way: what runs, what is broken, and what has come of it so far."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from labs import probing
from labs.certifying import Certifying
from labs.collective_traffic import CollectiveResult, RunningCollective
from labs.faults import catalogue, injecting
from labs.lab import Lab
from labs.recovery_bridge import tell_probed
from labs.scenarios.loads import Loaded
from labs.scenarios.scenario import FaultStep, ProbeStep, Scenario, TrafficStep
from labs.telemetry.live import LiveTimeline
from labs.telemetry.timeline import Timeline
from labs.traffic_bridge import LabTraffic
from topologies import addressing
from topologies.fabric import Fabric
from traffic.engines.rc_settings import RcSettings
from traffic.operations import Operation, operation


@dataclass
class Underway:
    """A run of a scenario. `stack` ends what still runs and takes faults back, whatever ends the run."""

    lab: Lab
    scenario: Scenario
    seed: int
    stack: ExitStack
    watch: Certifying
    began: float = field(default_factory=time.monotonic)
    running: dict[str, RunningCollective] = field(default_factory=dict)
    results: dict[str, CollectiveResult] = field(default_factory=dict)
    loads: dict[str, Loaded] = field(default_factory=dict)
    faults: dict[str, injecting.Injected] = field(default_factory=dict)
    probes: dict[str, probing.Probe] = field(default_factory=dict)
    probed: dict[str, tuple[probing.ProbeFlow, ...]] = field(default_factory=dict)
    began_ns: int = field(default_factory=time.monotonic_ns)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the first step."""
        return time.monotonic() - self.began

    def without(self, names: tuple[str, ...]) -> Fabric:
        """The design without the links and nodes that these faults are on."""
        sites = [self.faults[name].site for name in names]
        gone = [site.link or site.node.node for site in sites]
        return self.lab.fabric.without(*gone)

    def start(self, step: TrafficStep) -> RunningCollective:
        """Start traffic; it is ended with the run at the latest."""
        settings = RcSettings(seed=self.seed)
        if step.dscp is not None:
            settings = replace(settings, dscp=step.dscp)
        if step.timeout_s is not None:
            settings = replace(settings, timeout_s=step.timeout_s)
        run = LabTraffic(self.lab, self.stack).start(
            operation_of(step, self.lab.fabric), iterations=step.iterations, warmup=step.warmup, settings=settings
        )
        self.running[step.name] = run
        return run

    def probe(self, step: ProbeStep) -> None:
        """Start to probe around a link."""
        flows = probing.around(self.lab, step.around)
        self.probes[step.name] = self.stack.enter_context(probing.start(self.lab, flows, step.pps))

    def end_probe(self, name: str) -> None:
        """End a probe, and put what it saw into the timeline. Raises RunInvalid where its Recorder does not take it."""
        probe = self.probes.pop(name)
        tell_probed(self.lab.name, probing.records(self.lab.fabric, probe.flows, probe.report()), name)
        self.probed[name] = probe.flows

    def timeline(self) -> Timeline:
        """What happened since the run began. Raises NotReady where no Recorder answers."""
        return LiveTimeline(self.lab.name, self.lab.run_dir, self.began_ns).read()

    def finish(self, name: str) -> CollectiveResult:
        """Wait for the end of traffic, and keep what became of it."""
        self.results[name] = result = self.running.pop(name).finish()
        return result

    def inject(self, step: FaultStep) -> injecting.Injected:
        """Make a fault; it is taken back with the run at the latest."""
        made = injecting.add(
            self.lab,
            catalogue.fault(step.fault),
            step.target,
            step.params,
            sender=step.sender,
            for_s=step.for_s,
            held=step.for_s is None,
        )
        self.stack.callback(injecting.revert, self.lab, made.id, missing_ok=True)
        self.faults[step.name] = made
        return made

    def revert(self, name: str) -> None:
        """Take a fault back."""
        injecting.revert(self.lab, self.faults[name].id, missing_ok=True)

    def faulted(self, node: str) -> bool:
        """Whether a fault of this run is on a node now."""
        on = [name for name, made in self.faults.items() if made.site.live is not None and made.target == node]
        return not all(self.gone(name) for name in on)

    def gone(self, name: str) -> bool:
        """Whether a fault has been taken back, by whomever."""
        return self.faults[name].id not in {one.id for one in injecting.active_faults(self.lab.name)}


def operation_of(step: TrafficStep, fabric: Fabric) -> Operation:
    """What a step plays: on the hosts that it names, else on every card. Raises SpecError."""
    cards = sum(len(addressing.nics(fabric, host.name)) for host in fabric.hosts)
    return operation(step.pattern, step.hosts or cards, size=step.size, algorithm=step.algorithm)
