"""What faults change in hosts' RoCE settings: written down beside the journal, read whenever traffic starts.

A connection has its settings for life, as a real queue pair mostly has: traffic that already runs goes on as it began.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from labs import index
from labs.lab import Lab
from traffic.engines.graphs import EngineSettings
from traffic.engines.rc_settings import RcSettings

FILE = "host-traffic.json"
UNCONTROLLED, FIXED_PORT = "uncontrolled", "fixed_port_hosts"  # the fields of RcSettings
WORDS = {UNCONTROLLED: "congestion control off", FIXED_PORT: "one source port"}


def change(lab: str, token: str, setting: str, hosts: Collection[str]) -> None:
    """Have a setting said of hosts from now on, by a fault that `token` stands for."""
    _write(lab, {**_read(lab), token: {"setting": setting, "hosts": sorted(hosts)}})


def take_back(lab: str, token: str) -> None:
    """Say no more what this fault said; idempotent."""
    _write(lab, {known: said for known, said in _read(lab).items() if known != token})


def with_faults(lab: Lab, settings: EngineSettings | None) -> EngineSettings:
    """An engine's settings as a lab's faults change them: of rnic, whose connections have cards that can be faulty."""
    return rnic_with_faults(lab, settings or RcSettings()) if isinstance(settings, RcSettings | None) else settings


def rnic_with_faults(lab: Lab, settings: RcSettings) -> RcSettings:
    """The same of rnic's own settings."""
    said = _read(lab.name).values()
    found = {name: {host for one in said if one["setting"] == name for host in one["hosts"]} for name in WORDS}
    return replace(
        settings,
        uncontrolled=settings.uncontrolled | found[UNCONTROLLED],
        fixed_port_hosts=settings.fixed_port_hosts | found[FIXED_PORT],
    )


def remarks(settings: EngineSettings) -> Mapping[str, list[str]]:
    """What a report has to say of settings that are not the same on all hosts: hosts by what is wrong with them."""
    if not isinstance(settings, RcSettings):
        return {}
    return {words: sorted(getattr(settings, name)) for name, words in WORDS.items() if getattr(settings, name)}


def _path(lab: str) -> Path:
    return index.lab_dir(lab) / FILE


def _read(lab: str) -> dict[str, dict[str, Any]]:
    try:
        found: dict[str, dict[str, Any]] = json.loads(_path(lab).read_text())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return found


def _write(lab: str, said: Mapping[str, Mapping[str, object]]) -> None:
    """In one step: traffic that starts now reads the old file or the new one."""
    if not said:
        _path(lab).unlink(missing_ok=True)
        return
    draft = _path(lab).with_suffix(".new")
    draft.write_text(json.dumps(said))
    draft.replace(_path(lab))
