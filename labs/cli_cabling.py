"""The command that asks every port who is at the other end of its cable, and compares that with the design."""

from __future__ import annotations

from collections import defaultdict

import click

from labs.cli_options import format_option, lab_option, which
from labs.errors import RunInvalid
from labs.lab import adopt_lab
from labs.neighbors import neighbors
from labs.output import emit_json, emit_table, say
from labs.status import SCHEMA
from labs.verdicts.cabling import wired_as_planned


@click.command()
@click.argument("node", required=False)
@lab_option
@format_option
def cabling(node: str | None, lab_name: str | None, form: str) -> int:
    """Who is at the other end of every port, asked by LLDP, beside the design. Exit 1 where another is, 3 for silence.

    NODE shows its ports alone; what is judged is the whole lab.
    """
    lab = adopt_lab(which(lab_name))
    shown = [lab.node(node)] if node else lab.nodes.values()
    heard = neighbors(lab)
    who: dict[tuple[str, str], list[str]] = defaultdict(list)
    for one in heard:
        who[one.node, one.port].append(f"{one.far_node}:{one.far_port}")
    verdict = wired_as_planned(lab.fabric, heard, hosts=True)
    rows = [
        {"port": str(port), "hears": who[live.name, port.name], "planned": str(link.far(live.name))}
        for live in shown
        for link, port in zip(lab.fabric.links_of(live.node), live.ports, strict=True)
    ]
    if form == "json":
        emit_json({"schema": SCHEMA, "lab": lab.name, "ports": rows, "verdict": verdict.as_dict()})
    else:
        emit_table(
            ("port", "hears", "design"),
            [
                (
                    row["port"],
                    " ".join(row["hears"]) or "nobody",
                    "as planned" if row["hears"] == [row["planned"]] else row["planned"],
                )
                for row in rows
            ],
        )
        say(str(verdict) if not (verdict.valid and verdict.held) else verdict.evidence.summary)
    return RunInvalid.exit_code if not verdict.valid else 0 if verdict.held else 1
