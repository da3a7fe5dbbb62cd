"""YAML as a person wrote it: plain values that still know their lines, and errors that name file, line and key.

Stricter than YAML: no tags, no merge keys, no second document, no key twice, and a bound on everything that can
grow (bytes, depth, values after aliases are expanded). Plain words follow YAML 1.2: only true and false are
booleans, so that a node may be called `no`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from topologies.errors import SpecError, Where

MOST_BYTES = 1024 * 1024
MOST_DEPTH = 16
MOST_VALUES = 50_000
MOST_ANCHORS = 32
MOST_DIGITS = 40

KeyPath = tuple[str | int, ...]
Scalar = str | int | float | bool | None

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_NUMBER = re.compile(
    rf"{_INT.pattern}|[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_WORDS: Mapping[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_STANDARD_TAG = "tag:yaml.org,2002:"
# What PyYAML says, in words for somebody who did not write a YAML parser; True where the line to look at is the
# one on which the thing began.
_SAID = (
    ("'\\t' that cannot start any token", "found a tab", "spaces for indentation", False),
    ("could not find expected ':'", "found a line without a ':'", "key: value", True),
    ("mapping values are not allowed", "found a second ':' or a wrong indentation", "one key: value a line", False),
    ("unexpected end of stream", "found an opening quote that is never closed", "a closing quote", True),
    ("expected ',' or ']'", "found a '[' that is never closed", "a closing ']'", True),
    ("expected ',' or '}'", "found a '{' that is never closed", "a closing '}'", True),
    ("but found '<stream end>'", "the file ends inside a list or mapping", "what closes it", False),
    ("expected <block end>", "found a line that is indented unlike its siblings", "the same indentation", False),
    ("incompatible YAML document", "found another version of YAML", "YAML 1.1 or 1.2", False),
)


@dataclass(frozen=True, slots=True)
class Marked:
    """A value with the line it starts on (from 1). Mappings and lists hold marked values."""

    line: int
    value: Scalar | list[Marked] | dict[str, Marked]
    key_lines: Mapping[str, int] = field(default_factory=dict)
    size: int = 1

    def plain(self) -> Any:
        """The value as plain dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        return self.value


@dataclass(frozen=True, slots=True)
class Source:
    """A YAML file that was read: its name as the user gave it, and its root mapping."""

    file: str
    root: Marked

    def at(self, path: KeyPath = ()) -> Any:
        """The plain value at a path of keys and list positions. Raises KeyError when there is none."""
        *_, (node, _) = self._walk(path)
        return node.plain()

    def where(self, path: KeyPath = ()) -> Where:
        """File, line and key of a path; the line of what encloses it when there is nothing at the path itself."""
        *_, (_, line) = self._walk(path, lenient=True)
        return Where(self.file, line, dotted(path))

    def error(self, path: KeyPath, found: str, *, allowed: str) -> SpecError:
        """The error to raise about what stands at the path."""
        return SpecError(found, allowed=allowed, where=self.where(path))

    def placed(self, error: SpecError, at: KeyPath = ()) -> SpecError:
        """The same error with file and line: its own key is understood below `at`. One with a line stays as it is."""
        if error.where.line is not None:
            return error
        found = f"{error.where.file}: {error.found}" if error.where.file else error.found
        return self.error((*at, *_undotted(error.where.key)), found, allowed=error.allowed)

    def _walk(self, path: KeyPath, *, lenient: bool = False) -> Iterator[tuple[Marked, int]]:
        node, line = self.root, self.root.line
        yield node, line
        for step in path:
            inner = _inside(node, step)
            if inner is None and lenient:
                return
            if inner is None:
                raise KeyError(dotted(path))
            line = node.key_lines[step] if isinstance(step, str) else inner.line
            node = inner
            yield node, line


def _inside(node: Marked, step: str | int) -> Marked | None:
    if isinstance(node.value, dict) and isinstance(step, str):
        return node.value.get(step)
    if isinstance(node.value, list) and isinstance(step, int) and step < len(node.value):
        return node.value[step]
    return None


