"""What each command shows: the same facts as a table for people and as JSON for scripts."""

from __future__ import annotations

import code
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from labs import index, reaper
from labs.backends.base import Backend
from labs.errors import LeftoverLab, RunInvalid, SpecError
from labs.foreign.topology import is_foreign
from labs.foreign_lab import from_file
from labs.index import Stage
from labs.kinds import KINDS, driver
from labs.lab import Lab, Opened, adopt_lab
from labs.output import emit_json, emit_table, say
from labs.reaper import Leftover
from labs.render import clab_text
from labs.spec import RenderedLab
from labs.status import SCHEMA, status
from labs.verdicts.routes import differences_of
from topologies import addressing
from topologies.fabric import Port
from topologies.load import is_path
from topologies.routing import route_tables, unpredicted
from topologies.yaml_source import read
from traffic.flows import Transport


def show_opened(opened: Opened, form: str, how: str = "") -> int:
    """What `up` says at its end. 0 when the fabric has converged, 1 when it has not, 3 when nobody can tell.

    The lab is up in all three cases: people may want to look at it.
    """
    lab, verdict = opened.lab, opened.lab.converged
    facts = status(lab, starting=verdict is None and not opened.found_running)
    if form == "json":
        emit_json(facts)
    else:
        _print_status(facts)
        say(_next_commands(lab, opened, how))
    if verdict is None:
        return 0 if facts["state"] in {"ready", "starting"} else 1
    if not (verdict.valid and verdict.held):
        say(str(verdict))
    return RunInvalid.exit_code if not verdict.valid else 0 if verdict.held else 1


def _next_commands(lab: Lab, opened: Opened, how: str) -> str:
    how = how or "was already up" if how or opened.found_running else f"up in {lab.timings['total_s']} s"
    hosts = [host.name for host in lab.fabric.hosts if addressing.has_address(lab.fabric, host, 1, 4)]
    tries = []
    if len(hosts) > 1:
        first, last = hosts[0], hosts[-1]
        tries += [
            f"railbed path {first} {last}              which way a flow goes, hop by hop",
            f"railbed exec {first} -- ping -c 3 {addressing.host_address(lab.fabric, last)}",
        ]
    if lab.fabric.switches:
        switch = lab.fabric.switches[-1].name
        tries += [
            f"railbed routes {switch}                  beside what the oracle expects",
            f"railbed shell {switch}                   {shell_of(lab, switch)[0]} on that switch",
        ]
        if lab.asic is not None:
            tries.append(f"railbed counters queue {switch} -nz      its queues, as SONiC's queuestat shows them")
    listed = "\n".join(f"  {one}" for one in (*tries, f"railbed down {lab.name}"))
    return f"\n{lab.name} {how}. Try:\n{listed}"


def _print_status(facts: Mapping[str, object]) -> None:
    nodes, links = _rows(facts["nodes"]), _rows(facts["links"])
    emit_table(
        ("node", "kind", "tier", "state", "loopback", "asn"),
        [(n["name"], n["kind"], n["tier"], n["state"], n["loopback"], n["asn"]) for n in nodes],
    )
    wrong = [link for link in links if link["state"] != "up"]
    bgp = cast(Mapping[str, object], facts["bgp"])
    say(
        f"\n{facts['lab']}: {facts['state']}; {len(nodes)} nodes, {len(links)} links ({len(wrong)} not up), "
        f"BGP {bgp['established']}/{bgp['expected']} session ends, backend {facts['backend']}, seed {facts['seed']}"
    )
    say(_soft_asic(cast("Mapping[str, object] | None", facts["soft_asic"])))
    for link in wrong:
        say(f"  link {link['name']}: {link['state']}")


def _soft_asic(said: Mapping[str, object] | None) -> str:
    if said is None:
        return "no soft ASIC: links have no queues, and no rate"
    if not said["alive"]:
        return f"the soft ASIC is dead, no queue, mark or pause is played: {said['because']}"
    return f"soft ASIC plays profile {said['profile']} (hook {said['hook']})"


def _rows(value: object) -> Sequence[Mapping[str, object]]:
    return cast(Sequence[Mapping[str, object]], value)


def show_plan(lab: RenderedLab, backend: Backend, form: str) -> None:
    """What `up` would make."""
    plan = {
        "schema": SCHEMA,
        "lab": lab.name,
        "backend": backend.name,
        "nodes": [node.name for node in lab.fabric.nodes],
        "links": [link.name for link in lab.fabric.links],
        "files": [str(path) for path in lab.files],
    }
    if form == "json":
        emit_json(plan)
    else:
        say(f"{lab.name} on {backend.name}: {len(lab.fabric.nodes)} nodes, {len(lab.fabric.links)} links would be made")


