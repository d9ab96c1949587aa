"""What is read from files of unknown origin, and what is refused at once."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import pytest

from rlgd.errors import StorageFault, UsageError
from rlgd.system.files import open_regular, write_json
from rlgd.system.reading import parse_json, parse_toml, read_text, read_versioned

DEEP = 200


class Record(TypedDict):
    """A record of a file."""

    x: float
    steps: int


class Point(NamedTuple):
    """The same as a list."""

    x: float
    steps: int


def named_pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [named_pipe, device, Path.mkdir])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, make: Any) -> None:
    make(tmp_path / "config.json")
    with pytest.raises(OSError, match="it is not a regular file"):
        read_text(tmp_path / "config.json")
    with pytest.raises(UsageError, match=r"holds no run: .*\(it is not a regular file\)"):
        read_versioned(tmp_path / "config.json", "run", 3)
    with pytest.raises(OSError, match=r"there is a (FIFO|symbolic link|folder)"):
        open_regular(tmp_path / "config.json", os.O_WRONLY)


def test_the_size_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("12345")
    assert read_text(tmp_path / "file", 5) == "12345"
    with pytest.raises(OSError, match="it has more than 4 bytes"):
        read_text(tmp_path / "file", 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Expecting property name"),
        ("[" * DEEP + "]" * DEEP, "nested more than 64 levels deep"),
        ("[" * 10**6, "nested too deeply"),
        ('{"x": %s}' % ("9" * 400), "a whole number of more than 20 digits"),
        ('{"x": %s}' % ("9" * 40_000), "Exceeds the limit"),
        ('{"x": "1", "steps": 1}', "x is text; expected a number"),
        ('{"x": 1, "steps": true}', "steps is true or false; expected a whole number"),
        ('{"x": 1, "steps": 1.5}', "steps is a number; expected a whole number"),
        ('{"x": null, "steps": 1}', "x is null; expected a number"),
        ('{"x": 1}', "missing required field `steps`"),
        ("[[1, 2]]", "it is a list; expected a table"),
    ],
)
def test_a_text_with_other_types_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_json(text, Record)


def test_a_text_becomes_what_is_expected() -> None:
    assert parse_json('{"x": 1, "steps": 2}', Record) == {"x": 1.0, "steps": 2}
    assert parse_json("[1, 2]", Point) == Point(1.0, 2)
    assert parse_toml('a = 1\nb = ["c"]') == {"a": 1, "b": ["c"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 2026-11-28", "it has a date, 2026-11-28"),
        ("a = " + "9" * 400, "a whole number of more than 20 digits"),
        ("a = " + "[" * DEEP + "]" * DEEP, "nested"),
        ("a", "Expected '='"),
    ],
)
def test_toml_has_the_same_bounds(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_toml(text)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, UsageError, "holds no run: .*config.json cannot be read"),
        ("{", StorageFault, "config.json is damaged: Expecting property name"),
        ("[" * 100_000, StorageFault, "is damaged"),
        ("[1]", StorageFault, "is damaged: it is a list; expected a table"),
        ('{"format_version": 2}', UsageError, "has format_version 2; this rlgd reads 3"),
    ],
)
def test_a_file_of_another_format_is_refused(
    tmp_path: Path, content: str | None, error: type[Exception], message: str
) -> None:
    path = tmp_path / "config.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(error, match=message):
        read_versioned(path, "run", 3)
    write_json(path, {"format_version": 3, "seed": 1})
    assert read_versioned(path, "run", 3) == json.loads(path.read_text()) == {"format_version": 3, "seed": 1}
