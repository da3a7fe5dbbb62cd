"""How the switches of a profile, or of a lab, choose among equal-cost next hops: those that agree once."""

from __future__ import annotations

from dataclasses import dataclass

from labs.dataplane.config_db import EVERY
from labs.dataplane.ecmp_intent import ecmp_rules
from labs.dataplane.plan import LabPlan
from labs.dataplane.profile import Profile
from labs.dataplane.selectors import best_for, switch_selector
from topologies.ecmp import EcmpBy, EcmpMode, EcmpRule
from topologies.fabric import Tier

SWITCH_TIERS = tuple(tier for tier in Tier if tier is not Tier.HOST)


@dataclass(frozen=True, slots=True)
class Choice:
    """What one rule is for. `seeded` False: its seed is the lab's, by tier, and not known without one."""

    switches: tuple[str, ...]
    classes: tuple[int, ...]
    rule: EcmpRule
    seeded: bool = True

    @property
    def hashes(self) -> bool:
        """True where the fields of some packet decide."""
        rule = self.rule
        by_turns = rule.mode is EcmpMode.ADAPTIVE and rule.by is EcmpBy.PACKET and not rule.marked
        return not (rule.mode in {EcmpMode.KERNEL, EcmpMode.SPRAY} or rule.by is EcmpBy.RAIL or by_turns)


def stated(profile: Profile) -> tuple[Choice, ...]:
    """What a profile says without a lab: of all switches or tier by tier, and of those that it names."""
    rows = profile.rows
    named = {switch_selector(key).node or "" for table in (rows.SWITCH_TABLE, rows.RAILBED_ECMP) for key in table}
    found: list[Choice] = []
    for node in sorted({"", *named}):
        said = {}
        for tier in SWITCH_TIERS:
            key = best_for(rows.SWITCH_TABLE, node, tier)
            seeded = key is not None and rows.SWITCH_TABLE[key].ecmp_hash_seed is not None
            said[tier] = _choices((), ecmp_rules(rows, node, tier, 0), seeded=seeded)
        if len(set(said.values())) == 1:
            found += _of((node or EVERY,), said[Tier.LEAF])
            continue
        for tier, choices in said.items():
            found += _of((f"{node} as a {tier}" if node else f"tier:{tier}",), choices)
    return tuple(found)


def played(plan: LabPlan) -> tuple[Choice, ...]:
    """What the switches of a lab do."""
    agreeing: dict[tuple[EcmpRule, ...], list[str]] = {}
    for node in plan.nodes:
        if node.ecmp:
            agreeing.setdefault(node.ecmp, []).append(node.name)
    return tuple(choice for rules, names in agreeing.items() for choice in _choices(tuple(names), rules))


def _choices(switches: tuple[str, ...], rules: tuple[EcmpRule, ...], *, seeded: bool = True) -> tuple[Choice, ...]:
    return tuple(
        Choice(switches, tuple(tc for tc, one in enumerate(rules) if one == rule), rule, seeded)
        for rule in dict.fromkeys(rules)
    )


def _of(switches: tuple[str, ...], choices: tuple[Choice, ...]) -> list[Choice]:
    return [Choice(switches, one.classes, one.rule, one.seeded) for one in choices]
