"""Profiles from YAML or JSON. Names in `labs/dataplane/profiles/` need no path.

base: roce_default                     begin from a shipped profile, then row by row, field by field:
WRED_PROFILE:
  rdma: {green_max_threshold: 800000}  one field of a row is another
QUEUE:
  "*|4": {scheduler: bulk}             a row more, which wins over `*|3-4` for queue 4
PFC_WD:
  "*": ~                               a row less
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from labs.dataplane.config_db import ProfileFile
from labs.dataplane.ecmp_rules import check_classes
from labs.dataplane.port_rules import check_ports
from labs.dataplane.profile import Profile
from labs.dataplane.profile_rules import check_played, check_rows, without_effect
from topologies.load import is_path, stem, unknown_name
from topologies.validation import meant, validated
from topologies.yaml_source import KeyPath, Marked, Source, read, show

PROFILES = Path(__file__).parent / "profiles"
BASE = "base"


def catalog() -> tuple[str, ...]:
    """The names of the profiles that come with railbed, sorted."""
    return tuple(sorted(path.stem for path in PROFILES.glob("*.yaml")))


def load_profile(ref: str, folder: Path | None = None) -> Profile:
    """The profile of that name among those that come with railbed, or in the file at that path.

    A path is relative to `folder`, that of the file which names the profile. Raises SpecError with file, line and key.
    """
    if ref in catalog():
        source = _shipped(ref)
    elif is_path(ref):
        source = read((folder or Path()) / ref)
    else:
        raise unknown_name("profile", ref, {"profiles": catalog()})
    return profile_of(source, name=stem(ref, source))


def profile_of(source: Source, *, name: str) -> Profile:
    """The profile that a source holds. Raises SpecError with file, line and key."""
    whole = _on_its_base(source)
    check_played(whole)
    rows = validated(ProfileFile, whole)
    check_rows(rows, whole)
    profile = Profile(name, rows, without_effect(rows), whole)
    check_ports(profile, whole)
    check_classes(profile, whole)
    return profile


@lru_cache
def profile_schema() -> Mapping[str, Any]:
    """The JSON Schema (draft 2020-12) of a profile file, for editors.

    Looser than `profile_of`: with a base, a row may be incomplete, and anything may be taken out with `~`.
    """
    schema = ProfileFile.model_json_schema()
    rows = {name: {**_loose(row), "required": []} for name, row in schema["$defs"].items()}
    base = {"enum": list(catalog()), "description": schema["properties"].pop(BASE)["description"]}
    tables = _loose(schema)["properties"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "railbed profile",
        "properties": {BASE: base, **tables},
        "$defs": rows,
    }


def _loose(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping's schema in which every value may be nothing, and so may those of the mappings in it."""
    loose = dict(schema)
    for keyword in ("properties", "patternProperties"):
        if keyword in loose:
            loose[keyword] = {
                key: {"anyOf": [_loose(value), {"type": "null"}]} for key, value in loose[keyword].items()
            }
    if "patternProperties" in loose:
        loose["additionalProperties"] = False
    if isinstance(loose.get("additionalProperties"), dict):
        loose["additionalProperties"] = {"anyOf": [_loose(loose["additionalProperties"]), {"type": "null"}]}
    return loose


@lru_cache
def _shipped(ref: str) -> Source:
    """A profile that comes with railbed, read once: it does not change while we run, and everything builds on one."""
    return read(PROFILES / f"{ref}.yaml")


def _on_its_base(source: Source) -> Source:
    """The same source, with what its base says where it says nothing. Errors about that point at the line of `base`."""
    root = source.root
    if not isinstance(root.value, dict) or BASE not in root.value:
        return source
    ref = source.at((BASE,))
    if ref not in catalog():
        found = f"found {show(ref)}{meant(str(ref), catalog())}"
        raise source.error((BASE,), found, allowed=f"a profile that comes with railbed: {', '.join(catalog())}")
    base = _on_its_base(_shipped(str(ref)))
    own = _without(root, BASE)
    return Source(source.file, _merged(_moved(base.root, root.key_lines[BASE]), own, source, ref))


def _moved(base: Marked, line: int) -> Marked:
    """The same values, all on one line."""
    value = base.value
    if isinstance(value, dict):
        value = {key: _moved(item, line) for key, item in value.items()}
    return Marked(line, value, dict.fromkeys(value, line) if isinstance(value, dict) else {})


def _merged(base: Marked, own: Marked, source: Source, ref: str, at: KeyPath = ()) -> Marked:
    """`own` over `base`: mappings key by key, anything else replaced, what is nothing taken out."""
    if not isinstance(base.value, dict) or not isinstance(own.value, dict):
        return own
    items, lines = dict(base.value), dict(base.key_lines)
    for key, item in own.value.items():
        lines[key] = own.key_lines[key]
        if item.value is None and key not in items:
            found = f"found nothing for {show(key)}, which {ref} does not have"
            raise source.error((*at, key), found, allowed="a value, or no such key")
        if item.value is None:
            del items[key], lines[key]
        else:
            items[key] = _merged(items[key], item, source, ref, (*at, key)) if key in items else item
    return Marked(own.line, items, lines)


def _without(mapping: Marked, key: str) -> Marked:
    if not isinstance(mapping.value, dict):
        return mapping
    return replace(mapping, value={name: item for name, item in mapping.value.items() if name != key})
