"""Faults are made, listed and taken back here; every way of asking for one comes this way.

The order never changes: the lab's lock, the checks, the state before, the journal, then the change itself.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from labs import index, lease, recording
from labs.errors import NotReady, RailbedError, SpecError
from labs.faults import state
from labs.faults.fault import Fault, Site, Step, clash, locate
from labs.journal import Change, Entry, Journal, boot_id
from labs.lab import Lab
from labs.telemetry.fault_events import FAULT, tell_fault
from labs.undo import identity, undo
from labs.verdicts import Verdict

SECOND_NS = 1_000_000_000
# Below a tenth of a second a timer's own lateness would be what is measured; nobody waits longer than a day for a lab.
LEAST_S, MOST_S = 0.1, 86400.0
DURATION_RULE = "0.1s to 24h, as in 500ms, 10s, 2m or 1h"
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Active:
    """A fault that is not taken back yet. `left_s` is None where it stays until somebody reverts it."""

    id: str
    fault: str
    target: str
    params: Mapping[str, str]
    claims: tuple[str, ...]
    made_at: str
    left_s: float | None
    held_by: int | None

    def as_dict(self) -> dict[str, object]:
        """The row for ``fault active --format json``."""
        return {
            "id": self.id,
            "fault": self.fault,
            "target": self.target,
            "params": dict(self.params),
            "since": self.made_at,
            "left_s": None if self.left_s is None else round(self.left_s, 3),
            "held_by": self.held_by,
        }

    def __str__(self) -> str:
        return f"{self.id} ({self.fault}{f' on {self.target}' if self.target else ''})"


@dataclass(frozen=True, slots=True)
class Injected:
    """A fault as it was made: `began_ns` before its first change, `made_ns` after its last (monotonic clock)."""

    id: str
    fault: str
    site: Site
    began_ns: int
    made_ns: int

    @property
    def target(self) -> str:
        """What it was aimed at."""
        return self.site.target


def duration_of(text: str) -> float:
    """Seconds of a duration like 10s. Raises SpecError."""
    found = _DURATION.fullmatch(text.strip())
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not LEAST_S <= seconds <= MOST_S:
        raise SpecError(f"duration {text!r}", allowed=DURATION_RULE)
    return seconds


def add(
    lab: Lab,
    fault: Fault,
    target: str = "",
    params: Mapping[str, object] | None = None,
    *,
    sender: str | None = None,
    for_s: float | None = None,
    held: bool = False,
) -> Injected:
    """Make a fault; it stays for `for_s` seconds, or until `revert`. `held`: it is not to outlive this process.

    One that does not last is taken back by itself, too, should this process be killed in the middle of it.

    Raises SpecError for a target, parameter or duration that is not allowed, or that another fault has;
    CapabilityMissing for what this lab cannot do; NotReady where no Recorder would end it. Nothing of it stays then.
    """
    if for_s is not None and not LEAST_S <= for_s <= MOST_S:
        raise SpecError(f"duration of {for_s:g} s", allowed=DURATION_RULE)
    if for_s is not None and not fault.lasts:
        raise SpecError(f"{fault.name} for {for_s:g} s", allowed="no duration: it is over as soon as it is made")
    site = locate(lab, fault, target, params or {}, sender)
    if for_s is not None or held or not fault.lasts:
        recording.check_answers(lab.name)
    with index.locked(lab.name, wait=True):
        index.read(lab.name)
        active = active_faults(lab.name)
        steps = _steps(fault, site, active)
        check_free(steps, active)
        if not active:
            state.keep(lab)
        journal = index.journal(lab.name)
        with lease.changing(lab.name, f"injecting {fault.name}"):  # which may wait: a fault's time begins after that
            entry = journal.will(Change(FAULT, _entry(site, fault, steps, for_s, held=held)))[0]
            began_ns = tell_fault(lab.name, entry, "injecting")
            try:
                for step in steps:
                    step.make()
            except BaseException as error:
                tell_fault(lab.name, entry, "failed", because=str(error))
                _give_up(lab, journal, entry, error)
                raise
            made_ns = tell_fault(lab.name, entry, "made")
        if not fault.lasts:
            journal.done((entry,))
    return Injected(f"f{entry.n}", fault.name, site, began_ns, made_ns)


def _give_up(lab: Lab, journal: Journal, entry: Entry, error: BaseException) -> None:
    """Take back what there is of a fault that could not be made. Raises NotReady where it stays: it is active then."""
    try:
        undo(lab.name, journal, (entry,))
    except RailbedError as also:
        tell_fault(lab.name, entry, "failed", because=str(also))
        raise NotReady(
            f"{str(error) or type(error).__name__}; what was made of it is there still, as f{entry.n}: {also}",
            remedy=f"railbed fault revert f{entry.n}, once that is mended",
        ) from error


@contextmanager
def hold(
    lab: Lab, fault: Fault, target: str = "", *, sender: str | None = None, **params: object
) -> Iterator[Injected]:
    """A fault for the length of a block; should this process be killed, the lab's Recorder or `reap` takes it back."""
    made = add(lab, fault, str(target), params, sender=sender, held=True)
    try:
        yield made
    finally:
        revert(lab, made.id, by="the end of its block", missing_ok=True)


