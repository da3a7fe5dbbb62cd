"""The command line. Exit codes: 0 held, 1 a verdict is false, 2 lab, configuration or tool error, 3 invalid run."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import click

from labs import index, reaper, views
from labs.cli_groups import LazyGroup
from labs.cli_options import dry_run_option as _dry_run
from labs.cli_options import format_option as _format
from labs.cli_options import lab_option as _lab_option
from labs.cli_options import which as _which
from labs.errors import LabError, RailbedError, SpecError
from labs.lab import Lab, Opened, adopt_lab, close_lab, open_lab
from labs.output import emit_json, live_progress, say
from labs.request import Request, check_lab_name, choose_backend, render_request, split_images
from labs.shadowing import check_not_shadowed

INTERRUPTED = 130


def main() -> NoReturn:
    """The `railbed` command; never returns.

    It leaves by os._exit: once a lab counts as up nothing may be between that and our end but the exit itself,
    and tearing the interpreter down would only take time.
    """
    code = run(sys.argv[1:])
    with suppress(BrokenPipeError):
        sys.stdout.flush()
    with suppress(BrokenPipeError):
        sys.stderr.flush()
    os._exit(code)


def run(argv: list[str]) -> int:  # noqa: PLR0911 - one way out for each kind of error
    """Run one command and return its exit code; every error becomes one message."""
    mark = argv.index("--") if "--" in argv else len(argv)
    debug = "--debug" in argv[:mark]
    argv = [word for i, word in enumerate(argv) if i >= mark or word != "--debug"]
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        check_not_shadowed()
        result = commands.main(argv, prog_name="railbed", standalone_mode=False)
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.ClickException as error:
        error.show()
        return 2
    except (click.Abort, KeyboardInterrupt):
        left = reaper.leftovers()
        say(f"railbed: interrupted; {'railbed reap undoes what is left' if left else 'nothing is left behind'}")
        return INTERRUPTED
    except RailbedError as error:
        say(traceback.format_exc() if debug else f"railbed: {error}")
        return error.exit_code
    except BrokenPipeError:  # whoever read our output has read enough
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - for the interpreter's own last flush
        return 0
    except Exception as error:  # noqa: BLE001 - a bug of ours: one message, and the whole of it with --debug
        say(traceback.format_exc() if debug else f"railbed: internal error: {error!r} (--debug shows where)")
        return 2
    return result if isinstance(result, int) else 0


def _interrupt(signum: int, frame: object) -> NoReturn:
    """TERM and HUP end us as an interrupt does: everything begun is undone on the way out."""
    del signum, frame
    raise KeyboardInterrupt


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="railbed")
def commands() -> None:
    """A data-center fabric on this workstation: real routing software, real packets, honest verdicts.

    --debug shows where an error comes from.
    """


@commands.command()
@click.argument("lab", default="clos_frr")
@click.option("--backend", default="auto", help="auto (the best there is), containerlab or netns.")
@click.option("--name", help="The running lab's name; default: LAB with - for _.")
@click.option("--image", "images", multiple=True, metavar="KIND=NAME", help="The image of a kind, or of one node.")
@click.option("--seed", type=int, help="Everything random comes from it; default: drawn and recorded.")
@click.option("--profile", help="What the soft ASIC plays: a name, a file, or none; default: what the lab's file says.")
@click.option("--wait/--no-wait", default=True, help="Wait until the fabric has converged.")
@_dry_run
@_format
def up(
    lab: str,
    backend: str,
    name: str | None,
    images: tuple[str, ...],
    seed: int | None,
    profile: str | None,
    wait: bool,
    dry_run: bool,
    form: str,
) -> int:
    """Bring a lab up: LAB is a name in the catalogs or a file. A lab that is up is reported, not rebuilt."""
    request = Request(lab, backend=backend, name=name, seed=seed, images=split_images(images), profile=profile)
    chosen, why = choose_backend(request)
    if backend == "auto" and (name or lab.replace("_", "-")) not in index.names():
        say(why)
    if dry_run:
        views.show_plan(render_request(request), chosen, form)
        return 0
    code = 0

    def report(opened: Opened) -> None:
        nonlocal code
        progress.stop()
        try:
            code = views.show_opened(opened, form)
        except BrokenPipeError:  # whoever read our output has gone; the lab is up all the same
            code = 0 if opened.lab.converged is None or opened.lab.converged.held else 1

    with live_progress(f"railbed up {lab}") as progress:
        open_lab(request, wait=wait, progress=progress, before_commit=report)
    return code


@commands.command()
@click.argument("name")
@click.option("--wait/--no-wait", default=True, help="Wait until its sessions are up and its hosts reach each other.")
@_dry_run
@_format
def adopt(name: str, wait: bool, dry_run: bool, form: str) -> int:
    """Take over a containerlab lab that is already running, as it is; `railbed down` lets it go again, as it was."""
    from labs.adopting import adopt_foreign
    from labs.foreign.reading import containers_of

    if dry_run:
        say(f"{name}: {len(containers_of(name))} nodes would be adopted")
        return 0
    code = 0

    def report(lab: Lab) -> None:
        nonlocal code
        progress.stop()
        with suppress(BrokenPipeError):
            code = views.show_opened(Opened(lab), form, how="adopted")

    with live_progress(f"railbed adopt {name}") as progress:
        adopt_foreign(name, wait=wait, progress=progress, before_commit=report)
    return code


@commands.command()
@click.argument("name", required=False)
@click.option("--all", "every", is_flag=True, help="Every lab there is.")
@_lab_option
@_dry_run
def down(name: str | None, every: bool, lab_name: str | None, dry_run: bool) -> int:
    """Take a lab down. Nothing of it stays but its run directory; down of nothing is fine."""
    name = name or lab_name
    if name is not None and name not in index.names():  # what is there may be taken down, whatever its name
        check_lab_name(name)
    targets = index.names() if every else (name,) if name else index.names()
    if not every and name is None and len(targets) > 1:
        _which(None)
    stuck = False
    for target in targets:
        changes = len(index.journal(target).open_entries())
        if dry_run:
            say(f"{target}: {changes} changes would be undone")
            continue
        known = target in index.names()
        gentle = any(entry.change.undo == "adopted" for entry in index.journal(target).open_entries())
        try:
            undone = close_lab(target) if known else 0
        except LabError as error:  # one that cannot be undone now keeps nobody from the others
            if len(targets) == 1:
                raise
            say(f"railbed: {target}: {error}")
            stuck = True
            continue
        if gentle:
            say(f"{target}: let go as it was found, {undone - 1} changes of ours undone")
            continue
        say(f"{target}: down, {undone} changes undone" if known else f"{target}: not up, nothing to do")
    if not targets:
        say("no lab is up, nothing to do")
    return 2 if stuck else 0


@commands.command("list")
@_format
def list_labs(form: str) -> None:
    """Every lab on this workstation, whoever started it."""
    views.show_list(form)


@commands.command()
@click.argument("name", required=False)
@_lab_option
@_format
def status(name: str | None, lab_name: str | None, form: str) -> int:
    """Whether a lab is sound: nodes, links, sessions. Exit 1 when it is degraded or down."""
    return views.show_status(_which(name or lab_name), form)


@commands.command()
@click.argument("name", required=False)
@_lab_option
@_format
def inspect(name: str | None, lab_name: str | None, form: str) -> None:
    """The design of a running lab: nodes, ports, addresses, AS numbers."""
    views.show_design(adopt_lab(_which(name or lab_name)), form)


@commands.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("node")
@click.argument("command", nargs=-1, required=True)
@_lab_option
def execute(node: str, command: tuple[str, ...], lab_name: str | None) -> NoReturn:
    """Run a command in a node: railbed exec leaf1 -- ip route. Its exit status is ours."""
    lab = adopt_lab(_which(lab_name))
    argv = lab.deployment.shell_argv(lab.node(node).name, command)
    os.execvp(argv[0], argv)


@commands.command()
@click.argument("node", required=False)
@_lab_option
def shell(node: str | None, lab_name: str | None) -> None:
    """A node's own shell (vtysh on a switch); without NODE a Python one with `lab` in it."""
    lab = adopt_lab(_which(lab_name))
    if node is None:
        views.python_shell(lab)
        return
    argv = lab.deployment.shell_argv(lab.node(node).name, views.shell_of(lab, node))
    os.execvp(argv[0], argv)


