"""How the classes of a switch choose among equal-cost next hops: the rows of the hash engine's tables, as EcmpRule."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from labs.dataplane.config_db import GLOBAL, EcmpRow, ProfileFile, SwitchHashRow
from labs.dataplane.intent import CLASSES
from labs.dataplane.selectors import best_for
from topologies.ecmp import FIVE_TUPLE, EcmpBy, EcmpMode, EcmpRule, HashAlgorithm, HashField
from topologies.fabric import Tier

# What `by` may be, the first where a row has none; modes that are not here choose in one way only.
BY: Mapping[EcmpMode, tuple[EcmpBy, ...]] = MappingProxyType(
    {
        EcmpMode.SPRAY: (EcmpBy.RANDOM, EcmpBy.ROUND_ROBIN),
        EcmpMode.ADAPTIVE: (EcmpBy.FLOWLET, EcmpBy.PACKET),
        EcmpMode.PINNED: (EcmpBy.QUEUE_PAIR, EcmpBy.RAIL),
    }
)


def ecmp_rules(rows: ProfileFile, node: str, tier: Tier, seed: int) -> tuple[EcmpRule, ...]:
    """The rule of each of a switch's classes. `seed` is its tier's, where SWITCH_TABLE has none for it."""
    key = best_for(rows.SWITCH_TABLE, node, tier)
    switch = rows.SWITCH_TABLE[key] if key else None
    stated = switch.ecmp_hash_seed if switch else None
    offset = (switch.ecmp_hash_offset if switch else None) or 0
    asked = rows.SWITCH_HASH.get(GLOBAL, SwitchHashRow())
    named = [best_for(rows.RAILBED_ECMP, node, tier, index) for index in range(CLASSES)]
    made = {
        key: _rule(rows.RAILBED_ECMP[key], asked, seed if stated is None else stated, offset)
        for key in dict.fromkeys(named)
        if key
    }
    return tuple(made[key] if key else EcmpRule() for key in named)


def _rule(row: EcmpRow, asked: SwitchHashRow, seed: int, offset: int) -> EcmpRule:
    mode = EcmpMode[row.mode.upper()]
    if mode is EcmpMode.KERNEL:
        return EcmpRule()
    fields = HashField(sum(HashField[name] for name in asked.ecmp_hash)) if asked.ecmp_hash else FIVE_TUPLE
    usual = EcmpRule()
    return EcmpRule(
        mode=mode,
        algorithm=HashAlgorithm[asked.ecmp_hash_algorithm or "CRC"],
        fields=fields | HashField.DST_QP if mode is EcmpMode.ROCE else fields,
        seed=seed,
        offset=offset,
        by=EcmpBy[row.by.upper()] if row.by else BY.get(mode, (usual.by,))[0],
        quantum=row.quantum or usual.quantum,
        gap_ns=row.gap_us * 1000 if row.gap_us else usual.gap_ns,
        idle_ms=usual.idle_ms if row.idle_ms is None else row.idle_ms,
        unbalanced_ms=row.unbalanced_ms or 0,
        marked=bool(row.marked),
    )
