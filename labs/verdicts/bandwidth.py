"""Does a collective reach what its wires allow?

busbw is what the slowest link of a ring would have to carry, so it compares with a link's rate; of that a packet's
headers, preamble and gap take their part (`traffic.bounds.wire_efficiency`). What is left is reached when nobody
waits: 1 is as fast as can be, and more than that would be an error of the measurement. NCCL's own tests call a busbw
below 0.90 of what it should be a failure (NCCL_TESTS_MIN_BW); so is it here.
"""

from __future__ import annotations

from collections.abc import Mapping

from labs.verdicts import Evidence, Fidelity, Verdict


def busbw_reached(
    ratio: float | None,
    *,
    least: float = 0.90,
    name: str = "the collective",
    error: str | None = None,
    invalid_because: str | None = None,
    numbers: Mapping[str, object] | None = None,
) -> Verdict:
    """Bus bandwidth is at least `least` of line rate × wire efficiency, and at most all of it.

    Args:
        ratio: bus bandwidth over line rate × wire efficiency; None when the collective did not come to its end.
        error: why it did not.
        invalid_because: why the run cannot vouch for its times, None when it can. What did not come to its end is
            false all the same: that is no question of time.
        numbers: what else belongs into the evidence.
    """
    claim = f"{name} reaches {least:.2f} of line rate × wire efficiency"
    if ratio is None:
        said = f"it did not come to its end: {error or 'stopped before'}"
        return Verdict(claim, False, Evidence(said, dict(numbers or {})), fidelity=Fidelity.EMULATED)
    said = f"busbw is {ratio:.3f} of line rate × wire efficiency"
    found = {"busbw_ratio": round(ratio, 4), "least": least, **(numbers or {})}
    verdict = Verdict(claim, least <= ratio <= 1.0, Evidence(said, found), fidelity=Fidelity.EMULATED)
    return verdict.invalid(invalid_because) if invalid_because else verdict


def busbw_scaled(
    whole: float | None,
    part: float | None,
    *,
    share: float,
    within: float = 0.05,
    invalid_because: str | None = None,
    numbers: Mapping[str, object] | None = None,
) -> Verdict:
    """Bus bandwidth with a link at a share of its rate is that share of what it is without (F3, V24).

    A ring's ranks wait for each other, so that all run at its slowest link's rate: busbw = f · B. Both runs lose the
    same few packets' time a step to the links behind the first, of which all but one keep their rate: a ring of n ranks
    with m packets a step and h hops takes (m + h) packets' time whole and (m/f + h) degraded, so the quotient is above
    f by no more than h/m of 1 − f. 5 % is V24's bound; it asks for m of 20 h or more at a small f.

    Args:
        whole: bus bandwidth without the fault, in any unit; None when that run did not come to its end.
        part: with it, in the same unit.
        share: the link's rate with the fault over its rate without.
        invalid_because: why one of the runs cannot vouch for its times.
    """
    claim = f"busbw is {share:g} of what it is without the fault, within {within:.0%}"
    if whole is None or part is None or whole <= 0:
        said = f"the run {'without' if not whole else 'with'} the fault did not come to its end"
        return Verdict(claim, False, Evidence(said, dict(numbers or {})), fidelity=Fidelity.EMULATED)
    ratio = part / whole
    found = {"ratio": round(ratio, 4), "share": share, "within": within, **(numbers or {})}
    verdict = Verdict(
        claim,
        abs(ratio / share - 1) <= within,
        Evidence(f"busbw is {ratio:.3f} of what it is without, {ratio / share - 1:+.1%} off", found),
        fidelity=Fidelity.EMULATED,
    )
    return verdict.invalid(invalid_because) if invalid_because else verdict
