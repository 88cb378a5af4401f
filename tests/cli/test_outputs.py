"""Results replace what the same command wrote, and nothing else: no inputs, no foreign files."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from hiersearch.cli.errors import UsageError
from hiersearch.cli.outputs import Destination, checked_folder, input_files
from tests.cli.running import parsed, refused, run, write_labels, write_scene

SOFT = ("--soft", "soft.npy", "--reading", "classes")
QUICK = (*SOFT, "--superpixels", "pixels", "--linkage", "average")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_scene(tmp_path)
    return tmp_path


def contents(folder):
    """Return all files, hidden ones too, with what they hold."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def destination(folder, *inputs, **options):
    return Destination(folder, "match", "summary.json", input_files(*inputs), **options)


def write(to, **files):
    """Write files with a record, as commands do."""
    with to.staged() as stage:
        for name, text in files.items():
            (stage / name).write_text(text)
        to.write_record(stage, {"files": sorted(files)})


# --- what may be replaced -------------------------------------------------------------------


def test_the_same_command_replaces_what_it_wrote(tmp_path):
    to = destination(tmp_path / "out")
    write(to, a="one", b="two")
    to.check(["a", "b", "summary.json"])
    write(to, a="three", b="four")
    assert {name: text for name, text in contents(tmp_path).items() if "json" not in name} == {
        "out/a": b"three", "out/b": b"four",
    }  # fmt: skip
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["files"] == ["a", "b"]


def test_what_it_does_not_write_again_goes_unless_it_was_changed(tmp_path):
    to = destination(tmp_path / "out")
    write(to, a="one", b="two", c="three")
    (tmp_path / "out" / "b").write_text("changed by hand")
    (tmp_path / "out" / "d").write_text("of somebody else")
    write(to, a="four")
    assert set(contents(tmp_path / "out")) == {"a", "b", "d", "summary.json"}
    untidy = destination(tmp_path / "out", tidy=False)
    write(untidy, e="five")
    assert set(contents(tmp_path / "out")) == {"a", "b", "d", "e", "summary.json"}


@pytest.mark.parametrize("force", [False, True])
def test_files_that_no_run_wrote_need_force(tmp_path, force):
    out = tmp_path / "out"
    write(destination(out), a="one", b="two")
    (out / "a").write_text("changed by hand")
    (out / "c").write_text("of somebody else")
    before = contents(out)
    to = destination(out, force=force)
    for name in ("a", "c"):
        if force:
            to.check([name])
            continue
        with pytest.raises(UsageError, match=f"{name} would be replaced, and was not written"):
            to.check([name])
        with pytest.raises(UsageError, match="give --force to replace it, or write elsewhere"):
            write(to, **{name: "new", "b": "new"})
        assert contents(out) == before
    if force:
        write(to, a="new", c="new")
        assert (out / "a").read_text() == (out / "c").read_text() == "new"


def test_results_of_another_command_are_foreign(tmp_path):
    write(destination(tmp_path), a="one")
    other = Destination(tmp_path, "refine", "summary.json")
    with pytest.raises(UsageError, match="was not written by hiersearch refine"):
        other.check(["summary.json"])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"command": "match"}', "[" * 100_000, "\xff"])
def test_a_record_that_is_none(tmp_path, text):
    (tmp_path / "summary.json").write_text(text, encoding="latin-1")
    with pytest.raises(UsageError, match=r"summary\.json would be replaced"):
        destination(tmp_path).check(["summary.json"])


@pytest.mark.parametrize("how", ["itself", "hard link", "link", "link to it", "other path"])
def test_inputs_are_never_replaced_whatever_they_are_called(tmp_path, how):
    source, target = tmp_path / "source", tmp_path / "a"
    source.write_text("input")
    given = source
    if how == "itself":
        given = target
        target.write_text("input")
    elif how == "hard link":
        os.link(source, target)
    elif how == "link":
        target.symlink_to(source)
    elif how == "link to it":
        source.rename(target)
        source.symlink_to(target)
    else:
        source.rename(target)
        (tmp_path / "folder").mkdir()
        given = tmp_path / "folder" / ".." / "a"
    to = destination(tmp_path, given, force=True)
    with pytest.raises(UsageError, match="a would be replaced, and is the input"):
        to.check(["a"])
    with pytest.raises(UsageError, match="write elsewhere"):
        write(to, a="new", b="new")
    assert target.read_text() == "input"
    assert not (tmp_path / "b").exists()


