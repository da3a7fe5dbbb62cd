"""Traffic on a running lab: plans go in, reports come out. The engines themselves know nothing of labs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from labs.lab import Lab
from topologies import addressing
from traffic.engines.base import Engine, RunningTraffic
from traffic.engines.iperf3 import Iperf3
from traffic.flows import TrafficPlan, TrafficReport


class LabTraffic:
    """What the `traffic` fixture gives. Whatever still runs when `stack` is closed is ended with it."""

    def __init__(self, lab: Lab, stack: ExitStack, engine: Engine | None = None) -> None:
        self._lab = lab
        self._stack = stack
        self._engine = engine or Iperf3(addresses=self.address)

    def address(self, host: str, nic: int, family: int) -> str:
        """The address of a host's card."""
        return str(addressing.host_address(self._lab.fabric, host, nic, family))

    def start(self, plan: TrafficPlan) -> RunningTraffic:
        """Start a plan; returns once every flow is sending."""
        running = self._engine.start(plan, self._lab.nodes)
        self._stack.callback(running.stop)
        return running

    def run(self, plan: TrafficPlan, timeout: float = 60.0) -> TrafficReport:
        """Send a plan to its end, at most `timeout` seconds."""
        return self.start(plan).finish(timeout * self._lab.timeout_scale)

    @contextmanager
    def running(self, plan: TrafficPlan) -> Iterator[RunningTraffic]:
        """Send a plan for the length of a block, which may ask it to finish; what is left of it then ends."""
        running = self.start(plan)
        try:
            yield running
        finally:
            running.stop()
