"""Tables as text."""

import pytest

from rlgd.tables import markdown


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
