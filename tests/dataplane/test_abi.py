"""abi.py against what the compiler made of asic.h: names, offsets, sizes and numbers, as the objects' BTF has them.

An object carries the types that its program and its maps use. The rest of asic.h, its enums above all, is compiled
here into an object of its own, by the same compiler.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import labs.dataplane
from labs.dataplane import abi

Types = list[dict[str, Any]]
Layout = dict[str, tuple[int, int]]  # field -> offset and size in bytes

ASIC_H = Path(str(labs.dataplane.__file__)).parent / "bpf" / "asic.h"
MAP_VALUES = {
    "ports": "port_state",
    "profiles": "port_profile",
    "queues": "queue_state",
    "groups": "pg_state",
    "pools": "pool_state",
    "impairments": "impairment",
    "receivers": "receiver",
    "asicd": "asicd_state",
}
ENGINE_MAP_VALUES = {"ecmps": "ecmp_profile", "ecmp_counts": "ecmp_count", "flowlets": "flowlet"}
EVERYTHING = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "asic.h"
{uses}
"""


def size_of(types: Types, number: int) -> int:
    kind = types[number - 1]
    match kind["kind"]:
        case "ARRAY":
            return size_of(types, kind["type_id"]) * int(kind["nr_elems"])
        case "TYPEDEF" | "CONST" | "VOLATILE":
            return size_of(types, kind["type_id"])
        case "PTR":
            return 8
    return int(kind["size"])