def revert(lab: Lab, number: str, *, by: str = "fault revert", missing_ok: bool = False) -> bool:
    """Take one fault back; False when it was no longer there. `by` is for the timeline.

    Raises SpecError for an unknown id, NotReady for what is in the way: then the fault is still active.
    """
    with index.locked(lab.name, wait=True):
        journal = index.journal(lab.name)
        entry = next((one for one in journal.open_entries() if is_fault(one) and f"f{one.n}" == number), None)
        if entry is None:
            if missing_ok:
                return False
            known = ", ".join(str(one) for one in active_faults(lab.name)) or "none"
            raise SpecError(f"fault {number!r}", allowed=f"the id of an active fault: {known}")
        try:
            with lease.changing(lab.name, f"reverting {entry.change.args['fault']}"):
                tell_fault(lab.name, entry, "reverting", by=by)
                undo(lab.name, journal, (entry,))
        except BaseException as error:
            tell_fault(lab.name, entry, "failed", because=str(error), by=by)
            raise
        tell_fault(lab.name, entry, "reverted", by=by)
        if lab.asic is not None:
            lab.asic.reread()  # the undo had a lab of its own
    return True


def revert_all(lab: Lab) -> tuple[Active, ...]:
    """Take every fault back, the last first; returns those there were. All are tried, then the first error raised."""
    found = active_faults(lab.name)
    failed: list[Exception] = []
    for one in reversed(found):
        try:
            revert(lab, one.id, missing_ok=True)
        except Exception as error:  # noqa: BLE001 - the others come first
            failed.append(error)
    if failed:
        raise failed[0]
    return found


def state_restored(lab: Lab, within: float, *, settings: bool = True) -> Verdict:
    """Judge that links, queues, routes, sysctls, daemons and sessions are as before the first fault.

    `settings`: sysctls, queues and the profile as well, which may have been set otherwise on purpose since.
    """
    aspects = state.ASPECTS if settings else state.ASPECTS - state.SETTINGS
    return state.restored(lab, within=within * lab.timeout_scale, aspects=aspects)


def to_be_compared(lab: str) -> bool:
    """Whether a fault was made since the lab was last found as it was before."""
    return state.kept(lab) is not None


def active_faults(lab: str) -> tuple[Active, ...]:
    """The faults of a lab that are not taken back, the oldest first."""
    return tuple(_active(one) for one in index.journal(lab).open_entries() if is_fault(one))


def is_fault(entry: Entry) -> bool:
    """Whether a change of the journal is a fault."""
    return entry.change.undo == FAULT


def _steps(fault: Fault, site: Site, active: Sequence[Active]) -> Sequence[Step]:
    """The steps; where the site does not fit and the same fault is there already, that is why."""
    try:
        return fault.steps(site)
    except RailbedError:
        for one in active:
            if (one.fault, one.target) == (fault.name, _target(site)):
                raise _taken(site.target or "the lab", one) from None
        raise


def _taken(what: str, one: Active) -> SpecError:
    return SpecError(
        f"{what} is already faulted by {one}", allowed=f"another target, or first: railbed fault revert {one.id}"
    )


def check_free(steps: Sequence[Step], active: Sequence[Active]) -> None:
    """Raise SpecError when a step wants what an active fault has taken."""
    wanted = [claim for step in steps for claim in step.claims]
    for one in active:
        met = clash(wanted, one.claims)
        if met:
            raise _taken(met, one)


def _entry(site: Site, fault: Fault, steps: Sequence[Step], for_s: float | None, *, held: bool) -> Mapping[str, object]:
    now = time.monotonic_ns()
    return {
        "fault": fault.name,
        "target": _target(site),
        "params": {name: str(value) for name, value in site.params.items()},
        "claims": sorted({claim for step in steps for claim in step.claims}),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "made_ns": now,
        "until_ns": None if for_s is None else now + int(for_s * SECOND_NS),
        "boot": boot_id(),
        **({"by": identity(os.getpid())} if held or not fault.lasts else {}),
        "steps": [{"undo": step.undo, "args": step.args} for step in steps],
    }


def _target(site: Site) -> str:
    return f"{site.target} --from {site.sender}" if site.sender else site.target


def _active(entry: Entry) -> Active:
    args: Mapping[str, Any] = entry.change.args
    until, by = args["until_ns"], args.get("by")
    return Active(
        id=f"f{entry.n}",
        fault=args["fault"],
        target=args["target"],
        params=args["params"],
        claims=tuple(args["claims"]),
        made_at=args["at"],
        left_s=None if until is None else max(0.0, (until - time.monotonic_ns()) / SECOND_NS),
        held_by=None if by is None else by["pid"],
    )