def test_folders_and_links_are_in_the_way(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "c").symlink_to(tmp_path / "a")
    to = destination(tmp_path, force=True)
    with pytest.raises(UsageError, match="in the way: it is a folder"):
        to.check(["a"])
    with pytest.raises(UsageError, match="in the way: it is a link"):
        to.inside("c")
    assert to.inside("d").folder == tmp_path / "d"


def test_no_folder_for_results_within_an_index(folder):
    assert run("index", "create", "idx", "--grid", "4x5").exit_code == 0
    for out in ("idx", "idx/segments", "idx/new"):
        with pytest.raises(UsageError, match="must not lie in the index"):
            checked_folder(folder / out)
    (folder / "nowhere").symlink_to(folder / "absent")
    with pytest.raises(UsageError, match="is a link to nowhere"):
        checked_folder(folder / "nowhere")


# --- whole or not at all --------------------------------------------------------------------


def test_a_new_folder_appears_whole(tmp_path):
    to = destination(tmp_path / "deep" / "out")
    with to.staged() as stage:
        (stage / "a").write_text("one")
        assert not (tmp_path / "deep" / "out").exists()
        stage.stat()
    assert contents(tmp_path) == {"deep/out/a": b"one"}
    assert (tmp_path / "deep" / "out").stat().st_mode == (tmp_path / "deep").stat().st_mode


@pytest.mark.parametrize("there", [False, True])
def test_after_an_error_all_is_as_it_was(tmp_path, there):
    out = tmp_path / "deep" / "out"
    if there:
        write(destination(out), a="one")
    before, names = contents(tmp_path), sorted(tmp_path.rglob("*"))

    def interrupted():
        with destination(out).staged() as stage:
            (stage / "a").write_text("two")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert contents(tmp_path) == before
    assert sorted(tmp_path.rglob("*")) == names


@pytest.mark.parametrize("failing", range(6))
def test_a_move_that_fails_is_undone(tmp_path, monkeypatch, failing):
    to = destination(tmp_path)
    write(to, a="one", b="two")
    before = contents(tmp_path)
    rename, calls = os.rename, []

    def failing_rename(source, target):
        calls.append(source)
        if len(calls) == failing + 1:
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr("os.rename", failing_rename)
    with pytest.raises(OSError, match="No space left on device") as raised:
        write(to, a="three", b="four")
    assert raised.value.filename == str(tmp_path)
    assert contents(tmp_path) == before


def test_a_file_that_came_to_be_there_meanwhile_stays(tmp_path):
    to = destination(tmp_path / "out")

    def overtaken():
        with to.staged() as stage:
            (stage / "a").write_text("new")
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "a").write_text("of somebody else")

    with pytest.raises(UsageError, match="was not written by"):
        overtaken()
    assert contents(tmp_path) == {"out/a": b"of somebody else"}
    with to.staged() as stage:
        (stage / "b").write_text("new")
    assert set(contents(tmp_path)) == {"out/a", "out/b"}


@pytest.mark.skipif(os.name != "posix", reason="kills a process")
@pytest.mark.parametrize("moves", range(1, 7))
def test_a_killed_run_is_tidied_up_by_the_next(tmp_path, moves):
    write(destination(tmp_path / "out"), a="one", b="two")
    child = os.fork()
    if not child:
        rename, left = os.rename, [moves]

        def fatal_rename(source, target):
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            rename(source, target)

        os.rename = fatal_rename
        write(destination(tmp_path / "out"), a="three", b="four")
        os._exit(0)
    os.waitpid(child, 0)
    found = contents(tmp_path / "out")
    # Nothing is lost: old or new, and a record only where all belongs together.
    for name, texts in (("a", (b"one", b"three")), ("b", (b"two", b"four"))):
        assert any(path.endswith(f"/{name}") or path == name for path in found)
        assert found.get(name, texts[0]) in texts
    again = destination(tmp_path / "out")
    again.check(["a", "b", "summary.json"])
    write(again, a="five", b="six")
    found = contents(tmp_path / "out")
    assert set(found) == {"a", "b", "summary.json"}
    assert (found["a"], found["b"]) == (b"five", b"six")


