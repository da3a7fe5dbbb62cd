"""The commands that read the soft ASIC: counters, profile."""

from __future__ import annotations

import click

from labs import counter_views, profile_views
from labs.cleared import clear
from labs.cli_options import dry_run_option, format_option, lab_option, which
from labs.dataplane.asic import SoftAsic
from labs.dataplane.ecmp_choices import played
from labs.dataplane.load import load_profile
from labs.errors import CapabilityMissing, SpecError
from labs.lab import Lab, adopt_lab
from labs.output import say
from topologies.load import RATE_RULE, rate_of
from topologies.units import GBIT


@click.command()
@click.argument("what", type=click.Choice(list(counter_views.VIEWS)))
@click.argument("node", required=False)
@click.option("--clear", "clears", is_flag=True, help="Count from here on, as sonic-clear does.")
@click.option("--raw", is_flag=True, help="Since the soft ASIC was attached, whatever was cleared.")
@click.option("-nz", "--nonzero", is_flag=True, help="Leave out rows without a number above 0.")
@lab_option
@dry_run_option
@format_option
def counters(
    what: str,
    node: str | None,
    clears: bool,
    raw: bool,
    nonzero: bool,
    lab_name: str | None,
    dry_run: bool,
    form: str,
) -> int:
    """The soft ASIC's counters, of NODE or of all nodes, with SONiC's names.

    pfc, queue, ecn, watermark: what pfcstat, queuestat, wredstat and watermarkstat show. port: what became of every
    packet; exit 1 when the fates do not sum to what came, 3 when packets were moving, so that nobody can tell. ecmp:
    which members of equal-cost groups the switches' hash engine took.
    """
    lab = adopt_lab(which(lab_name))
    asic = soft_asic_of(lab)
    if clears:
        _clear(lab, asic, what, node, dry_run=dry_run)
        return 0
    name = lab.node(node).name if node else None
    shown = counter_views.read(asic, lab.run_dir, what, node=name, raw=raw, nonzero=nonzero)
    return counter_views.show_counters(shown, what, form)


def _clear(lab: Lab, asic: SoftAsic, what: str, node: str | None, *, dry_run: bool) -> None:
    if node is not None:
        raise SpecError(f"--clear of {node} alone", allowed="no NODE: the counters of a lab are cleared together")
    if what == "watermark":
        raise SpecError(
            "--clear of watermarks", allowed="pfc, queue, ecn, port, ecmp: a peak cannot be taken off again"
        )
    if dry_run:
        say(f"{lab.name}: {what} counters would be cleared")
        return
    at = clear(lab.run_dir, what, asic.counters()).at
    say(f"{lab.name}: {what} counters cleared, {at}")


def soft_asic_of(lab: Lab) -> SoftAsic:
    """The soft ASIC of a lab. Raises CapabilityMissing for one that runs without."""
    if lab.asic is None:
        raise CapabilityMissing(
            "soft-asic", f"lab {lab.name} runs without it", remedy="railbed doctor says what it needs; then up again"
        )
    return lab.asic


def _bps(text: str) -> int:
    try:
        return rate_of(text)
    except ValueError:
        raise SpecError(f"--rate {text}", allowed=RATE_RULE) from None


@click.group()
def profile() -> None:
    """What the soft ASIC plays: SONiC's QoS tables."""


@profile.command()
@click.argument("name", required=False)
@click.option("--rate", "rates", multiple=True, metavar="RATE", help="A port's rate, such as 1Gbit; may be repeated.")
@lab_option
@format_option
def show(name: str | None, rates: tuple[str, ...], lab_name: str | None, form: str) -> None:
    """A profile, by name or file, and what its numbers mean at a rate; without NAME what the running lab plays."""
    wanted = [_bps(text) for text in rates]
    if name is not None:
        profile_views.show_profile(load_profile(name), wanted or [GBIT], form)
        return
    lab = adopt_lab(which(lab_name))
    asic = soft_asic_of(lab)
    wanted = wanted or [port.rate_bps for port in asic.plan.ports]
    profile_views.show_profile(asic.profile, wanted, form, lab=lab.name, choices=played(asic.plan))
