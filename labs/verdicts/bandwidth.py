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
