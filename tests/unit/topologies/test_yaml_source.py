from __future__ import annotations

from pathlib import Path

import pytest

from topologies.errors import SpecError, Where
from topologies.yaml_source import MOST_BYTES, dotted, parse, read, show


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("-3", -3),
        ("0x10", 16),
        ("0o17", 15),
        ("010", 10),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".inf", float("inf")),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("'12'", "12"),
        # Booleans, sexagesimals, dates and separators of YAML 1.1 are text, as in YAML 1.2.
        ("no", "no"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("1_000", "1_000"),
        ("=", "="),
    ],
)
def test_plain_words(text: str, value: object) -> None:
    found = parse(f"key: {text}\n".encode(), "x.yaml").at(("key",))
    assert found == value
    assert type(found) is type(value)


def test_lines_are_those_of_keys_and_items() -> None:
    source = parse(b"\xef\xbb\xbf# a comment\na:\n  b:\n    - 1\n    - {c: 2}\n", "x.yaml")
    assert source.at() == {"a": {"b": [1, {"c": 2}]}}
    assert source.where(("a",)) == Where("x.yaml", 2, "a")
    assert source.where(("a", "b", 1, "c")) == Where("x.yaml", 5, "a.b[1].c")
    assert source.where(("a", "missing")).line == 2
    with pytest.raises(KeyError):
        source.at(("a", "b", 7))


def test_aliases_are_followed() -> None:
    source = parse(b"one: &x {a: [1]}\ntwo: *x\n", "x.yaml")
    assert source.at(("two",)) == {"a": [1]}


def test_an_error_finds_its_line() -> None:
    source = parse(b"one:\n  two: [3,\n    4]\n", "x.yaml")
    placed = source.placed(SpecError("found 4", allowed="5", where=Where(key="two[1]")), ("one",))
    assert str(placed) == "x.yaml:3: one.two[1]: found 4; allowed: 5"
    assert source.placed(placed) is placed


def test_keys_that_are_no_words_are_quoted() -> None:
    assert dotted(("a", 0, "b\nc", "d" * 70)) == "a[0].'b\\nc'.'" + "d" * 59 + "…'"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "true"),
        (None, "nothing"),
        ([], "an empty list"),
        ({}, "an empty mapping"),
        ({"a": 1}, "a mapping with the keys a"),
        ("x\n", "'x\\n'"),
        ("x" * 100, repr("x" * 59 + "…")),
        (10**100, "1" + "0" * 58 + "…"),
    ],
)
def test_values_are_shown_on_one_short_line(value: object, shown: str) -> None:
    assert show(value) == shown


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    large, folder = tmp_path / "large.yaml", tmp_path / "folder"
    large.write_bytes(b"#" * (MOST_BYTES + 1))
    folder.mkdir()
    for path, message in (
        (large, f"found {MOST_BYTES + 1} bytes; allowed: at most {MOST_BYTES}"),
        (folder, "found a folder"),
        (tmp_path / "none.yaml", "there is no such file"),
        (Path("/dev/null"), "found something that is no regular file"),
        (tmp_path / ("x" * 300 + ".yaml"), "cannot be read (File name too long)"),
        (Path("a\0b.yaml"), "there is no such file"),
    ):
        with pytest.raises(SpecError) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: {message}")
    with pytest.raises(SpecError, match="bytes"):
        parse(large.read_bytes(), "x.yaml")


@pytest.mark.parametrize("content", [b"a: " + b"[" * 500_000, b"[]\n- " * 100_000, b"a: [" + b"[]," * 300_000])
def test_bombs_are_met_early(content: bytes) -> None:
    with pytest.raises(SpecError):
        parse(content, "x.yaml")
