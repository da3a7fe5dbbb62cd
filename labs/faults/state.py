"""A lab's state before the first fault and after the last: equal, or what differs is named.

What is compared, node by node: whether it runs; its interfaces (up, carrier, MTU, hardware and IP addresses), queues
and filters, routes of all tables, hash and forwarding sysctls, daemons, what is stopped, BGP and BFD sessions, the
configuration that its routing software runs by; of the soft ASIC the profile, the rates and what is wrong with each
wire. Counters, and what a session or a gate changes by itself, are not compared.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from labs import index, observe
from labs.dataplane.settings import settings
from labs.errors import LabError
from labs.faults import facts as looked_at
from labs.lab import Lab
from labs.node import LiveNode
from labs.telemetry.fault_events import FAULT
from labs.telemetry.records import Note
from labs.telemetry.telling import tell
from labs.verdicts import Evidence, Verdict
from labs.waiting import wait_until

STATE_FILE = "before-faults.json"
MOST_ROWS = 20
# A session waits for a connect timer of 10 s at either end, then routes settle: three times that.
SETTLES_S = 60.0
# What a test may well set otherwise itself, after its faults, and what it may not.
SETTINGS = frozenset({"queues", "filters", "sysctls", "configuration", "soft ASIC"})
ASPECTS = frozenset({"power", "links", "routes", "daemons", "stopped", "sessions", "bfd"}) | SETTINGS
# A daemon more was started by somebody, none of a fault's goes by that name; BFD comes up after a lab has converged.
MAY_GROW = frozenset({"daemons", "bfd"})

State = Mapping[str, Mapping[str, Sequence[str]]]
"""Node (or "lab") to aspect to facts, each a line of text, sorted."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A fact that is there only before (``-``) or only after (``+``)."""

    node: str
    aspect: str
    sign: str
    fact: str

    def __str__(self) -> str:
        return f"{self.node}: {self.aspect}: {self.sign} {self.fact}"


def keep(lab: Lab) -> None:
    """Write the state down, beside the journal: what all faults that are made now will be compared with.

    Nothing is written while the lab may still be settling after a fault that ended SETTLES_S ago or less: what it has
    now is half of that fault's doing. What was written before it holds on. Where nobody has compared it since, that is
    done now, and what differs is noted: it may be a fault's doing, or a person's.
    """
    path = index.lab_dir(lab.name) / STATE_FILE
    with suppress(FileNotFoundError):
        if time.time() - path.stat().st_mtime < SETTLES_S:
            return
    former, now = kept(lab.name), capture(lab, began=True)
    found = differences(former, now) if former else ()
    if found:
        rows = "; ".join(str(one) for one in found[:MOST_ROWS])
        text = f"{len(found)} facts differ from before the faults that were not compared: {rows}"
        tell(lab.name, Note(t=time.monotonic_ns(), text=text))
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(now))
    draft.replace(path)


def ended(lab: str) -> None:
    """A fault has ended: from now on the lab settles."""
    with suppress(FileNotFoundError):
        os.utime(index.lab_dir(lab) / STATE_FILE)


def kept(lab: str) -> State | None:
    """The state before the first of the faults that were made last; None when there were none."""
    try:
        found: State = json.loads((index.lab_dir(lab) / STATE_FILE).read_text())
    except (FileNotFoundError, ValueError):
        return None
    return found


def restored(lab: Lab, *, within: float, aspects: frozenset[str] = ASPECTS) -> Verdict:
    """Wait until the state is what it was before the faults, in these aspects. Invalid when no fault was made."""
    before = kept(lab.name)
    if before is None:
        verdict = Verdict("the state is as before the faults", False, Evidence("no fault was made"))
        return verdict.invalid("no fault was made, so nothing was written down")
    waited = wait_until(
        "the state is as before the faults",
        lambda: tuple(one for one in differences(before, capture(lab)) if one.aspect in aspects),
        lambda found: not found,
        within=within,
    )
    if not waited.last and not any(one.change.undo == FAULT for one in index.journal(lab.name).open_entries()):
        (index.lab_dir(lab.name) / STATE_FILE).unlink(missing_ok=True)  # all that was made since is judged
    return judged(waited.last, sum(len(facts) for of in before.values() for facts in of.values()))


def judged(found: Sequence[Difference], facts: int) -> Verdict:
    """The verdict on these differences of so many facts."""
    aspects = ", ".join(sorted({f"{one.node} {one.aspect}" for one in found})[:6])
    return Verdict(
        "the state is as before the faults",
        not found,
        Evidence(
            f"{len(found)} of {facts} facts differ: {aspects}" if found else f"all {facts} facts are as before",
            {"facts": facts, "differences": len(found)},
            tuple(str(one) for one in found[:MOST_ROWS]),
        ),
    )


def differences(before: State, after: State) -> tuple[Difference, ...]:
    """What is in one state and not in the other."""
    found = []
    for node in sorted({*before, *after}):
        was, now = before.get(node, {}), after.get(node, {})
        for aspect in sorted({*was, *now}):
            one, other = Counter(was.get(aspect, ())), Counter(now.get(aspect, ()))
            found += [Difference(node, aspect, "-", fact) for fact in sorted((one - other).elements())]
            if aspect not in MAY_GROW:
                found += [Difference(node, aspect, "+", fact) for fact in sorted((other - one).elements())]
    return tuple(found)


def capture(lab: Lab, *, began: bool = False) -> State:
    """The lab's state as it is now; `began`: the one that others will be compared with."""
    states = lab.deployment.states()
    seen = looked_at.processes(lab, lasting=began)

    def of(node: LiveNode) -> Mapping[str, Sequence[str]]:
        state = str(states[node.name])
        if state != "running":
            return {"power": [state]}
        try:
            return {"power": [state], **looked_at.of_node(node), **seen[node.name].facts}
        except LabError as error:
            return {"power": [f"{state}, and does not answer: {error.message}"]}

    found = dict(zip(lab.nodes, observe.ask_all(of, lab.nodes.values()), strict=True))
    return {**found, "lab": _asic(lab)}


def _asic(lab: Lab) -> Mapping[str, Sequence[str]]:
    if lab.asic is None:
        return {}
    try:
        return {"soft ASIC": sorted(settings(lab.name, lab.asic.plan))}
    except LabError as error:
        return {"soft ASIC": [f"does not answer: {error.message}"]}