@commands.command()
@click.argument("files", nargs=-1, required=True)
@_format
def validate(files: tuple[str, ...], form: str) -> int:
    """Check fabric, lab and scenario files; starts nothing. Exit 2 when one is wrong."""
    return views.show_validation(files, form)


@commands.command("render")
@click.argument("lab", default="clos_frr")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write to.")
@click.option("--name", help="The lab's name.")
@click.option("--seed", type=int, help="As in `up`.")
@_dry_run
def render_lab(lab: str, out: Path, name: str | None, seed: int | None, dry_run: bool) -> None:
    """Write every file a lab would get, and its containerlab topology; starts nothing."""
    views.write_rendering(render_request(Request(lab, name=name, seed=seed)), out, dry_run=dry_run)


@commands.command()
@click.argument("node")
@_lab_option
@_format
def routes(node: str, lab_name: str | None, form: str) -> int:
    """What a node forwards by, beside what the oracle expects. Exit 1 where they differ."""
    return views.show_routes(adopt_lab(_which(lab_name)), node, form)


@commands.command()
@click.argument("node")
@_lab_option
@_format
def sessions(node: str, lab_name: str | None, form: str) -> int:
    """A switch's BGP sessions. Exit 1 when one is not established."""
    return views.show_sessions(adopt_lab(_which(lab_name)), node, form)


