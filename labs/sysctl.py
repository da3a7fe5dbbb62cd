"""Settings of the whole workstation that labs raise: shared, so kept as a ledger of who wants what.

Two labs may need the same key. The setting is the largest that any lab wants; the value from before the first
comes back when the last gives it up, unless someone else has changed it in between.
"""

from __future__ import annotations

import json
import os
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


def want(lab: str, key: str, value: int) -> None:
    """Raise a setting to at least `value` on behalf of a lab."""
    with index.locked(_LOCK, wait=True):
        ledger = _load()
        entry = ledger.setdefault(key, {"before": read(key), "wants": {}})
        entry["wants"][lab] = value
        _settle(ledger, key)


def release(lab: str, key: str) -> None:
    """Give up what a lab wanted of a setting; nothing happens when it wanted nothing."""
    with index.locked(_LOCK, wait=True):
        ledger = _load()
        if key in ledger and ledger[key]["wants"].pop(lab, None) is not None:
            _settle(ledger, key)


def _settle(ledger: dict[str, dict], key: str) -> None:  # type: ignore[type-arg]  # JSON
    """Bring one setting to what the ledger says. The ledger is written before a raise and after a restore."""
    entry = ledger[key]
    if entry["wants"]:
        entry["set"] = max(entry["before"], *entry["wants"].values())
        _save(ledger)
        path_of(key).write_text(str(entry["set"]))
        return
    if read(key) == entry.get("set"):
        path_of(key).write_text(str(entry["before"]))
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
