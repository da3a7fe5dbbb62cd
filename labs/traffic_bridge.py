"""Traffic on a running lab: plans and collectives go in, reports come out. The engines themselves know no labs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, overload

from labs.lab import Lab
from topologies import addressing
from traffic.engines.base import Engine, RunningTraffic
from traffic.engines.iperf3 import Iperf3
from traffic.flows import TrafficPlan, TrafficReport

if TYPE_CHECKING:
    from labs.collective_traffic import CollectiveResult, RunningCollective
    from traffic.operations import Operation

RUN_S = 60.0


class LabTraffic:
    """What the `traffic` fixture gives. Whatever still runs when `stack` is closed is ended with it.

    A `TrafficPlan` is played by iperf3, or the engine that was given; an `Operation` by rnic, whose settings are
    further arguments (`labs.collective_traffic.running`).
    """

    def __init__(self, lab: Lab, stack: ExitStack, engine: Engine | None = None) -> None:
        self._lab = lab
        self._stack = stack
        self._engine = engine or Iperf3(addresses=self.address)

    def address(self, host: str, nic: int, family: int) -> str:
        """The address of a host's card."""
        return str(addressing.host_address(self._lab.fabric, host, nic, family))

    @overload
    def start(self, plan: TrafficPlan) -> RunningTraffic: ...
    @overload
    def start(self, plan: Operation, **how: Any) -> RunningCollective: ...
    def start(self, plan: TrafficPlan | Operation, **how: Any) -> RunningTraffic | RunningCollective:
        """Start a plan or an operation; returns once every flow is sending."""
        if not isinstance(plan, TrafficPlan):
            return self._stack.enter_context(_running(self._lab, plan, how))
        running = self._engine.start(plan, self._lab.nodes)
        self._stack.callback(running.stop)
        return running

    @overload
    def run(self, plan: TrafficPlan, timeout: float = RUN_S) -> TrafficReport: ...
    @overload
    def run(self, plan: Operation, timeout: float | None = None, **how: Any) -> CollectiveResult: ...
    def run(
        self, plan: TrafficPlan | Operation, timeout: float | None = None, **how: Any
    ) -> TrafficReport | CollectiveResult:
        """Send a plan to its end, at most `timeout` seconds; play an operation once untimed and once timed.

        `timeout`: by default 60 s for a plan, 20 times what the wire needs and no less than 30 s for an operation.
        """
        if isinstance(plan, TrafficPlan):
            return self.start(plan).finish((RUN_S if timeout is None else timeout) * self._lab.timeout_scale)
        with _running(self._lab, plan, {"iterations": 1, "warmup": 1, **how}) as running:
            return running.finish(timeout)

    @overload
    def running(self, plan: TrafficPlan) -> AbstractContextManager[RunningTraffic]: ...
    @overload
    def running(self, plan: Operation, **how: Any) -> AbstractContextManager[RunningCollective]: ...
    def running(
        self, plan: TrafficPlan | Operation, **how: Any
    ) -> AbstractContextManager[RunningTraffic] | AbstractContextManager[RunningCollective]:
        """Send a plan, or play an operation over and over, for the length of a block, which may ask it to finish."""
        if isinstance(plan, TrafficPlan):
            return self._sending(plan)
        return _running(self._lab, plan, how)

    @contextmanager
    def _sending(self, plan: TrafficPlan) -> Iterator[RunningTraffic]:
        running = self.start(plan)
        try:
            yield running
        finally:
            running.stop()


def _running(lab: Lab, operation: Operation, how: dict[str, Any]) -> AbstractContextManager[RunningCollective]:
    from labs.collective_traffic import running  # numpy comes with it: plans of flows should not wait for that

    return running(lab, operation, **how)
