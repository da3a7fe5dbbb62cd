"""Did traffic come to its end, whole? Neither is a question of time: a slow workstation ends later, not wrongly."""

from __future__ import annotations

from labs.verdicts import Evidence, Fidelity, Verdict


def came_to_its_end(name: str, *, error: str | None, wrong: int | None, iterations: int) -> Verdict:
    """Judge that every rank came to its end, at least once, and every element that it ended with is right.

    Bound: no error, 0 wrong elements. Invalid when nothing was checked although nothing failed: that proves no sum.

    Args:
        error: what failed, with flow and hosts; None when nothing did.
        wrong: elements that are not what they should be; None when none was looked at.
        iterations: how often all ranks were done.
    """
    verdict = Verdict(
        f"{name} comes to its end, every element right",
        error is None and wrong == 0 and iterations > 0,
        Evidence(
            error or f"{iterations} iterations, {wrong} elements wrong", {"iterations": iterations, "wrong": wrong}
        ),
        fidelity=Fidelity.REAL,
    )
    return verdict.invalid("its elements were not checked") if error is None and wrong is None else verdict


def no_packet_lost(name: str, *, lost: int, retransmits: int, starved: bool) -> Verdict:
    """Judge that none of a collective's packets was lost.

    Bound: 0. A workstation that starved may lose packets that a switch would not: then loss proves nothing.
    """
    verdict = Verdict(
        f"no packet of {name} is lost",
        lost == 0,
        Evidence(f"{lost} packets lost, {retransmits} sent again", {"lost": lost, "retransmits": retransmits}),
        fidelity=Fidelity.EMULATED,
    )
    return verdict.invalid("packets were lost while the workstation was starved") if lost and starved else verdict
