"""Names from outside: no terminal obeys them, no file lands elsewhere, no byte makes a crash."""

import json
import os
import sys

import numpy as np
import pytest

from hiersearch.cli.console import as_json, print_table
from hiersearch.cli.names import LONGEST_NAME, FreeNames, escaped_json, shown
from tests.cli.running import parsed, refused, run, write_labels, write_scene

CLASSES = ("--soft", "soft.npy", "--reading", "classes")
EVIL = "a\x1b[31m\x1b]0;title\x07\u202egnp\x9b2J[red]b"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_scene(tmp_path)
    return tmp_path


def harmless(text):
    return shown(text.replace("\n", "")) == text.replace("\n", "")


# --- shown ----------------------------------------------------------------------------------


def test_what_is_no_plain_character_is_shown_escaped():
    assert shown("Zürich 数 🙂 a/b\\c [red]") == "Zürich 数 🙂 a/b\\c [red]"
    assert shown("a\x1b[31m\x9b\x7f\n") == r"a\x1b[31m\x9b\x7f\x0a"
    assert shown("\u202egnp\u2028") == r"\u202egnp\u2028"
    assert shown(os.fsdecode(b"caf\xe9.png")) == r"caf\xe9.png"
    assert shown("\ud800") == r"\ud800"


def test_json_means_the_same_and_shows_nothing_unsafe():
    value = {EVIL: [os.fsdecode(b"\xff\xfe"), "é", "\x00\u2029", 1.5]}
    text = as_json(value)
    assert json.loads(text) == value
    assert harmless(text)
    text.encode()
    assert "é" in text
    assert escaped_json('{"a": "\x9b"}\n') == '{"a": "\\u009b"}\n'


def test_tables_show_names_as_they_are(capsys):
    print_table(EVIL, [EVIL, "value"], [[EVIL, "[bold]1"], [os.fsdecode(b"\xff"), "2"]])
    output = capsys.readouterr().out
    assert harmless(output)
    for part in (r"\x1b[31m", "[red]b", "[bold]1", r"\xff"):
        assert part in output


@pytest.mark.parametrize("quiet", [(), ("--json",)])
def test_names_of_files_that_no_terminal_may_obey(folder, quiet):
    if sys.platform == "win32":
        pytest.skip("such names cannot be given there")
    names = [EVIL.replace("/", "") + ".png", os.fsdecode(b"\xe9\xff.png")]
    for name in names:
        write_labels(folder / name, np.zeros((4, 5), int))
    result = run("compare", *names, *quiet)
    assert result.exit_code == 0, result.output
    assert harmless(result.stdout)
    if quiet:
        assert [json.loads(result.stdout)[one]["file"] for one in ("a", "b")] == names
    for command in (("compare", "x" + EVIL, names[1]), ("match", names[1] + "x", *CLASSES)):
        result = run(*command, *quiet)
        refused(result, r"\x")
        assert harmless(result.stderr)


def test_results_of_a_file_whose_name_is_no_text(folder):
    image = folder / os.fsdecode(b"\xe9\x1b.png")
    (folder / "image.png").rename(image)
    summary = parsed(run("refine", image.name, *CLASSES, "--json"))
    out = folder / os.fsdecode(b"\xe9\x1b-refined")
    assert json.loads((out / "summary.json").read_bytes()) == summary
    assert summary["image"] == image.name
    quick = ("--superpixels", "pixels", "--linkage", "average", "--overview")
    result = run("match", image.name, *CLASSES, *quick)
    assert result.exit_code == 0, result.output
    assert r"\xe9\x1b.png, read as classes" in result.stdout
    assert harmless(result.stdout)


# --- made -----------------------------------------------------------------------------------


def test_names_fit_a_folder_whatever_the_ids_are():
    ids = [
        "数" * 300,
        "🙂" * 300,
        "e\u0301" * 300,
        "a" * 1000,
        "..",
        ".",
        "../../x",
        "/",
        "\x00",
        " ",
    ]
    names = FreeNames()
    found = [names.of(one, ending) for one in ids for ending in (".png", ".tif", "")]
    assert len(set(found)) == len(found)
    for name in found:
        assert len(os.fsencode(name)) <= LONGEST_NAME
        assert "/" not in name
        assert name not in ("", ".", "..")


def test_names_differ_where_case_and_composition_do_not_count():
    names = FreeNames("entries.json")
    ids = ["a", "A", "a (2)", "\u00e9", "e\u0301", "Entries", "stra\u00dfe", "STRASSE"]
    found = [names.of(one, ".json") for one in ids]
    assert found == [
        "a.json", "A (2).json", "a -2-.json", "\u00e9.json", "\u00e9 (2).json",
        "Entries (2).json", "stra\u00dfe.json", "STRASSE (2).json",
    ]  # fmt: skip


def test_many_ids_of_one_beginning_take_no_longer_each():
    names = FreeNames()
    found = {names.of("x" * 300 + str(number), ".png") for number in range(20_000)}
    assert len(found) == 20_000


def test_export_of_ids_of_many_bytes(folder):
    assert run("index", "create", "idx", "--grid", "18x24").exit_code == 0
    write_labels(folder / "a.png", np.zeros((18, 24), int))
    ids = ["数" * 200, "数" * 200 + "b", "../up", EVIL]
    for one in ids:
        assert run("index", "add", "idx", "a.png", "--id", one).exit_code == 0
    summary = parsed(run("index", "export", "idx", "out", "--json"))
    assert sorted(os.listdir("out")) == sorted([*summary["files"], "entries.json"])
    records = json.loads((folder / "out" / "entries.json").read_text())["entries"]
    assert sorted(record["id"] for record in records) == sorted(ids)
    result = run("index", "search", "idx", "a.png", "--out", "found")
    assert result.exit_code == 0, result.output
    assert harmless(result.stdout)
    assert r"a\x1b[31m" in result.stdout
