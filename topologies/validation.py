"""One clear error out of what pydantic found in a file: where, what was found, and what is allowed there.

What is allowed is read from the model's own JSON Schema, so that an error and an editor's hint agree. A field
whose rule no schema keyword says gives it in words under `ALLOWED`, a mapping that of its keys under `ALLOWED_KEYS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from topologies.errors import SpecError
from topologies.yaml_source import KeyPath, Source, show

ALLOWED = "x-allowed"
ALLOWED_KEYS = "x-allowed-keys"
_MISSING = "the key is missing"
_Schema = Mapping[str, Any]


class Strict(BaseModel):
    """What a file may hold: no unknown keys, and no value of another type that could be turned into the right one."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


ModelT = TypeVar("ModelT", bound=BaseModel)


def validated(model: type[ModelT], source: Source, at: KeyPath = ()) -> ModelT:
    """What stands at `at` in the source, as `model`. Raises SpecError for the first thing that is wrong."""
    try:
        return model.model_validate(source.at(at))
    except ValidationError as error:
        raise first_error(error, model, source, at) from None


def first_error(error: ValidationError, model: type[BaseModel], source: Source, at: KeyPath = ()) -> SpecError:
    """The first thing (by line) that pydantic found wrong, as one error in our words; says how many more there are."""
    schema = _schema_of(model)
    errors = [_one_error(details, schema, source, at) for details in error.errors(include_url=False)]
    # A missing key is often a misspelt one: the unknown key says more.
    first, *others = sorted(errors, key=lambda found: (found.found == _MISSING, found.where.line or 0))
    if not others:
        return first
    more = f"{len(others)} more error{'s' if len(others) > 1 else ''}"
    return SpecError(first.found, allowed=f"{first.allowed} (and {more})", where=first.where)


def _one_error(details: ErrorDetails, root: _Schema, source: Source, at: KeyPath) -> SpecError:
    loc = details["loc"]
    schema = _schema_at(root, loc)
    match details["type"]:
        case "missing":
            found, allowed = _MISSING, describe(root, schema)
        case "extra_forbidden":
            keys = list(_below(root, _schema_at(root, loc[:-1])).get("properties", ()))
            found, allowed = f"there is no such key{meant(str(loc[-1]), keys)}", _listed(keys)
        case _ if loc and loc[-1] == "[key]":
            *above, key, _ = loc
            keys, allowed = _keys(_schema_at(root, tuple(above)))
            found = f"found the key {show(key)}{meant(str(key), keys)}"
            where = replace(source.where((*at, *above, key)), key=source.where((*at, *above)).key)
            return SpecError(found, allowed=allowed, where=where)
        case _:
            found = f"found {show(details['input'])}{meant(str(details['input']), schema.get('enum', []))}"
            allowed = describe(root, schema)
    return source.error((*at, *loc), found, allowed=allowed)


def describe(root: _Schema, schema: _Schema) -> str:
    """What a JSON Schema allows, in words. `root` is where its references lead."""
    schema = _resolved(root, schema)
    if ALLOWED in schema:
        return str(schema[ALLOWED])
    if "anyOf" in schema:
        return " or ".join(describe(root, one) for one in schema["anyOf"] if one.get("type") != "null")
    if "enum" in schema or "const" in schema:
        return _listed(schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return "a list, each " + describe(root, schema.get("items", {}))
    if schema.get("type") == "object":
        return _mapping(root, schema)
    words = {"integer": _integer(schema), "boolean": "true or false", "string": "text"}
    return words.get(str(schema.get("type")), "another value")


def _mapping(root: _Schema, schema: _Schema) -> str:
    if "properties" in schema:
        return "a mapping with the keys " + _listed(list(schema["properties"]))
    words, _ = _keys(schema)
    return f"a mapping of {_listed(words) or 'names'} to {describe(root, _values(schema))}"


def _integer(schema: _Schema) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and most is not None:
        return f"an integer from {least} to {most}"
    return "an integer" if least is None else f"an integer of at least {least}"


@lru_cache
def _schema_of(model: type[BaseModel]) -> _Schema:
    return model.model_json_schema()


def _resolved(root: _Schema, schema: _Schema) -> _Schema:
    """The schema behind references, and the one that is not null of an optional field."""
    while True:
        if "$ref" in schema:
            schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
            continue
        choices = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
        if ALLOWED in schema or len(choices) != 1:
            return schema
        schema = choices[0]


def _schema_at(root: _Schema, loc: tuple[str | int, ...]) -> _Schema:
    schema = _resolved(root, root)
    for step in loc:
        schema = _below(root, schema)
        if isinstance(step, int):
            inner = schema.get("items", {})
        else:
            inner = schema.get("properties", {}).get(step, _values(schema))
        schema = _resolved(root, inner)
    return schema


def _below(root: _Schema, schema: _Schema) -> _Schema:
    """The mapping or list among the choices of a field, which may be false or nothing as well."""
    for choice in (_resolved(root, one) for one in schema.get("anyOf", ())):
        if not {"properties", "items"}.isdisjoint(choice):
            return choice
    return schema


def _values(schema: _Schema) -> _Schema:
    """What the values of a mapping with free keys look like."""
    for values in schema.get("patternProperties", {}).values():
        return values  # type: ignore[no-any-return]  # JSON Schema is untyped
    values = schema.get("additionalProperties", {})
    return values if isinstance(values, dict) else {}


def _keys(schema: _Schema) -> tuple[list[str], str]:
    """What the keys of a mapping may be: the words where they are listed, and the rule as text."""
    words = list(schema.get("propertyNames", {}).get("enum", ()))
    return words, _listed(words) or str(schema.get(ALLOWED_KEYS, "names"))


def meant(word: str, words: Iterable[object]) -> str:
    """``(did you mean leaves?)``, or nothing when no word is near."""
    near = get_close_matches(word, [str(one) for one in words], n=1, cutoff=0.6)
    return f" (did you mean {near[0]}?)" if near and near[0] != word else ""


def _listed(values: list[Any]) -> str:
    return ", ".join(show(value) if not isinstance(value, str) else value for value in values)