def show_list(form: str) -> None:
    """Every lab in the index."""
    labs = []
    for name in index.names():
        because = reaper.orphaned(name)
        try:
            record = index.read(name)
        except LeftoverLab:
            labs.append({"lab": name, "backend": None, "state": f"leftover: {because}", "since": None, "run_dir": None})
            continue
        state = f"leftover: {because}" if because else "up" if record.stage is Stage.UP else str(record.stage)
        labs.append(
            {
                "lab": name,
                "backend": record.backend,
                "state": state,
                "since": record.started_at,
                "run_dir": record.run_dir,
            }
        )
    if form == "json":
        emit_json({"schema": SCHEMA, "labs": labs})
    elif labs:
        emit_table(tuple(labs[0]), [tuple(lab.values()) for lab in labs])
    else:
        say("no lab is up; railbed up starts one")


def show_status(name: str, form: str) -> int:
    """The state of a lab; 1 unless it is ready."""
    if index.is_held(name) and name in index.names():
        say(f"{name}: {index.read(name).stage}, another railbed command is at work on it")
    lab = adopt_lab(name)
    facts = status(lab, starting=index.read(name).stage is Stage.STARTING)
    if form == "json":
        emit_json(facts)
    else:
        _print_status(facts)
    return 0 if facts["state"] == "ready" else 1


def show_design(lab: Lab, form: str) -> None:
    """Ports and addresses of every node."""
    rows = [
        {
            "node": node.name,
            "kind": lab.node(node.name).kind,
            "asn": node.asn,
            "port": port.name,
            "far": str(lab.fabric.link_at(node, port.name).far(node.name)),
            "mac": addressing.mac(lab.fabric, port),
            "ipv4": _address(lab, port, 4),
            "ipv6": _address(lab, port, 6),
        }
        for node in lab.fabric.nodes
        for port in lab.fabric.ports(node)
    ]
    if form == "json":
        emit_json({"schema": SCHEMA, "lab": lab.name, "ports": rows})
    else:
        emit_table(tuple(rows[0]) if rows else ("node",), [tuple(row.values()) for row in rows])
    for note in _notes(lab):
        say(note)


def _notes(lab: Lab) -> Iterator[str]:
    """What there is to know about somebody else's lab."""
    if lab.fabric.given is None:
        return
    yield from lab.fabric.given.notes
    if lab.fabric.given.unpredictable:
        yield f"the oracle does not judge this lab: {lab.fabric.given.unpredictable}"
        return
    for prefix, because in unpredicted(lab.fabric).items():
        yield f"the oracle does not judge {prefix}: {because}"


def _address(lab: Lab, port: Port, family: int) -> str | None:
    """The address of a port; None where somebody else's lab has none."""
    try:
        return str(addressing.port_interface(lab.fabric, port, family))
    except SpecError:
        return None


def shell_of(lab: Lab, node: str) -> tuple[str, ...]:
    """The command a person wants on that node."""
    return driver(lab.node(node).kind).shell()


def python_shell(lab: Lab) -> None:
    """A Python prompt with the lab in it."""
    names = {"lab": lab, "fabric": lab.fabric, "nodes": lab.nodes}
    code.interact(banner=f"{lab!r}\nnames: {', '.join(names)}", local=names, exitmsg="")


def show_validation(files: Sequence[str], form: str) -> int:
    """Check files one by one; 2 when one is wrong."""
    results = []
    for file in files:
        try:
            results.append({"file": file, "ok": True, "found": _what(file)})
        except SpecError as error:
            results.append({"file": file, "ok": False, "found": str(error)})
    if form == "json":
        emit_json({"schema": SCHEMA, "files": results})
    else:
        for result in results:
            say(f"{result['file']}: ok, {result['found']}" if result["ok"] else str(result["found"]))
    return 0 if all(result["ok"] for result in results) else 2


def _what(file: str) -> str:
    """What a file describes, in a few words. Raises SpecError."""
    from labs.load import load_lab
    from labs.scenarios.load import catalog_names, is_scenario, load_scenario

    if is_foreign(file):
        rendered = from_file(file, name=None, seed=0, images={})
        name, fabric = rendered.name, rendered.fabric
    elif file in catalog_names() or (is_path(file) and is_scenario(read(Path(file)))):
        scenario = load_scenario(file)[0]
        return f"{scenario.name}: {len(scenario.steps)} steps, {len(scenario.claims)} claims, on {scenario.lab}"
    else:
        spec, fabric = load_lab(file, seed=0, kinds=KINDS)
        name = spec.name
    return f"{name}: {len(fabric.switches)} switches, {len(fabric.hosts)} hosts, {len(fabric.links)} links"


def write_rendering(lab: RenderedLab, out: Path, *, dry_run: bool) -> None:
    """Write every rendered file below `out`. Raises SpecError when that folder holds something else."""
    if lab.foreign is not None:
        raise SpecError(f"{lab.foreign.topology} is a containerlab file", allowed="a lab or fabric: there we render")
    if out.exists() and any(out.iterdir()):
        raise SpecError(f"--out {out} is not empty", allowed="a folder that is empty or does not exist")
    files = {f"{lab.name}.clab.yml": clab_text(lab), **{str(path): text for path, text in lab.files.items()}}
    for name, text in files.items():
        if not dry_run:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_text(text)
    say(f"{len(files)} files {'would go' if dry_run else 'written'} to {out}")


