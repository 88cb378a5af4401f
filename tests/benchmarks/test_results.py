"""RESULTS.md, its summary and README.md's figures agree, and writing one keeps the others."""

import pytest

from benchmarks import results
from benchmarks.questions import NAMES, load
from benchmarks.tables import Table

TEXT = results.RESULTS.read_text(encoding="utf-8")
SECTIONS = results.sections(TEXT)

SECTION = """## match_process

How it was measured.

2027-01-02, commit 0123abc, a machine, in 1 min; numpy 2

### Whole process (s)

| run | s |
|---|---|
| first, kernels compiled | 9.00 |
| later, median of 5 (range) | 1.00 (0.900–1.10) |

"""


def test_the_summary_is_what_the_sections_say():
    assert results.written(SECTIONS) == TEXT


def test_the_figures_of_the_readme_are_the_marked_rows_of_the_summary():
    readme = results.README.read_text(encoding="utf-8")
    assert results.with_figures(readme, TEXT) == readme


def test_no_section_is_of_an_unknown_question():
    names = [line[3:] for line in TEXT.splitlines() if line.startswith("## ")]
    assert names == ["Summary", *(name for name in NAMES if name in SECTIONS)]


@pytest.mark.parametrize("name", SECTIONS)
def test_every_section_names_its_day_and_commit_and_has_an_answer(name):
    section = results.Section.of(SECTIONS[name])
    assert section.name == name
    assert section.tables
    answer = load(name).answer(section.tables)
    assert "|" not in answer.ours + answer.peers
    assert any(character.isdigit() for character in answer.ours)


def files(tmp_path, begin=results.MARKERS[0], end=results.MARKERS[1]):
    paths = tmp_path / "RESULTS.md", tmp_path / "README.md"
    paths[0].write_text(TEXT, encoding="utf-8")
    paths[1].write_text(f"Before.\n{begin}old\n{end}After.\n", encoding="utf-8")
    return paths


def test_writing_a_section_changes_it_its_row_and_the_readme(tmp_path):
    paths = files(tmp_path)
    results.write("match_process", SECTION, *paths)
    written = paths[0].read_text(encoding="utf-8")
    assert results.sections(written) == SECTIONS | {"match_process": SECTION.rstrip()}
    row = next(line for line in written.splitlines() if "(#match_process)" in line)
    assert row.endswith(
        "| 1.00 s; first run ever 9.00 s (kernels are compiled) | – | 2027-01-02, 0123abc | yes |"
    )
    others = [line for line in TEXT.splitlines() if "(#" in line and "match_process" not in line]
    assert [line for line in written.splitlines() if line in others] == others
    readme = paths[1].read_text(encoding="utf-8")
    assert readme.startswith("Before.\n<!-- figures -->\n\n| question | hiersearch | peers")
    assert readme.endswith("\n\n<!-- end of figures -->\nAfter.\n")
    assert "(benchmarks/RESULTS.md#match_process) | 1.00 s; first run ever 9.00 s" in readme
    assert "index_faults" not in readme  # which is not marked


def test_a_first_section_takes_its_place_and_its_row(tmp_path):
    paths = files(tmp_path)
    few = {name: part for name, part in SECTIONS.items() if name != "match_process"}
    paths[0].write_text(results.written(few), encoding="utf-8")
    assert "`match_process` | not measured yet |" in paths[0].read_text(encoding="utf-8")
    results.write("match_process", SECTIONS["match_process"], *paths)
    assert paths[0].read_text(encoding="utf-8") == TEXT


def test_refreshing_twice_changes_nothing_more(tmp_path):
    paths = files(tmp_path)
    results.refresh(*paths)
    once = [path.read_text(encoding="utf-8") for path in paths]
    results.refresh(*paths)
    assert [path.read_text(encoding="utf-8") for path in paths] == once


def test_a_section_that_does_not_say_when_is_refused():
    with pytest.raises(ValueError, match="section best_cut must have a line that begins with"):
        results.Section.of("## best_cut\n\n2026-11-22, a machine\n")


@pytest.mark.parametrize(
    "readme",
    [
        "no markers",
        "<!-- figures -->\n",
        "<!-- end of figures -->\n<!-- figures -->\n",
        2 * "<!-- figures -->\n<!-- end of figures -->\n",
    ],
)
def test_a_readme_without_its_markers_is_refused(readme):
    with pytest.raises(ValueError, match=r"README.md must have <!-- figures --> and, after it"):
        results.with_figures(readme, TEXT)


def test_a_refused_readme_leaves_results_as_they_are(tmp_path):
    paths = files(tmp_path, begin="")
    with pytest.raises(ValueError, match=r"README.md must have"):
        results.write("match_process", SECTION, *paths)
    assert paths[0].read_text(encoding="utf-8") == TEXT


def test_a_section_commits_range_is_kept():
    section = results.Section.of("## index_faults\n\n2026-11-27, commits a1 to b2, a machine\n")
    assert (section.date, section.commit) == ("2026-11-27", "a1 to b2")
    assert section.measured == "2026-11-27, a1 to b2"
    assert section.tables == []


def test_tables_of_a_section_are_read_in_order():
    table = Table("A", ("b", "c"), [("d", "1")]).markdown()
    text = f"## best_cut\n\n2026-11-22, commit a, b\n\n{table}\n{table.replace('A', 'Z', 1)}"
    assert [found.title for found in results.Section.of(text).tables] == ["A", "Z"]