def layout(types: Types, name: str) -> tuple[Layout, int] | None:
    """A structure's fields and its size, or None where an object has no use for it."""
    for kind in types:
        if kind["kind"] == "STRUCT" and kind["name"] == name:
            fields = {m["name"]: (m["bits_offset"] // 8, size_of(types, m["type_id"])) for m in kind["members"]}
            return fields, kind["size"]
    return None


def ours(name: str) -> tuple[Layout, int]:
    struct = abi.STRUCTS[name]
    fields = {field[0]: getattr(struct, field[0]) for field in struct._fields_}
    return {field: (where.offset, where.size) for field, where in fields.items()}, ctypes.sizeof(struct)


def enums(types: Types) -> dict[str, dict[str, int]]:
    return {
        kind["name"]: {value["name"]: value["val"] for value in kind["values"]}
        for kind in types
        if kind["kind"] == "ENUM"
    }


def said_to_be(types: Types, map_name: str) -> Types:
    """Where an object declares a map."""
    return [kind for kind in types if kind["kind"] == "VAR" and kind["name"] == map_name]


def pointed_to(types: Types, declared: dict[str, Any], member: str) -> dict[str, Any]:
    """What a map's `key` or `value` is."""
    value = next(m for m in declared["members"] if m["name"] == member)
    found: dict[str, Any] = types[types[value["type_id"] - 1]["type_id"] - 1]
    return found


def value_of(types: Types, map_name: str) -> str:
    (declared,) = said_to_be(types, map_name)
    return str(pointed_to(types, types[declared["type_id"] - 1], "value")["name"])


@pytest.fixture(scope="session")
def compiled(objects: Mapping[str, Path], btf: Callable[[Path], Types]) -> Mapping[str, Types]:
    return {name: btf(objects[name]) for name in ("ingress", "egress", "repair", "hash")}


def everything(header: str, folder: Path, compile_program: Callable[..., Path]) -> Path:
    """An object in which every structure and enum of a header has a use."""
    (folder / "asic.h").write_text(header)
    tags = re.findall(r"^(struct|enum) (\w+) \{", header, re.MULTILINE)
    uses = "\n".join(f"{kind} {name} use_{name};" for kind, name in tags)
    source = folder / "everything.bpf.c"
    source.write_text(EVERYTHING.format(uses=uses))
    return compile_program(source, folder, folder)


@pytest.fixture(scope="session")
def header(
    compile_program: Callable[..., Path], btf: Callable[[Path], Types], tmp_path_factory: pytest.TempPathFactory
) -> Types:
    return btf(everything(ASIC_H.read_text(), tmp_path_factory.mktemp("abi"), compile_program))


@pytest.mark.parametrize("name", abi.STRUCTS)
def test_structures(compiled: Mapping[str, Types], header: Types, name: str) -> None:
    assert layout(header, name) == ours(name)
    for program, types in compiled.items():
        assert layout(types, name) in (None, ours(name)), program


@pytest.mark.parametrize(("map_name", "struct"), MAP_VALUES.items())
def test_the_values_of_maps(compiled: Mapping[str, Types], map_name: str, struct: str) -> None:
    """In every object a map of this name has values of this structure."""
    for types in compiled.values():
        assert value_of(types, map_name) == struct
        assert layout(types, struct) == ours(struct)


@pytest.mark.parametrize(("map_name", "struct"), ENGINE_MAP_VALUES.items())
def test_the_values_of_the_hash_engines_maps(compiled: Mapping[str, Types], map_name: str, struct: str) -> None:
    """The engine's object alone has them; no other makes them."""
    assert value_of(compiled["hash"], map_name) == struct
    assert layout(compiled["hash"], struct) == ours(struct)
    assert [name for name, types in compiled.items() if any(said_to_be(types, map_name))] == ["hash"]


def test_the_routes_of_a_switch(compiled: Mapping[str, Types]) -> None:
    """A map of maps says how large the inner ones' keys and values are."""
    types = compiled["hash"]
    (trie,) = [kind for kind in types if kind["kind"] == "STRUCT" and kind["name"] == "routes_of_a_switch"]
    sizes = {
        member["name"]: types[types[member["type_id"] - 1]["type_id"] - 1].get("nr_elems") for member in trie["members"]
    }
    assert (sizes["key_size"], sizes["value_size"]) == (ours("route_key")[1], ours("ecmp_group")[1])
    assert said_to_be(types, "routes")


@pytest.mark.parametrize("name", abi.ENUMS)
def test_enums(header: Types, name: str) -> None:
    prefix, mirror = abi.ENUMS[name]
    assert {prefix + member.name: member.value for member in mirror if member.name} == enums(header)[name]


def test_nothing_is_left_out(header: Types) -> None:
    structs = {t["name"] for t in header if t["kind"] == "STRUCT"} - {"bpf_spin_lock"}
    assert structs == set(abi.STRUCTS)
    assert set(enums(header)) == set(abi.ENUMS)


@pytest.mark.parametrize(
    ("was", "made", "struct"),
    [
        (
            "\t__u32 saddr;\t\t/* IPv4, network order */\n\t__u32 daddr;\n",
            "\t__u32 daddr;\n\t__u32 saddr;\n",
            "impairment",
        ),
        ("\t__u8 ecn;\t", "\t__u16 ecn;\t", "wred_profile"),
        ("\t__u64 unstamped;", "\t__u64 stampless;", "port_state"),
        ("\t__u64 pfc_rx[QUEUES];", "\t__u64 pfc_rx[4];", "port_state"),
    ],
    ids=["moved", "wider", "renamed", "shorter"],
)
def test_a_field_that_moves_is_seen(
    tmp_path: Path,
    compile_program: Callable[..., Path],
    btf: Callable[[Path], Types],
    was: str,
    made: str,
    struct: str,
) -> None:
    text = ASIC_H.read_text()
    assert was in text
    changed = text.replace(was, made, 1)
    assert layout(btf(everything(changed, tmp_path, compile_program)), struct) != ours(struct)


def test_a_number_that_changes_is_seen(
    tmp_path: Path, compile_program: Callable[..., Path], btf: Callable[[Path], Types]
) -> None:
    changed = ASIC_H.read_text().replace("EVENT_SLOW = 4", "EVENT_SLOW = 5")
    seen = enums(btf(everything(changed, tmp_path, compile_program)))
    prefix, mirror = abi.ENUMS["event_kind"]
    assert seen["event_kind"] != {prefix + member.name: member.value for member in mirror if member.name}
