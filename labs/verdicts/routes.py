"""Do the switches forward by the routes the design calls for, over the sessions it calls for?"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from labs.telemetry.samples import BgpSession, PingSample, Prefix, RouteTable
from labs.verdicts import Evidence, Verdict

MOST_ROWS = 12


def routes_match(
    expected: Mapping[str, Mapping[Prefix, frozenset[str]]],
    seen: Iterable[RouteTable],
    *,
    ours: Collection[Prefix] | None = None,
) -> Verdict:
    """Judge that every switch forwards every prefix over exactly the expected ports.

    Args:
        expected: node to prefix to egress ports, as the oracle has it; an empty set means: no route.
        seen: what the switches forward by; tables of nodes that `expected` does not name are not judged.
        ours: every prefix the fabric originates; only a route to one of these can be unexpected, so that
            connected and management routes are not judged. Default: every prefix that `expected` names anywhere.

    Invalid when nothing is expected, or when a node gave no table and no difference was found elsewhere.
    """
    tables = {table.node: table.routes for table in seen}
    judged = ours if ours is not None else {prefix for routes in expected.values() for prefix in routes}
    silent = sorted(expected.keys() - tables.keys())
    differences = [
        f"{node}: {line}"
        for node, routes in expected.items()
        if node in tables
        for line in differences_of(routes, tables[node], judged)
    ]
    wanted = sum(bool(ports) for routes in expected.values() for ports in routes.values())
    numbers: dict[str, object] = {"nodes": len(expected), "routes_expected": wanted, "differences": len(differences)}
    if silent:
        numbers["no_table_from"] = silent
    said = f"{len(differences)} of {wanted} routes differ" if differences else f"{wanted} routes are as designed"
    verdict = Verdict(
        f"every route of {len(expected)} switches has exactly the designed next hops",
        not differences and not silent and wanted > 0,
        Evidence(said, numbers, _first(differences)),
    )
    if differences or (wanted and not silent):
        return verdict
    return verdict.invalid(f"no route table from {', '.join(silent)}" if silent else "no route is expected anywhere")


def tables_still(
    before: Mapping[str, Mapping[Prefix, frozenset[str]]],
    after: Mapping[str, Mapping[Prefix, frozenset[str]]],
    because: str,
) -> Verdict:
    """Judge that no table changed between two looks: all that can be said of a fabric that the oracle cannot predict.

    Args:
        before, after: node to prefix to egress ports.
        because: why the oracle was not asked.

    Invalid when no node gave a table.
    """
    changed = [
        f"{node}: {line}"
        for node, routes in after.items()
        for line in differences_of(before.get(node, {}), routes, {*before.get(node, {}), *routes})
    ]
    routes = sum(len(table) for table in after.values())
    said = f"{len(changed)} routes changed" if changed else f"{routes} routes stand still"
    verdict = Verdict(
        f"the tables of {len(after)} nodes stand still",
        not changed and before.keys() == after.keys(),
        Evidence(
            f"{said}; the oracle was not asked: {because}",
            {"nodes": len(after), "routes": routes, "changed": len(changed), "oracle": because},
            _first(changed),
        ),
    )
    return verdict if after else verdict.invalid("no node gave a table")


def sessions_established(sessions: Iterable[BgpSession], expected_sessions: int) -> Verdict:
    """Judge that exactly `expected_sessions` session ends (two for each session) are up and none is not.

    Invalid when none is expected.
    """
    listed = tuple(sessions)
    down = [_session_row(session) for session in listed if not session.established]
    up = len(listed) - len(down)
    verdict = Verdict(
        f"{expected_sessions} BGP session ends are established",
        not down and up == expected_sessions and expected_sessions > 0,
        Evidence(
            f"{up} of {expected_sessions} session ends are established",
            {"established": up, "expected": expected_sessions, "not_established": len(down)},
            _first(down),
        ),
    )
    return verdict if expected_sessions else verdict.invalid("no session is expected")


def converged(
    sessions: Iterable[BgpSession],
    *,
    expected_sessions: int,
    routes: Verdict,
    pings: Iterable[PingSample],
    took_s: float,
    within_s: float,
) -> Verdict:
    """Judge that the fabric came to rest as designed, in time: sessions up, routes as designed, pings answered.

    Args:
        expected_sessions: session ends, two for each session.
        routes: what `routes_match` said.
        pings: probes between hosts; none at all is allowed (a lab without hosts) and said in the evidence.
        took_s, within_s: when the last look was taken, and the time allowed, in seconds.

    A fabric of one switch has no sessions and learns no routes: its pings alone are judged, and then there must be
    some. A fabric without BGP has no sessions either. Invalid when one of the parts cannot vouch for itself and no
    other part is false.
    """
    pings = tuple(pings)
    parts: tuple[Verdict, ...] = (sessions_established(sessions, expected_sessions), routes, _pings_answered(pings))
    if not expected_sessions:
        parts = parts[_first_part(routes, pings) :]
    late = took_s > within_s
    broken = [part for part in parts if part.valid and not part.held]
    doubtful = [part for part in parts if not part.valid]
    said = "; ".join(part.evidence.summary for part in parts)
    when = f"{'too late: ' if late and not broken else ''}at {took_s:.2f} s, allowed {within_s:g} s"
    verdict = Verdict(
        f"converged within {within_s:g} s",
        not broken and not doubtful and not late,
        Evidence(
            f"{said}; {when}",
            {"took_s": round(took_s, 3), "within_s": within_s}
            | {name: part.evidence.as_dict() for name, part in zip(_PARTS[-len(parts) :], parts, strict=True)},
            tuple(row for part in broken for row in part.evidence.rows)[: MOST_ROWS + 1],
        ),
        budget_s=within_s,
    )
    if doubtful and not broken:
        return replace(verdict, valid=False, invalid_because=doubtful[0].invalid_because)
    return verdict


_PARTS = ("sessions", "routes", "pings")


def _first_part(routes: Verdict, pings: tuple[PingSample, ...]) -> int:
    """The first of _PARTS that a fabric without sessions is judged by."""
    if "oracle" in routes.evidence.numbers:
        return 1
    return 2 if pings and not routes.evidence.numbers.get("routes_expected") else 0


def differences_of(
    expected: Mapping[Prefix, frozenset[str]], has: Mapping[Prefix, frozenset[str]], judged: Collection[Prefix]
) -> Iterator[str]:
    """One line for each prefix of one switch that is not forwarded as expected; `judged` as in `routes_match`."""
    for prefix, ports in expected.items():
        found = has.get(prefix, frozenset())
        if found == ports:
            continue
        if not ports:
            yield f"{prefix}: unexpected (via {_ports(found)})"
        elif not found:
            yield f"{prefix}: absent (expected {_ports(ports)})"
        else:
            wrong = [f"{word} {_ports(some)}" for word, some in _apart(ports, found) if some]
            yield f"{prefix}: {', '.join(wrong)} (has {_ports(found)})"
    for prefix, found in has.items():
        if prefix not in expected and prefix in judged:
            yield f"{prefix}: unexpected (via {_ports(found)})"


def _apart(expected: frozenset[str], found: frozenset[str]) -> tuple[tuple[str, frozenset[str]], ...]:
    return (("missing", expected - found), ("extra", found - expected))


def _ports(names: frozenset[str]) -> str:
    return ", ".join(sorted(names, key=lambda name: (len(name), name))) or "no port"


def _first(rows: Sequence[str]) -> tuple[str, ...]:
    more = (f"… {len(rows) - MOST_ROWS} more",) if len(rows) > MOST_ROWS else ()
    return (*rows[:MOST_ROWS], *more)


def _session_row(session: BgpSession) -> str:
    return f"{session.node}: {session.port} to {session.peer} is {session.state}"


def _pings_answered(pings: tuple[PingSample, ...]) -> Verdict:
    sent, lost = sum(ping.sent for ping in pings), sum(ping.lost for ping in pings)
    rows = [
        f"{ping.src} > {ping.dst} (IPv{ping.family}): {ping.lost} of {ping.sent} lost" for ping in pings if ping.lost
    ]
    said = f"{sent - lost} of {sent} pings answered" if pings else "no pings: no pair of hosts was probed"
    numbers = {"pairs": len(pings), "sent": sent, "lost": lost}
    verdict = Verdict("every ping is answered", not lost, Evidence(said, numbers, _first(rows)))
    return verdict.invalid("pings were to be sent and none was") if pings and not sent else verdict
