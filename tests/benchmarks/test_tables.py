"""Tables of results are read from the Markdown that they were written to."""

import doctest

import pytest

from benchmarks import question, tables
from benchmarks.tables import Table, figure, shown, span


def table():
    return Table(
        "Times (ms)",
        ("method", "few", "many"),
        [("**ours** (default)", "12.8 (12.5–16.2)", "1,000"), ("theirs", "16.7", "")],
        ["One note.", "", "Another: 3."],
    )


def test_markdown_is_read_back_without_empty_lines_between_notes():
    found = Table.from_markdown(table().markdown())
    assert found.title == "Times (ms)"
    assert found.columns == ["method", "few", "many"]
    assert found.rows == [list(row) for row in table().rows]
    assert found.notes == ["One note.", "Another: 3."]
    again = Table.from_markdown(found.markdown())
    assert again == found


def test_a_table_without_notes_or_rows_is_read_back():
    found = Table.from_markdown(Table("Nothing", ("a", "b")).markdown())
    assert (found.rows, found.notes) == ([], [])


def test_figures_are_found_by_the_begin_of_their_row_and_their_column():
    assert table().figure("ours", "few") == "12.8"
    assert table().figures("few") == ["12.8", "16.7"]


def test_what_a_table_lacks_is_named():
    with pytest.raises(KeyError, match="no row of the table 'Times"):
        table().row("others")
    with pytest.raises(KeyError, match=r"'Times \(ms\)' has no column 'ratio'"):
        table().column("ratio")


def test_a_span_goes_by_value_and_keeps_what_is_shown():
    assert span(["9.50", "1,200", "85.1"]) == "9.50–1,200"
    assert span(["3.0", "3.0"]) == "3.0"


@pytest.mark.parametrize(
    ("value", "text"), [(0.0123456, "0.0123"), (1.5, "1.50"), (1234.5, "1,234"), (0, "0")]
)
def test_three_digits_are_shown(value, text):
    assert shown(value) == text


@pytest.mark.parametrize("cell", ["12.8 (12.5–16.2)", "12.8 ± 0.3", "12.8"])
def test_a_figure_is_what_stands_before_its_range(cell):
    assert figure(cell) == "12.8"


@pytest.mark.parametrize("module", [tables, question])
def test_examples_of_the_helpers_are_right(module):
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0