# --- of the commands ------------------------------------------------------------------------


def test_match_replaces_neither_its_image_nor_foreign_files(folder):
    (folder / "image.png").rename(folder / "overlay.png")
    before = contents(folder)
    for force in ((), ("--force",)):
        command = ("match", "overlay.png", *QUICK, "--out", ".", *force)
        refused(run(*command), "overlay.png would be replaced, and is the input overlay.png")
    assert contents(folder) == before
    (folder / "overlay.png").rename(folder / "image.png")
    for name in ("labels.npy", "labels.png", "summary.json"):
        (folder / name).write_bytes(b"mine")
        refused(run("match", "image.png", *QUICK, "--out", "."), f"{name} would be replaced")
        assert (folder / name).read_bytes() == b"mine"
        (folder / name).unlink()
    parsed(run("match", "image.png", *QUICK, "--out", ".", "--json"))
    parsed(run("match", "image.png", *QUICK, "--out", ".", "--json"))
    write_labels(folder / "labels.png", np.ones((18, 24), int))
    refused(run("match", "image.png", *QUICK, "--out", "."), "labels.png would be replaced")
    parsed(run("match", "image.png", *QUICK, "--out", ".", "--force", "--json"))
    leaves = ("match", "image.png", *SOFT, "--superpixels", "labels.png", "--out", ".", "--force")
    refused(run(*leaves), "is the input labels.png")


def test_refine_replaces_neither_soft_output_nor_truth(folder):
    for soft, truth in (("probabilities.npy", "truth.png"), ("soft.npy", "labels.png")):
        (folder / "soft.npy").rename(folder / soft)
        write_labels(folder / truth, np.zeros((18, 24), int))
        before = contents(folder)
        command = ("refine", "image.png", "--soft", soft, "--reading", "classes")
        name = truth if soft == "soft.npy" else soft
        for force in ((), ("--force",)):
            result = run(*command, "--truth", truth, "--out", ".", *force)
            refused(result, f"{name} would be replaced, and is the input {name}")
        assert contents(folder) == before
        (folder / soft).rename(folder / "soft.npy")


def test_a_folder_of_results_replaces_no_input_of_any_image(folder):
    for name in ("images", "soft", "result", "result/a"):
        (folder / name).mkdir()
    for name in ("a", "b"):
        (folder / "images" / f"{name}.png").write_bytes((folder / "image.png").read_bytes())
        (folder / "soft" / f"{name}.npy").write_bytes((folder / "soft.npy").read_bytes())
    # The soft output of b lies where the probabilities of a would go.
    (folder / "soft" / "b.npy").rename(folder / "result" / "a" / "probabilities.npy")
    (folder / "soft" / "b.npy").symlink_to(folder / "result" / "a" / "probabilities.npy")
    before = contents(folder)
    command = ("refine", "images", "--soft", "soft", "--reading", "classes", "--out", "result")
    refused(run(*command, "--force"), "probabilities.npy would be replaced, and is the input")
    assert contents(folder) == before


def test_index_commands_replace_no_foreign_files(folder):
    assert run("index", "create", "idx", "--grid", "18x24").exit_code == 0
    write_labels(folder / "a.png", np.zeros((18, 24), int))
    write_labels(folder / "b.png", np.eye(18, 24, dtype=int))
    assert run("index", "add", "idx", "a.png", "b.png").exit_code == 0
    commands = {
        "export": ("export", "idx", "."),
        "search": ("search", "idx", "b.png", "--out", "."),
        "duplicates": ("duplicates", "idx", "--radius", "1", "--out", "."),
    }
    before = contents(folder)
    refused(run("index", *commands["export"]), "a.png would be replaced, and was not written by")
    assert contents(folder) == before
    parsed(run("index", *commands["export"], "--force", "--json"))
    parsed(run("index", *commands["export"], "--id", "b", "--json"))
    assert (folder / "a.png").exists()
    for name in ("search", "duplicates"):
        (folder / f"{name}.png").write_bytes(b"mine")
        refused(run("index", *commands[name]), f"{name}.png would be replaced")
        parsed(run("index", *commands[name], "--force", "--json"))
        parsed(run("index", *commands[name], "--json"))
    (folder / "b.png").rename(folder / "search.png")
    refused(run("index", "search", "idx", "search.png", "--out", ".", "--force"), "is the input")


