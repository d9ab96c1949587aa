"""Tables as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlgd.tables import LEAST, aligned, markdown, markdown_within


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert markdown(["a", "name"], [["long", "x"], ["", "names"]]).splitlines() == [
        "| a    | name  |",
        "| ---- | ----- |",
        "| long | x     |",
        "|      | names |",
    ]


def test_a_table_without_rows_has_its_heads() -> None:
    assert markdown(["a", "bc"], []) == "| a | bc |\n| - | -- |"


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        markdown(["a", "b"], [["1"]])


HEADS = ["setting", "return", "seconds", "diverged"]
ROWS = [["learning_rate=0.1", "12.3", "5", "0%"], ["learning_rate=0.01", "4.5", "6", "50%"]]


def test_without_a_terminal_a_table_is_whole() -> None:
    assert markdown_within(None, HEADS, ROWS, ("setting",), "summary.md") == markdown(HEADS, ROWS)
    assert markdown_within(200, HEADS, ROWS, ("setting",), "summary.md") == markdown(HEADS, ROWS)


def test_on_a_narrow_terminal_columns_are_left_out_from_the_right() -> None:
    text = markdown_within(45, HEADS, ROWS, ("setting", "return"), "summary.md")
    assert text.splitlines() == [
        "| setting            | return | seconds |",
        "| ------------------ | ------ | ------- |",
        "| learning_rate=0.1  | 12.3   | 5       |",
        "| learning_rate=0.01 | 4.5    | 6       |",
        "(summary.md also has: diverged)",
    ]


def test_columns_that_are_kept_are_cut() -> None:
    text = markdown_within(25, HEADS, ROWS, ("setting", "diverged"), "summary.md")
    assert text.splitlines() == [
        "| setting    | diverged |",
        "| ---------- | -------- |",
        "| learnin... | 0%       |",
        "| learnin... | 50%      |",
        "(summary.md also has:",
        "return, seconds)",
    ]


WORDS = st.text("ab |", max_size=30)


@given(st.integers(20, 100), st.lists(st.tuples(WORDS, WORDS, WORDS), max_size=4))
def test_tables_fit(width: int, rows: list[tuple[str, str, str]]) -> None:
    for text in (
        markdown_within(width, ["a", "b", "c"], rows, ("a",), "x"),
        aligned([["a", "b", "c"], *rows], max(width, 3 * LEAST + 4)),
    ):
        assert max(map(len, text.splitlines())) <= max(width, 3 * LEAST + 4)


def test_long_cells_have_several_lines_on_a_narrow_terminal() -> None:
    rows = [["name", "what it is"], ["ppo", "a proximal policy optimization"], ["a2c", "short"]]
    assert aligned(rows, 21).splitlines() == [
        "name  what it is",
        "ppo   a proximal",
        "      policy",
        "      optimization",
        "a2c   short",
    ]
    assert aligned(rows) == aligned(rows, 80)
