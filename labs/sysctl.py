"""Settings of the whole workstation that labs raise: shared, so kept as a ledger of who wants what.

Two labs may need the same key, and what one of them fills the other cannot: the setting is the sum of what all
want, and never less than the value from before the first. That value comes back when the last lab gives the key
up, unless someone else has changed it in between.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from labs import index
from labs.journal import boot_id

_LOCK = "host.sysctl"  # not a lab's name: those have no dot


def path_of(key: str) -> Path:
    """The file behind ``net.ipv4.neigh.default.gc_thresh3``."""
    return Path("/proc/sys", *key.split("."))


def read(key: str) -> int:
    """A numeric setting as it is now. Raises OSError when the kernel has no such key."""
    return int(path_of(key).read_text())


def want(lab: str, settings: Mapping[str, int]) -> None:
    """Add to settings what a lab needs of them."""
    with index.locked(_LOCK, wait=True):
        ledger = _load()
        for key, value in settings.items():
            entry = ledger.setdefault(key, {"before": read(key), "ours": [], "wants": {}})
            entry["wants"][lab] = value
        _settle(ledger, settings)


def release(lab: str, keys: Iterable[str]) -> None:
    """Give up what a lab wanted of settings; nothing happens when it wanted nothing."""
    with index.locked(_LOCK, wait=True):
        ledger = _load()
        known = [key for key in keys if key in ledger]
        for key in known:
            ledger[key]["wants"].pop(lab, None)
        _settle(ledger, known)


def _settle(ledger: dict[str, dict], keys: Iterable[str]) -> None:  # type: ignore[type-arg]  # JSON
    """Bring settings to what the ledger says, from wherever an earlier attempt was killed.

    The ledger is written before a setting is, with every value that may be found there and is ours (`ours`); a key
    that nobody wants leaves it only once the setting is back.
    """
    target = {key: max(ledger[key]["before"], sum(ledger[key]["wants"].values())) for key in keys}
    for key, value in target.items():
        ledger[key]["ours"] = sorted({*ledger[key]["ours"], ledger[key]["before"], value})
    _save(ledger)
    for key, value in target.items():
        now = read(key)
        # A value that is not ours is someone else's decision: it is raised where a lab needs more, never lowered.
        if now != value and (now in ledger[key]["ours"] or (ledger[key]["wants"] and now < value)):
            path_of(key).write_text(str(value))
        if not ledger[key]["wants"]:
            del ledger[key]
    _save(ledger)


def _file() -> Path:
    return index.state_dir() / "sysctl.json"


def _load() -> dict[str, dict]:  # type: ignore[type-arg]  # JSON
    try:
        data = json.loads(_file().read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    # After a restart of the workstation every setting is back by itself.
    return dict(data["keys"]) if data["boot"] == boot_id() else {}


def _save(ledger: dict[str, dict]) -> None:  # type: ignore[type-arg]  # JSON
    draft = _file().with_suffix(".new")
    if not ledger:
        _file().unlink(missing_ok=True)
        draft.unlink(missing_ok=True)
        return
    with draft.open("w") as out:
        json.dump({"boot": boot_id(), "keys": ledger}, out)
        out.flush()
        os.fsync(out.fileno())
    draft.replace(_file())