def dotted(path: KeyPath) -> str:
    """``links[0].rate`` for ("links", 0, "rate"); a key that is no plain word stands in quotes."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{_word(step)}" for step in path)
    return text.removeprefix(".")


def _word(key: str) -> str:
    return key if re.fullmatch(r"[\w/:-]{1,60}", key) else _short(key)


def _undotted(key: str) -> KeyPath:
    steps = re.findall(r"\[(\d+)\]|([^.\[\]]+)", key)
    return tuple(int(index) if index else name for index, name in steps)


def read(path: Path, *, name: str | None = None) -> Source:
    """Read a YAML file. `name` is what errors call it (default: the path as given). Raises SpecError."""
    shown = name or str(path)
    try:
        if path.is_dir():
            raise _whole_file(shown, "found a folder", "a YAML file")
        if not path.exists():
            raise _whole_file(shown, "there is no such file", "a YAML file that exists")
        if not path.is_file():
            raise _whole_file(shown, "found something that is no regular file", "a YAML file")
        if path.stat().st_size > MOST_BYTES:
            raise _whole_file(shown, f"found {path.stat().st_size} bytes", f"at most {MOST_BYTES}")
        return parse(path.read_bytes(), shown)
    except OSError as error:
        raise _whole_file(shown, f"cannot be read ({error.strerror})", "a readable YAML file") from None


def parse(content: bytes, file: str) -> Source:
    """Read YAML from memory; `file` is what errors call it. Raises SpecError."""
    if len(content) > MOST_BYTES:
        raise _whole_file(file, f"found {len(content)} bytes", f"at most {MOST_BYTES}")
    return Source(file, _Parser(_decoded(content, file), file).document())


def _whole_file(file: str, found: str, allowed: str) -> SpecError:
    return SpecError(found, allowed=allowed, where=Where(file))


def _decoded(content: bytes, file: str) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = f"found byte 0x{content[error.start]:02x}, which is not UTF-8"
        raise SpecError(found, allowed="text in UTF-8", where=Where(file, line)) from None
    odd = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if odd:
        where = Where(file, text.count("\n", 0, odd.start()) + 1)
        raise SpecError(f"found the control character {odd.group()!a}", allowed="printable text", where=where)
    return text


class _Parser:
    """Builds marked values out of PyYAML's events, which come one by one: a bomb is met before it unfolds."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self.loader = yaml.SafeLoader(text)
        self.anchors: dict[str, Marked | None] = {}  # None while the anchored value is still being read
        self.values = 0

    def document(self) -> Marked:
        self.next()  # the stream's start
        if isinstance(self.next(), yaml.StreamEndEvent):
            raise self.refused(1, "the file is empty", "a mapping of keys to values")
        event = self.next()
        if not isinstance(event, yaml.MappingStartEvent):
            what = "a list" if isinstance(event, yaml.SequenceStartEvent) else "a single value"
            raise self.refused(_line(event), f"found {what}", "a mapping of keys to values")
        root = self.value(event, 1)
        self.next()  # the document's end
        extra = self.next()
        if not isinstance(extra, yaml.StreamEndEvent):
            raise self.refused(_line(extra), "found a second document ('---')", "one document a file")
        return root

    def next(self) -> Any:
        try:
            return self.loader.get_event()  # type: ignore[no-untyped-call]  # the stubs leave it bare
        except yaml.MarkedYAMLError as error:
            raise self.translated(error) from None
        except (ValueError, OverflowError):  # "\\UFFFFFFFF" is too much for PyYAML
            line = int(self.loader.line) + 1
            raise self.refused(line, "found an escape that is no character", "escapes up to \\U0010FFFF") from None

    def translated(self, error: yaml.MarkedYAMLError) -> SpecError:
        problem, mark, began = str(error.problem), error.problem_mark, error.context_mark
        for said, found, allowed, at_start in _SAID:
            if said in problem:
                mark = began if at_start and began else mark
                return self.refused(mark.line + 1 if mark else 1, found, allowed)
        found = f"found no YAML: {' '.join(problem.split())}"
        return self.refused(mark.line + 1 if mark else 1, found, "YAML, for example key: value")

    def value(self, event: Any, depth: int) -> Marked:
        line = _line(event)
        if isinstance(event, yaml.AliasEvent):
            made = self.alias(event)
            self.count(made.size, line)
            return made
        self.count(1, line)
        if event.tag is not None:
            raise self.refused(line, f"found the tag {_tag(event)}", "plain values without tags")
        if depth > MOST_DEPTH:
            raise self.refused(line, f"found values nested more than {MOST_DEPTH} deep", f"at most {MOST_DEPTH}")
        anchor = event.anchor
        if anchor is not None:
            self.anchors[anchor] = None
            if len(self.anchors) > MOST_ANCHORS:
                raise self.refused(line, f"found more than {MOST_ANCHORS} anchors", f"at most {MOST_ANCHORS}")
        if isinstance(event, yaml.ScalarEvent):
            made = Marked(line, self.scalar(event))
        elif isinstance(event, yaml.SequenceStartEvent):
            made = self.list_of(line, depth)
        else:
            made = self.mapping(line, depth)
        if anchor is not None:
            self.anchors[anchor] = made
        return made

    def list_of(self, line: int, depth: int) -> Marked:
        items: list[Marked] = []
        while not isinstance(event := self.next(), yaml.SequenceEndEvent):
            items.append(self.value(event, depth + 1))
        return Marked(line, items, size=1 + sum(item.size for item in items))

    def mapping(self, line: int, depth: int) -> Marked:
        items: dict[str, Marked] = {}
        lines: dict[str, int] = {}
        while not isinstance(event := self.next(), yaml.MappingEndEvent):
            key, at = self.key(event), _line(event)
            if key in items:
                raise self.refused(
                    at, f"found the key {_short(key)} again: it is on line {lines[key]}", "each key once"
                )
            lines[key] = at
            items[key] = self.value(self.next(), depth + 1)
        return Marked(line, items, lines, 1 + sum(item.size for item in items.values()))

    def key(self, event: Any) -> str:
        line = _line(event)
        if not isinstance(event, yaml.ScalarEvent):
            raise self.refused(line, "found a key that is no single word", "text as a key")
        if event.tag is not None:
            raise self.refused(line, f"found the tag {_tag(event)}", "plain values without tags")
        if event.style is None and event.value == "<<":
            raise self.refused(line, "found a merge key ('<<')", "every key written out")
        value = self.scalar(event)
        if not isinstance(value, str):
            raise self.refused(line, f"found {show(value)} as a key", "text as a key (quote it if it is meant)")
        return value

    def scalar(self, event: yaml.ScalarEvent) -> Scalar:
        text = str(event.value)
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise self.refused(_line(event), "found half of a surrogate pair", "whole characters")
        if event.style is not None:
            return text
        if text in _WORDS:
            return _WORDS[text]
        if not _NUMBER.fullmatch(text):
            return text
        if len(text) > MOST_DIGITS:
            raise self.refused(_line(event), f"found a number of {len(text)} digits", f"at most {MOST_DIGITS}")
        if _INT.fullmatch(text):
            return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))

    def alias(self, event: yaml.AliasEvent) -> Marked:
        name = str(event.anchor)
        made = self.anchors.get(name)
        if made is None:
            why = "inside itself" if name in self.anchors else "which names no anchor"
            raise self.refused(_line(event), f"found the alias *{name} {why}", "an anchor further up")
        return made

    def count(self, values: int, line: int) -> None:
        """Count values as often as they are used: an alias adds all that it stands for."""
        self.values += values
        if self.values > MOST_VALUES:
            found = f"found more than {MOST_VALUES} values once aliases are expanded"
            raise self.refused(line, found, f"at most {MOST_VALUES}")

    def refused(self, line: int, found: str, allowed: str) -> SpecError:
        return SpecError(found, allowed=allowed, where=Where(self.file, line))


def show(value: object) -> str:
    """A value as it may stand in an error message: one line, cut when long."""
    if isinstance(value, Mapping):
        return f"a mapping with the keys {_cut(', '.join(map(str, value)))}" if value else "an empty mapping"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    return _short(value) if isinstance(value, str) else _cut(str(value))


def _short(text: str) -> str:
    return repr(_cut(text))


def _cut(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _tag(event: Any) -> str:
    tag = str(event.tag)
    return show(f"!!{tag.removeprefix(_STANDARD_TAG)}" if tag.startswith(_STANDARD_TAG) else tag)


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1
