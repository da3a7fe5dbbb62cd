"""Loss recovery on a real fabric: what 1/256 of loss leaves of a link, by go-back-N, selective repeat, go-back-0.

    host1 ──► leaf1 ──► host2      100 Mbit/s of 4096-byte packets, 334 µs each; the wire into host2 loses

W, the packets sent from the lost one until its NAK is there, is the round trip in packets: 2 · 10 ms held at the hosts
make it 60, and what the hosts and the switch take comes on top. It is measured (`sent_past`), not assumed. Random loss:
four messages of 4096 packets, some 20 000 sent and 80 lost. Deterministic: every 256th packet, whatever it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from labs.congestion_bridge import recovered
from labs.dataplane.asic import SoftAsic
from labs.dataplane.wires import Impairment
from labs.lab import Lab
from labs.testing import MBIT
from labs.verdicts.recovery import goodput_share, livelock
from traffic import loss_recovery
from traffic.engines.rc_settings import RcSettings, Recovery

pytestmark = [pytest.mark.lab("pair", profile="roce_default"), pytest.mark.valid_of(3)]

EVERY = 256
PACKETS = 4096
RATE = 100 * MBIT
ENDS = ("host1", "host2")
MESSAGES = 4
# The window holds W four times; a time-out, for a loss at the very end, is ten round trips.
HELD = RcSettings(mtu=4096, window=256, delay_s=0.01, timeout_s=0.2, retries=100)
LIVELOCK_S = 6.0  # a message takes 1.4 s without loss, and with go-back-N and this loss 1.8

Lose = Callable[[Impairment], None]
Note = Callable[[object], None]


@pytest.fixture
def lose(asic: SoftAsic) -> Iterator[Lose]:
    """What happens on the wire into host2, until the test's end."""
    yield lambda wrong: asic.impair("host2", "eth1", wrong)
    asic.impair("host2", "eth1", Impairment())


def settings(recovery: Recovery) -> RcSettings:
    return replace(HELD, recovery=recovery)


@pytest.mark.parametrize("recovery", [Recovery.GO_BACK_N, Recovery.SELECTIVE_REPEAT])
def test_random_loss_costs_what_theory_says(lab: Lab, lose: Lose, note: Note, recovery: Recovery) -> None:
    """1/256 at random: go-back-N (1-p)/(1+p(W-1)), selective repeat 1-p, each within 10 %."""
    lose(Impairment(lose=1 / EVERY))
    run = recovered(lab, ENDS, settings(recovery), packets=PACKETS, messages=MESSAGES, rate_bps=RATE)
    if recovery is Recovery.GO_BACK_N:
        assert run.sent_past is not None
        predicted = loss_recovery.go_back_n(1 / EVERY, run.sent_past)
    else:
        predicted = loss_recovery.selective_repeat(1 / EVERY)
    verdict = goodput_share(run, predicted)
    note(verdict)
    assert verdict


def test_every_256th_lost(lab: Lab, lose: Lose, note: Note) -> None:
    """Every 256th: go-back-N has 1 - W/256 within 10 %; go-back-0 completes no message of 4096 packets."""
    lose(Impairment(every=EVERY))
    run = recovered(lab, ENDS, settings(Recovery.GO_BACK_N), packets=PACKETS, messages=MESSAGES, rate_bps=RATE)
    assert run.sent_past is not None
    verdict = goodput_share(run, loss_recovery.go_back_n_periodic(EVERY, run.sent_past))
    note(verdict)
    assert verdict
    stuck = recovered(
        lab, ENDS, settings(Recovery.GO_BACK_0), packets=PACKETS, messages=1, rate_bps=RATE, within=LIVELOCK_S
    )
    verdict = livelock(stuck)
    note(verdict)
    assert verdict


def test_a_short_message_ends_by_go_back_0_too(lab: Lab, lose: Lose, note: Note) -> None:
    """Control: what the livelock's verdict says is false for messages that are shorter than 256 packets."""
    lose(Impairment(every=EVERY))
    run = recovered(lab, ENDS, settings(Recovery.GO_BACK_0), packets=128, messages=64, rate_bps=RATE)
    verdict = livelock(run)
    note(verdict)
    assert run.done == run.posted
    assert not verdict.held
