"""The commands that break things on purpose, and mend them: fault list, add, active, revert."""

from __future__ import annotations

from collections.abc import Mapping

import click

from labs import index
from labs.cli_options import dry_run_option, format_option, lab_option, which
from labs.errors import SpecError
from labs.faults import catalogue
from labs.faults.fault import Fault, Step, locate
from labs.faults.injecting import (
    Active,
    Injected,
    active_faults,
    add,
    check_free,
    duration_of,
    revert,
    revert_all,
    state_restored,
    to_be_compared,
)
from labs.lab import Lab, adopt_lab
from labs.output import emit_json, emit_line, emit_table, say
from labs.status import SCHEMA
from labs.verdicts import Verdict

# Sessions that went down come back within a connect timer (10 s) or two; a daemon that starts anew takes as long.
RESTORED_WITHIN_S = 60.0
NOT_COMPARED = "; since the last ended nobody has compared the lab with before: railbed fault revert --all does"


@click.group()
def fault() -> None:
    """Break something on purpose, and put it back: `fault list` says what there is."""


@fault.command("list")
@format_option
def list_faults(form: str) -> None:
    """Every fault: what it is aimed at, what it imitates, how it is detected, which metric recovers."""
    rows = catalogue.faults().values()
    if form == "json":
        emit_json([{"schema": SCHEMA, **one.as_dict()} for one in rows])
        return
    emit_table(
        ("fault", "on", "parameters", "imitates"),
        [(one.name, one.targets, ", ".join(_param(one)), one.imitates) for one in rows],
    )
    emit_line("railbed fault add FAULT TARGET [--for 10s] [--param k=v]; --format json says how each is detected")


def _param(one: Fault) -> list[str]:
    row = one.as_dict()["params"]
    return [p["name"] if p["required"] else f"{p['name']}={p['default']}" for p in row]  # type: ignore[attr-defined]


@fault.command("add")
@click.argument("name", metavar="FAULT")
@click.argument("target", required=False, default="")
@click.option("--for", "lasts", metavar="10s", help="Taken back by itself after this time: 500ms, 10s, 2m, 1h.")
@click.option("--param", "params", multiple=True, metavar="K=V", help="A parameter of the fault.")
@click.option("--from", "sender", metavar="NODE", help="One direction of a link: what NODE sends.")
@lab_option
@dry_run_option
@format_option
def add_fault(
    name: str,
    target: str,
    lasts: str | None,
    params: tuple[str, ...],
    sender: str | None,
    lab_name: str | None,
    dry_run: bool,
    form: str,
) -> None:
    """Make a fault. It stays until `fault revert`, or for --for; `down` ends it in any case."""
    chosen = catalogue.fault(name)
    given = dict(_pair(text) for text in params)
    if len(given) < len(params):
        raise SpecError(f"--param {' --param '.join(params)}", allowed="each parameter once")
    for_s = None if lasts is None else duration_of(lasts)
    lab = adopt_lab(which(lab_name))
    if dry_run:
        site = locate(lab, chosen, target, given, sender)
        steps = chosen.steps(site)
        check_free(steps, active_faults(lab.name))
        _show_steps(lab, chosen, steps)
        return
    made = add(lab, chosen, target, given, sender=sender, for_s=for_s)
    if form == "json":
        emit_json({"schema": SCHEMA, "lab": lab.name, **_made(made), "for_s": for_s})
        return
    ends = f"it ends by itself in {for_s:g} s" if for_s else f"railbed fault revert {made.id} ends it"
    emit_line(f"{made.id}: {name}{f' on {target}' if target else ''}; {ends if chosen.lasts else 'it is over'}")


def _pair(text: str) -> tuple[str, str]:
    name, mark, value = text.partition("=")
    if not (name and mark):
        raise SpecError(f"--param {text}", allowed="NAME=VALUE")
    return name, value


def _made(made: Injected) -> Mapping[str, object]:
    took_s = (made.made_ns - made.began_ns) / 1e9
    return {"id": made.id, "fault": made.fault, "target": made.target, "took_s": round(took_s, 6)}


def _show_steps(lab: Lab, chosen: Fault, steps: object) -> None:
    say(f"{lab.name}: {chosen.name} would make these changes, each undone by the verb before it:")
    for step in steps if isinstance(steps, list | tuple) else ():
        if isinstance(step, Step):
            say(f"  {step.undo} {dict(step.args)}")


@fault.command("active")
@lab_option
@format_option
def list_active(lab_name: str | None, form: str) -> None:
    """The faults that are not taken back."""
    name = which(lab_name)
    index.read(name)
    found = active_faults(name)
    if form == "json":
        compared = not to_be_compared(name)
        emit_json({"schema": SCHEMA, "lab": name, "faults": [one.as_dict() for one in found], "compared": compared})
        return
    if not found:
        emit_line(f"{name}: no fault is active{NOT_COMPARED if to_be_compared(name) else ''}")
        return
    emit_table(
        ("id", "fault", "target", "parameters", "since", "left"),
        [
            (a.id, a.fault, a.target, " ".join(f"{k}={v}" for k, v in a.params.items()), a.made_at, _left(a))
            for a in found
        ],
    )


def _left(one: Active) -> str:
    if one.left_s is not None:
        return f"{one.left_s:.1f} s"
    return f"as long as process {one.held_by}" if one.held_by else "until it is reverted"


@fault.command("revert")
@click.argument("number", metavar="ID", required=False)
@click.option("--all", "every", is_flag=True, help="All of them, the last first.")
@click.option("--wait/--no-wait", default=True, help="Compare the lab with how it was before the first fault.")
@lab_option
@dry_run_option
@format_option
def revert_fault(number: str | None, every: bool, wait: bool, lab_name: str | None, dry_run: bool, form: str) -> int:
    """Take a fault back, or all. Exit 1 when the lab is not as it was before, and what differs.

    --all also compares after faults that ended by themselves, with their time or their process.
    """
    if every == (number is not None):
        raise SpecError("fault revert: which one?", allowed="an ID that `railbed fault active` lists, or --all")
    lab = adopt_lab(which(lab_name))
    found = active_faults(lab.name)
    if dry_run:
        say("\n".join(f"{one} would be reverted" for one in found if every or one.id == number) or "nothing to revert")
        return 0
    if every:
        reverted = revert_all(lab)
    else:
        revert(lab, str(number))
        reverted = tuple(one for one in found if one.id == number)
    left = active_faults(lab.name)
    due = bool(reverted) or (every and to_be_compared(lab.name))
    verdict = state_restored(lab, RESTORED_WITHIN_S) if wait and due and not left else None
    return _show_reverted(lab, reverted, left, verdict, form)


def _show_reverted(
    lab: Lab, reverted: tuple[Active, ...], left: tuple[Active, ...], verdict: Verdict | None, form: str
) -> int:
    if form == "json":
        emit_json(
            {
                "schema": SCHEMA,
                "lab": lab.name,
                "reverted": [one.id for one in reverted],
                "active": [one.id for one in left],
                "state": verdict.as_dict() if verdict else None,
            }
        )
    else:
        for one in reverted:
            emit_line(f"{one}: reverted")
        if not reverted:
            emit_line(f"{lab.name}: no fault is active")
        if left:
            emit_line(f"still active: {', '.join(str(one) for one in left)}; the state is compared after the last")
        if verdict:
            emit_line(str(verdict))
    return 0 if verdict is None or verdict.held else 1
