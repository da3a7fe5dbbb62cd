"""A scenario out of the faults that somebody made by hand, from the timeline of the lab they were made on. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from labs.errors import SpecError
from labs.spec import to_yaml
from labs.telemetry.records import FaultEvent

LEAD_S = 1.0
BACK_WITHIN_S = 60
MOST_S = 3600.0
NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Made:
    """A fault of a timeline, in seconds since the first one; `ended_s` None for one that is still there."""

    fault: str
    target: str
    sender: str | None
    params: Mapping[str, str]
    began_s: float
    ended_s: float | None

    @property
    def end_s(self) -> float:
        """When it ended; never counts as now."""
        return self.began_s if self.ended_s is None else self.ended_s


def made_by_hand(events: Iterable[FaultEvent]) -> tuple[Made, ...]:
    """The faults of a timeline in their order, those that failed left out."""
    begun: dict[str, FaultEvent] = {}
    ended: dict[str, int] = {}
    for event in events:
        if event.phase == "made":
            begun[event.id] = event
        elif event.phase == "reverted":
            ended[event.id] = event.t
    first = min((event.t for event in begun.values()), default=0)
    return tuple(
        Made(
            event.fault,
            event.target.partition(" --from ")[0],
            event.target.partition(" --from ")[2] or None,
            {key: value for key, value in event.params.items() if value},
            (event.t - first) / NS,
            (ended[number] - first) / NS if number in ended else None,
        )
        for number, event in sorted(begun.items(), key=lambda item: item[1].t)
    )


def as_scenario(lab: str, profile: str | None, faults: Iterable[Made], at_once: Collection[str] = ()) -> str:
    """The text of a scenario file: each fault at its time and for its time, then all has to be as designed.

    Args:
        at_once: the faults of the catalogue that are over as soon as they are made: those have no end to write.

    Raises SpecError when there is nothing to record, or it took more than an hour.
    """
    found = tuple(faults)
    if not found:
        raise SpecError("the timeline holds no fault", allowed="a lab on which faults were made: railbed fault add")
    lasts = max(one.end_s for one in found) + LEAD_S + 2 * BACK_WITHIN_S
    if lasts > MOST_S:
        raise SpecError(f"faults over {lasts:.0f} s", allowed=f"{MOST_S:.0f} s at most from the first to the last")
    steps: list[Mapping[str, object]] = []
    still: dict[str, Made] = {}
    for number, one in enumerate(found, 1):
        # The same again: the one before was over by then, and has to be here.
        same = next((name for name, other in still.items() if _place(other) == _place(one)), None)
        if same is not None:
            steps.append(_end(same, still.pop(same)))
        if one.fault in at_once:
            steps.append(_step(f"fault-{number}", replace(one, ended_s=None)))
            continue
        still[f"fault-{number}"] = one
        steps.append(_step(f"fault-{number}", one))
    steps += [_end(name, one) for name, one in still.items()]
    steps.append({"claim": "converged", "within": f"{BACK_WITHIN_S}s"})
    head = {"about": f"{len(found)} faults as they were made by hand", "lab": lab}
    return to_yaml({**head, **({"profile": profile} if profile else {}), "lasts": f"{lasts:.0f}s", "steps": steps})


def _place(one: Made) -> tuple[str, str, str | None]:
    return one.fault, one.target, one.sender


def _end(name: str, one: Made) -> Mapping[str, object]:
    if one.ended_s is None:
        return {"revert": name}
    return {"wait": "reverted", "of": name, "within": f"{max(1.0, one.ended_s - one.began_s) + 10:.0f}s"}


def _step(name: str, one: Made) -> Mapping[str, object]:
    lasted = None if one.ended_s is None else max(0.1, one.ended_s - one.began_s)
    return {
        "fault": one.fault,
        "name": name,
        **({"target": one.target} if one.target else {}),
        **({"from": one.sender} if one.sender else {}),
        **({"params": dict(one.params)} if one.params else {}),
        "at": f"{LEAD_S + one.began_s:.3f}s",
        **({"for": f"{lasted:.3f}s"} if lasted is not None else {}),
    }
