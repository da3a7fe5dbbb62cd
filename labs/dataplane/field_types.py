"""The types of CONFIG_DB's fields: text as CONFIG_DB has it, or plainly as YAML has it.

Each is read by a function that raises ValueError, and says what it allows in words (`ALLOWED`) beside its JSON Schema.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from topologies.validation import ALLOWED


@dataclass(frozen=True, slots=True)
class Number:
    """An integer, plain or as text. `words` describe it where the bounds alone do not."""

    least: int
    most: int
    words: str = ""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        plain = {"type": "integer", "minimum": self.least, "maximum": self.most}
        text = {"type": "string", "pattern": "^-?[0-9]{1,10}$"}
        return {"anyOf": [plain, text], ALLOWED: self.words or f"an integer from {self.least} to {self.most}"}

    def read(self, value: object) -> int:
        """The number. Raises ValueError, which becomes an error with the words for what is allowed."""
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,10}", value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not self.least <= value <= self.most:
            raise ValueError
        return value


class Flag:
    """true or false, plain or as text."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._read)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"enum": [True, False, "true", "false"], ALLOWED: "true or false"}

    @staticmethod
    def _read(value: object) -> bool:
        if isinstance(value, bool):
            return value
        if value in {"true", "false"}:
            return value == "true"
        raise ValueError


class Priorities:
    """PFC priorities as CONFIG_DB lists them: "3,4"."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._read)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        text = {"type": "string", "pattern": "^([0-7](,[0-7])*)?$"}
        plain = {"type": "integer", "minimum": 0, "maximum": 7}
        return {"anyOf": [text, plain], ALLOWED: 'priorities 0 to 7 with commas between, such as "3,4"'}

    @staticmethod
    def _read(value: object) -> frozenset[int]:
        text = str(value)
        if isinstance(value, bool) or not re.fullmatch(r"([0-7](,[0-7])*)?", text):
            raise ValueError
        listed = [int(word) for word in text.split(",") if word]
        if len(set(listed)) < len(listed):
            raise ValueError
        return frozenset(listed)


@dataclass(frozen=True, slots=True)
class LeafList:
    """Some of these words, none twice: a list, or text with commas between, as CONFIG_DB keeps a YANG leaf-list.

    `read` takes any words: whether each is allowed is for a rule to say, which can name the one that is not.
    """

    allowed: tuple[str, ...]
    words: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        one = "|".join(self.allowed)
        listed = {"type": "array", "items": {"enum": list(self.allowed)}, "minItems": 1, "uniqueItems": True}
        text = {"type": "string", "pattern": f"^({one})(,({one}))*$"}
        return {"anyOf": [listed, text], ALLOWED: f"{self.words}: {', '.join(self.allowed)}"}

    def read(self, value: object) -> tuple[str, ...]:
        """The words as they stand there. Raises ValueError, which becomes an error that lists what is allowed."""
        listed = value.split(",") if isinstance(value, str) else value
        if not isinstance(listed, list) or not listed or not all(isinstance(word, str) for word in listed):
            raise ValueError
        return tuple(listed)
