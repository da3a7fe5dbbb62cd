"""What loss leaves of a link: the share of its packets that are new, by how a queue pair recovers.

    sender   0 1 2 3 4 5 6 7 8 9 ┊2 3 4 …        W: packets sent from the one that is lost (2) until the NAK is there,
                 x               NAK(2)          that one too: 8 here

Go-back-N sends all W again, selective repeat only the lost one, go-back-0 everything since the message's begin. So with
a chance p of loss each packet costs 1, and each loss W more (1, all before it): (1-p)/(1+p(W-1)), 1-p and
Mp/((1-p)^-M - 1) for messages of M packets. Where every n-th packet is lost, whatever it is, go-back-N has 1 - W/n,
and go-back-0 never ends a message of n packets or more: the livelock of Guo et al., "RDMA over Commodity Ethernet at
Scale", SIGCOMM 2016. Pure.
"""

from __future__ import annotations

import math

from topologies.errors import SpecError


def selective_repeat(loss: float) -> float:
    """The share of new packets when only those that were lost are sent again."""
    return 1 - _chance(loss)


def go_back_n(loss: float, window: float) -> float:
    """The share of new packets when each loss costs `window` packets."""
    return (1 - _chance(loss)) / (1 + loss * (_at_least(window, 1, "window") - 1))


def go_back_0(loss: float, message: int) -> float:
    """The share of new packets when each loss in a message of `message` packets starts it again."""
    if not _chance(loss):
        return 1.0
    return message * loss / math.expm1(-_at_least(message, 1, "message") * math.log1p(-loss))


def go_back_n_periodic(every: int, window: float) -> float:
    """The share of new packets when every `every`-th is lost, and that costs `window`; 0 where nothing gets through."""
    return max(0.0, 1 - _at_least(window, 1, "window") / _at_least(every, 1, "every"))


def _chance(loss: float) -> float:
    if not 0 <= loss < 1:
        raise SpecError(f"loss {loss}", allowed="a probability, 0 to below 1")
    return loss


def _at_least(value: float, least: float, word: str) -> float:
    if not value >= least:
        raise SpecError(f"{word} {value}", allowed=f"{least} or more")
    return value