# --- streams and disks that fail ------------------------------------------------------------


def process(*arguments, code="", **options):
    """Run the program in a process of its own, after some code."""
    start = "from hiersearch.cli import main\nmain()"
    return subprocess.run(
        [sys.executable, "-c", f"{textwrap.dedent(code)}\n{start}", *map(str, arguments)],
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False, **options,
    )  # fmt: skip


needs_posix = pytest.mark.skipif(os.name != "posix", reason="descriptors and limits of POSIX")


@needs_posix
@pytest.mark.parametrize("quiet", [(), ("--json",)])
def test_a_reader_that_goes_away_ends_the_program_without_a_word(folder, quiet):
    write_labels(folder / "a.png", np.zeros((4, 5), int))
    reader, writer = os.pipe()
    os.close(reader)
    done = process("compare", "a.png", "a.png", *quiet, stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@needs_posix
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_behind_standard_output(folder):
    write_labels(folder / "a.png", np.zeros((4, 5), int))
    with open("/dev/full", "w") as full:
        done = process("compare", "a.png", "a.png", stdout=full)
    message = "hiersearch: error: standard output: no space left on device\n"
    assert (done.returncode, done.stderr) == (2, message)


@needs_posix
def test_a_closed_standard_output_is_refused_before_any_work(folder):
    done = process("match", "image.png", *QUICK, "--out", "out", preexec_fn=lambda: os.close(1))
    assert done.returncode == 2
    assert done.stderr.startswith("hiersearch: error: standard output must be open")
    assert not (folder / "out").exists()


@needs_posix
def test_a_closed_standard_error_sends_messages_nowhere(folder):
    done = process(
        "match", "absent.png", *QUICK, stdout=subprocess.PIPE, preexec_fn=lambda: os.close(2)
    )
    assert (done.returncode, done.stdout) == (2, "")


@needs_posix
@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("most", [100, 2000])
def test_a_full_disk_leaves_all_as_it_was(folder, there, most):
    if there:
        parsed(run("match", "image.png", *QUICK, "--out", "out", "--json"))
    before = contents(folder)
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, {most}))"
    command = ("match", "image.png", *QUICK, "--out", "out")
    code = f"""
        import sys; sys.dont_write_bytecode = True
        import hiersearch.cli.results, hiersearch.hierarchy.matching, hiersearch.plots
        {limit}
    """
    done = process(*command, code=code, stdout=subprocess.PIPE, env={**os.environ})
    assert (done.returncode, done.stdout) == (2, "")
    error = done.stderr.splitlines()[-1]
    assert error.startswith(f"hiersearch: error: {folder / 'out'}: "), done.stderr
    assert contents(folder) == before


@needs_posix
@pytest.mark.slow
def test_a_full_disk_under_a_training(folder):
    pytest.importorskip("torch")
    (folder / "cells").mkdir()
    for number in range(3):
        labels = np.eye(24, dtype=int)
        np.save(folder / "cells" / f"{number}.npy", (labels * 200 + number).astype(np.uint8))
        write_labels(folder / "cells" / f"{number}-labels.png", labels)
    before = contents(folder)
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))"
    command = ("train", "cells", "--widths", "4,6", "--steps", "2", "--crop", "16", "--out", "a.pt")
    done = process(*command, "--validation", "0", code=code, stdout=subprocess.PIPE)
    error = "hiersearch: error: a-checkpoint.pt: file too large\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", error)
    assert contents(folder) == before