def show_routes(lab: Lab, node: str, form: str) -> int:
    """A node's routes beside the oracle's; 1 where a switch's differ."""
    live = lab.node(node)
    seen = lab.routes(node)
    predictable = lab.fabric.given is None or not lab.fabric.given.unpredictable
    tables = route_tables(lab.fabric, None if lab.rendered.spec.ipv6 else 4) if predictable else {}
    expected = tables.get(live.name, {})
    prefixes = sorted(set(seen.routes) | set(expected), key=lambda p: (p.version, p.network_address, p.prefixlen))
    rows: list[dict[str, Any]] = [
        {
            "prefix": str(prefix),
            "ports": sorted(seen.routes.get(prefix, ())),
            "expected": sorted(expected[prefix]) if prefix in expected else None,
        }
        for prefix in prefixes
    ]
    if form == "json":
        emit_json({"schema": SCHEMA, "lab": lab.name, "node": live.name, "routes": rows})
    else:
        emit_table(
            ("prefix", "ports", "oracle"),
            [
                (
                    row["prefix"],
                    " ".join(row["ports"]) or "none",
                    "as expected" if row["expected"] == row["ports"] else " ".join(row["expected"] or ["-"]),
                )
                for row in rows
            ],
        )
    for note in () if predictable else _notes(lab):
        say(note)
    judged = {prefix for table in tables.values() for prefix in table}
    return 1 if live.node.is_switch and any(differences_of(expected, seen.routes, judged)) else 0


def show_sessions(lab: Lab, node: str, form: str) -> int:
    """A switch's sessions; 1 when one is not established."""
    found = lab.sessions(node)
    rows = [
        {
            "peer": s.peer,
            "asn": s.remote_asn,
            "state": s.state,
            "uptime_s": s.uptime_s,
            "prefixes_received": s.prefixes_received,
        }
        for s in found
    ]
    if form == "json":
        emit_json({"schema": SCHEMA, "lab": lab.name, "node": node, "sessions": rows})
    else:
        emit_table(("peer", "asn", "state", "up (s)", "prefixes"), [tuple(row.values()) for row in rows])
    return 0 if all(session.established for session in found) else 1


def show_path(lab: Lab, src: str, dst: str, *, proto: str, ipv6: bool, form: str, **told: Any) -> int:
    """One flow's path; `told` as `Lab.path` takes it. 1 when it does not arrive."""
    found = lab.path(src, dst, transport=Transport(proto), family=6 if ipv6 else 4, **told)
    if form == "json":
        hops = [{"node": hop.node, "in": hop.in_port, "out": hop.out_port, "one_of": hop.ways} for hop in found.hops]
        flow = {"src": found.five_tuple.src, "dst": found.five_tuple.dst, "proto": proto, **told}
        emit_json(
            {"schema": SCHEMA, "lab": lab.name, "flow": flow, "hops": hops, "end": found.end, "broken": found.broken}
        )
    else:
        say(str(found.five_tuple))
        several = [f"one of {', '.join(hop.ways)}" if hop.also else hop.out_port for hop in found.hops]
        rows = [(hop.node, hop.in_port, out) for hop, out in zip(found.hops, several, strict=True)]
        emit_table(("node", "in", "out"), [*rows, (found.end or found.broken, None, None)])
    return 0 if found.end == dst else 1


def show_doctor(form: str) -> int:
    """Every finding; 2 when something that labs need is missing."""
    from labs.doctor import examine

    findings = examine()
    sound = all(f.ok for f in findings if f.needed)
    if form == "json":
        rows = [
            {"name": f.name, "ok": f.ok, "needed": f.needed, "found": f.found, "remedy": None if f.ok else f.remedy}
            for f in findings
        ]
        emit_json({"schema": SCHEMA, "ok": sound, "findings": rows})
    else:
        words = {True: "ok", False: "missing"}
        emit_table(
            ("what", "", "found", "remedy"),
            [
                (f.name, words[f.ok] if f.needed or f.ok else "optional", f.found, "" if f.ok else f.remedy)
                for f in findings
            ],
        )
    return 0 if sound else 2


def show_reaped(found: Sequence[Leftover], form: str, *, dry_run: bool) -> None:
    """What was left behind, and is gone now."""
    if form == "json":
        rows = [{"lab": leftover.name, "because": leftover.because, "changes": leftover.changes} for leftover in found]
        emit_json({"schema": SCHEMA, "dry_run": dry_run, "leftovers": rows})
        return
    for leftover in found:
        done = "would be undone" if dry_run else "undone"
        say(f"{leftover.name}: {leftover.because}; {leftover.changes} changes {done}")
    if not found:
        say("nothing was left behind")
