"""Records whose counters can be subtracted: fields with the metadata COUNT are counters, others are as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any, TypeVar

COUNT: Mapping[str, bool] = MappingProxyType({"counts": True})
Counted = TypeVar("Counted")


def less(later: tuple[Counted, ...], earlier: tuple[Counted, ...]) -> tuple[Counted, ...]:
    """Record by record. Those of one lab stand in one order."""
    return tuple(minus(one, other) for one, other in zip(later, earlier, strict=True))


def minus(later: Counted, earlier: Counted) -> Counted:
    """One record, less what it had counted earlier."""
    record: Any = later
    return type(later)(
        *(
            _apart(getattr(later, one.name), getattr(earlier, one.name)) if one.metadata else getattr(later, one.name)
            for one in fields(record)
        )
    )


def _apart(later: Any, earlier: Any) -> Any:
    if isinstance(later, tuple):
        return tuple(a - b for a, b in zip(later, earlier, strict=True))
    return later - earlier