@commands.command()
@click.argument("src")
@click.argument("dst")
@click.option("--sport", type=click.IntRange(0, 65535), default=49152, show_default=True)
@click.option("--dport", type=click.IntRange(0, 65535), default=4791, show_default=True, help="RoCEv2's by default.")
@click.option("--proto", type=click.Choice(["udp", "tcp"]), default="udp", show_default=True)
@click.option("-6", "--ipv6", is_flag=True)
@click.option("--dscp", type=click.IntRange(0, 63), default=0, show_default=True)
@click.option("--queue-pair", type=click.IntRange(0, 2**24 - 1), help="RoCEv2's, at the destination.")
@_lab_option
@_format
def path(src: str, dst: str, proto: str, ipv6: bool, lab_name: str | None, form: str, **flow: Any) -> int:
    """The exact path of a flow between two hosts, as switches and kernels answer. Exit 1 when it does not arrive."""
    return views.show_path(adopt_lab(_which(lab_name)), src, dst, proto=proto, ipv6=ipv6, form=form, **flow)


@commands.command()
@_format
def doctor(form: str) -> int:
    """Whether this workstation can run labs, and what to do where it cannot. Exit 2 when it cannot."""
    return views.show_doctor(form)


@commands.command()
@click.argument("run_a")
@click.argument("run_b")
@click.option(
    "--repeat", type=int, help="Valid rounds, an even number; default: so many that one outlier decides nothing."
)
@click.option(
    "--margin",
    type=click.FloatRange(0, 1000, min_open=True),
    default=10,
    show_default=True,
    help="In %: a difference below it is no regression.",
)
@click.option(
    "--confidence",
    type=click.FloatRange(50, 100, max_open=True),
    default=99.9,
    show_default=True,
    help="In %: of all timings together.",
)
@click.option("--seed", type=int, help="Every round's own seed comes from it; default: drawn and recorded.")
@click.option("--undecided-ok", is_flag=True, help="Exit 0, not 3, when a timing is undecided.")
@_dry_run
@_format
def compare(
    run_a: str,
    run_b: str,
    repeat: int | None,
    margin: float,
    confidence: float,
    seed: int | None,
    undecided_ok: bool,
    dry_run: bool,
    form: str,
) -> int:
    """Whether B is slower than A: two recorded runs are played again by turns, and timed.

    RUN is a run directory, or a lab: its newest run then. Exit 1 when B is slower beyond the margin, or comes to
    rest less often; 3 when the workstation cannot vouch for it.
    """
    from labs import compare_view
    from labs.compare import compare, make_plan

    plan = make_plan(run_a, run_b, rounds=repeat, seed=seed, margin=margin / 100, confidence=confidence / 100)
    compare_view.show_plan(plan, form=form, dry_run=dry_run)
    if dry_run:
        return 0
    with live_progress("railbed compare") as progress:
        found = compare(plan, progress=progress)
    return compare_view.show_comparison(found, form=form, undecided_ok=undecided_ok)


@commands.command()
@_dry_run
@_format
def reap(dry_run: bool, form: str) -> None:
    """Undo what a crash or a kill has left behind; labs that run are not touched."""
    found = (*reaper.leftovers(), *reaper.kept_by_engine().values()) if dry_run else reaper.reap()
    views.show_reaped(found, form, dry_run=dry_run)


@commands.command()
@click.argument("what", type=click.Choice(["lab", "fabric", "profile", "scenario"]))
def schema(what: str) -> None:
    """The JSON Schema of a kind of file, for editors."""
    from labs.dataplane.load import profile_schema
    from labs.load import lab_schema
    from labs.scenarios.load import scenario_schema
    from topologies.load import fabric_schema

    of = {"lab": lab_schema, "fabric": fabric_schema, "profile": profile_schema, "scenario": scenario_schema}
    emit_json(of[what]())


@commands.command(context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench(name: str, arguments: tuple[str, ...]) -> NoReturn:
    """Measure this workstation: dataplane, ecmp, incast, lab_up, traffic; ARGUMENTS are that bench's own."""
    folder = Path(__file__).resolve().parents[1] / "scripts"
    known = sorted(path.name.removeprefix("bench_") for path in folder.glob("bench_*"))
    if name not in known:
        raise SpecError(f"bench {name!r}", allowed=", ".join(known) or "a checkout of railbed, whose scripts measure")
    os.execv(folder / f"bench_{name}", [f"bench_{name}", *arguments])
