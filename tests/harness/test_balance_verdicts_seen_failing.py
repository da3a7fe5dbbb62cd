"""The judges of load balancing are seen holding, false and INVALID, on reports that a run could have written."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from labs.errors import RunInvalid
from labs.telemetry.samples import HostSample
from labs.verdicts import Verdict
from labs.verdicts.balance import completion, in_order
from traffic.engines.rnic import RawFlow, RawReport, RawResult
from traffic.engines.rnic_report import Delays, RawReceived, RawSent, ReceiverReport
from traffic.flows import FiveTuple, Transport

WELL = HostSample(2.0, steal=0.0, starved_s=0.0001)
LATE = HostSample(2.0, steal=0.0, starved_s=0.9)
GAP_S = 0.006
FLOW = RawFlow("host1", "host3", FiveTuple("10.0.0.1", "10.0.0.3", Transport.UDP, 50_000, 4791))
ZEROS: dict[str, Any] = {"paced_ok": True, "paced_because": None, "error": None, "mean_judged": True, "dscp": {}}


def result(*, packets: int = 40_000, lost: int = 0, reordered: int = 0, ended_s: float = 2.0) -> RawResult:
    """A flow that began at second 1 of the workstation's clock."""
    sent = RawSent(**{one.name: ZEROS.get(one.name, 0) for one in fields(RawSent)})
    got = RawReceived(
        **{
            **{one.name: ZEROS.get(one.name, 0) for one in fields(RawReceived)},
            "src": "10.0.0.1",
            "delay_ns": Delays(0, 0, 0, 0, 0),
            "packets": packets - lost,
            "reordered": reordered,
            "last_ns": round((1 + ended_s) * 1e9),
        }
    )
    return RawResult(FLOW, replace(sent, packets=packets, first_ns=10**9, last_ns=2 * 10**9), got)


def report(*results: RawResult, overflow: int = 0) -> RawReport:
    return RawReport(results, {}, {"host3": ReceiverReport(0, 0, "stopped", 0, 0, 0, overflow, 0, 0, ())})


def invalid(verdict: Verdict) -> str:
    with pytest.raises(RunInvalid):
        bool(verdict)
    return str(verdict)


def test_packets_that_keep_their_order() -> None:
    assert in_order(report(result(), result(reordered=3)), gap_s=GAP_S, host=WELL)


def test_packets_that_do_not() -> None:
    """8 of 80 000 are 1e-4: not fewer."""
    verdict = in_order(report(result(), result(reordered=8)), gap_s=GAP_S, host=WELL)
    assert not verdict
    assert "8 of 80000 packets" in str(verdict)


@pytest.mark.parametrize(
    ("results", "host", "said"),
    [
        ((result(packets=29_999),), WELL, "29999 packets came, 30000 are needed"),
        ((), WELL, "0 packets came"),
        ((result(lost=1),), WELL, "1 packets were lost"),
        ((result(reordered=400),), LATE, "a thread woke 900.0 ms late; the gap is 6 ms"),
        ((result(reordered=400),), None, "nobody watched"),
    ],
)
def test_an_order_that_nobody_can_vouch_for(results: tuple[RawResult, ...], host: HostSample | None, said: str) -> None:
    assert said in invalid(in_order(report(*results), gap_s=GAP_S, host=host))


def test_order_that_was_kept_on_a_starved_workstation_was_kept() -> None:
    assert in_order(report(result()), gap_s=GAP_S, host=LATE)


def test_bytes_that_are_there_in_time() -> None:
    assert completion(report(result(ended_s=1.0), result(ended_s=1.14)), ideal_s=1.0, host=WELL)


def test_bytes_that_are_late() -> None:
    """The last flow counts, not the mean."""
    verdict = completion(report(result(ended_s=0.5), result(ended_s=1.16)), ideal_s=1.0, host=WELL)
    assert not verdict
    assert "took 1.160 s, 1.160 of the ideal" in str(verdict)


def test_bytes_that_never_come() -> None:
    assert not completion(report(result(lost=1, ended_s=1.0)), ideal_s=1.0, host=WELL)


def test_a_time_that_nobody_can_vouch_for() -> None:
    assert "no flows" in invalid(completion(report(), ideal_s=1.0, host=WELL))
    assert "starved" in invalid(completion(report(result(ended_s=1.0)), ideal_s=1.0, host=LATE))
    robbed = HostSample(2.0, steal=0.05, starved_s=0.0001, steal_worst=0.08)
    assert "8.0% of a CPU was stolen" in invalid(completion(report(result(ended_s=1.2)), ideal_s=1.0, host=robbed))
    assert not completion(report(result(ended_s=1.3)), ideal_s=1.0, host=robbed)
