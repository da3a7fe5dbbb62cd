"""Traffic on a running lab: plans and collectives go in, reports come out. The engines themselves know no labs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, overload

from labs.errors import RunInvalid
from labs.lab import Lab
from topologies import addressing
from traffic.engines.base import Engine, RunningTraffic
from traffic.engines.crafted_bursts import Crafted, CraftedBurst, PauseBurst
from traffic.engines.iperf3 import Iperf3
from traffic.flows import TrafficPlan, TrafficReport

if TYPE_CHECKING:
    from labs.collective_traffic import CollectiveResult, RunningCollective
    from traffic.engines.crafted_counts import CraftedResult
    from traffic.engines.crafted_sending import RunningBursts
    from traffic.operations import Operation

RUN_S = 60.0


class LabTraffic:
    """What the `traffic` fixture gives. Whatever still runs when `stack` is closed is ended with it.

    A `TrafficPlan` is played by iperf3, or the engine that was given; an `Operation` by rnic, whose settings are
    further arguments (`labs.collective_traffic.running`); a crafted burst by scapy, `rate_bps=` of the wire.
    """

    def __init__(self, lab: Lab, stack: ExitStack, engine: Engine | None = None) -> None:
        self._lab = lab
        self._stack = stack
        self._engine = engine or Iperf3(addresses=self.address)

    def address(self, host: str, nic: int, family: int) -> str:
        """The address of a host's card."""
        return str(addressing.host_address(self._lab.fabric, host, nic, family))

    def end_all(self) -> None:
        """End whatever was started and still runs."""
        self._stack.close()

    @overload
    def start(self, plan: TrafficPlan) -> RunningTraffic: ...
    @overload
    def start(self, plan: Crafted, **how: Any) -> RunningBursts: ...
    @overload
    def start(self, plan: Operation, **how: Any) -> RunningCollective: ...
    def start(
        self, plan: TrafficPlan | Crafted | Operation, **how: Any
    ) -> RunningTraffic | RunningBursts | RunningCollective:
        """Start a plan, a burst or an operation; returns once every flow is sending, every receiver ready."""
        if isinstance(plan, CraftedBurst | PauseBurst):
            return self._bursting((plan,), how)
        if not isinstance(plan, TrafficPlan):
            return self._stack.enter_context(_running(self._lab, plan, how))
        running = self._engine.start(plan, self._lab.nodes)
        self._stack.callback(running.stop)
        return running

    @overload
    def run(self, plan: TrafficPlan, timeout: float = RUN_S) -> TrafficReport: ...
    @overload
    def run(self, plan: Crafted, timeout: float = RUN_S, **how: Any) -> CraftedResult: ...
    @overload
    def run(self, plan: Operation, timeout: float | None = None, **how: Any) -> CollectiveResult: ...
    def run(
        self, plan: TrafficPlan | Crafted | Operation, timeout: float | None = None, **how: Any
    ) -> TrafficReport | CraftedResult | CollectiveResult:
        """Send a plan or a burst to its end, at most `timeout` seconds; play an operation once untimed and once timed.

        `timeout`: by default 60 s for a plan or a burst, 20 times what the wire needs and no less than 30 s for an
        operation.
        """
        if isinstance(plan, CraftedBurst | PauseBurst):
            return self.send(plan, timeout=RUN_S if timeout is None else timeout, **how)
        if isinstance(plan, TrafficPlan):
            return self.start(plan).finish((RUN_S if timeout is None else timeout) * self._lab.timeout_scale)
        with _running(self._lab, plan, {"iterations": 1, "warmup": 1, **how}) as running:
            return running.finish(timeout)

    def send(self, *bursts: Crafted, timeout: float = RUN_S, **how: Any) -> CraftedResult:
        """Send crafted bursts, all at the same time, and count what comes: ``send(ecn_probe("host1", "host3"))``.

        `rate_bps=` is of each burst on the wire. All is sent within `timeout` seconds; what comes 2 s later is lost.
        Raises RunInvalid when a receiver had no room for what came, TrafficError for a host where it does not start.
        """
        result = self._bursting(bursts, how).finish(timeout * self._lab.timeout_scale)
        if result.invalid_because:
            raise RunInvalid(result.invalid_because)
        return result

    @overload
    def running(self, plan: TrafficPlan) -> AbstractContextManager[RunningTraffic]: ...
    @overload
    def running(self, plan: Crafted, **how: Any) -> AbstractContextManager[RunningBursts]: ...
    @overload
    def running(self, plan: Operation, **how: Any) -> AbstractContextManager[RunningCollective]: ...
    def running(
        self, plan: TrafficPlan | Crafted | Operation, **how: Any
    ) -> (
        AbstractContextManager[RunningTraffic]
        | AbstractContextManager[RunningBursts]
        | AbstractContextManager[RunningCollective]
    ):
        """Send a plan or a burst, or play an operation over and over, for a block, which may ask it to finish."""
        if isinstance(plan, CraftedBurst | PauseBurst):
            return _ending(self._bursting((plan,), how))
        if isinstance(plan, TrafficPlan):
            return _ending(self.start(plan))
        return _running(self._lab, plan, how)

    def _bursting(self, bursts: tuple[Crafted, ...], how: dict[str, Any]) -> RunningBursts:
        from labs import crafted_bridge  # scapy comes with it: others should not wait for that

        running = crafted_bridge.start(self._lab, bursts, **how)
        self._stack.callback(running.stop)
        return running


def _running(lab: Lab, operation: Operation, how: dict[str, Any]) -> AbstractContextManager[RunningCollective]:
    from labs.collective_traffic import running  # numpy comes with it: plans of flows should not wait for that

    return running(lab, operation, **how)


Sent = TypeVar("Sent", "RunningTraffic", "RunningBursts")


@contextmanager
def _ending(running: Sent) -> Iterator[Sent]:
    try:
        yield running
    finally:
        running.stop()
