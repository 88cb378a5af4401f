"""Ended from outside, at any time: nothing is left behind, and the exit code says how."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from hiersearch.cli import signals
from tests.cli.running import parsed, run, write_scene

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends signals")

MATCH = (
    "match", "image.png", "--soft", "soft.npy", "--reading", "classes",
    "--superpixels", "pixels", "--linkage", "average", "--out", "deep/out",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    write_scene(tmp_path)
    return tmp_path


def interrupted(code, *arguments):
    """Run the program in a process of its own after code that will end it."""
    start = """
        import os, signal, sys, time
        # A parent that runs in the background may have left the signal ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        def end(*numbers):
            for number in numbers:
                os.kill(os.getpid(), number)
    """
    end = f"\nfrom hiersearch.cli import main\nsys.argv = {['hiersearch', *arguments]!r}\nmain()"
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(start) + textwrap.dedent(code) + end],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize(
    ("name", "code", "word"),
    [("SIGTERM", 143, "terminated"), ("SIGHUP", 129, "hung up"), ("SIGINT", 130, "interrupted")],
)
def test_between_two_files_nothing_is_left(folder, name, code, word):
    before = names(folder)
    done = interrupted(
        f"""
        from hiersearch import plots
        plots.save_picture = lambda *args: end(signal.{name})
        """,
        *MATCH,
    )
    assert done.returncode == code
    assert done.stderr.strip() == f"hiersearch: {word}"
    assert names(folder) == before


def test_two_signals_at_once_leave_nothing_either(folder):
    # As a terminal that closes, or a service manager, sends them.
    before = names(folder)
    done = interrupted(
        """
        import shutil
        from hiersearch import plots
        plots.save_picture = lambda *args: end(signal.SIGTERM, signal.SIGHUP)
        remove = shutil.rmtree
        def interrupted_remove(*args, **options):
            end(signal.SIGTERM)
            remove(*args, **options)
        shutil.rmtree = interrupted_remove
        """,
        *MATCH,
    )
    assert done.returncode == 143
    assert "Traceback" not in done.stderr
    assert names(folder) == before


def test_while_files_move_to_their_place_all_of_them_do(folder):
    parsed(run(*MATCH, "--json"))
    labels = folder / "deep" / "out" / "labels.npy"
    before, stamp = names(folder), labels.stat().st_mtime_ns
    done = interrupted(
        """
        rename = os.rename
        def interrupted_rename(*args):
            rename(*args)
            end(signal.SIGTERM)
        os.rename = interrupted_rename
        """,
        *MATCH,
    )
    assert done.returncode == 143
    assert names(folder) == before
    assert labels.stat().st_mtime_ns > stamp
    parsed(run(*MATCH, "--json"))


def test_adding_to_an_index_says_what_is_there(folder):
    assert run("index", "create", "idx", "--grid", "18x24").exit_code == 0
    before = names(folder)
    done = interrupted(
        """
        import hiersearch.index.resample as module
        module.resampled = lambda *args: end(signal.SIGTERM)
        """,
        *("index", "add", "idx", "image.png"),
    )
    assert done.returncode == 143
    assert "idx is sound and holds 0 entries" in done.stderr
    assert "Traceback" not in done.stderr
    left = [name for name in names(folder) if name not in before]
    assert [name for name in left if "tmp" in name] == []
    assert run("index", "verify", "idx").exit_code == 0


def test_a_folder_of_images_keeps_what_was_done(folder):
    (folder / "images").mkdir()
    (folder / "soft").mkdir()
    for name in ("a", "b"):
        (folder / "images" / f"{name}.png").write_bytes((folder / "image.png").read_bytes())
        (folder / "soft" / f"{name}.npy").write_bytes((folder / "soft.npy").read_bytes())
    done = interrupted(
        """
        from hiersearch.cli import refining
        write, calls = refining._write, []
        def second(*args):
            calls.append(1)
            if len(calls) == 2:
                end(signal.SIGTERM)
            return write(*args)
        refining._write = second
        """,
        *("refine", "images", "--soft", "soft", "--reading", "classes", "--out", "out"),
    )
    assert done.returncode == 143
    assert done.stderr.strip().startswith("hiersearch: terminated: 1 of 2 images are in ")
    assert os.listdir("out") == ["a"]


def test_a_signal_that_is_ignored_stays_ignored(folder):
    done = interrupted(
        """
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        from hiersearch import plots
        save = plots.save_picture
        def hung_up(*args):
            end(signal.SIGHUP)
            save(*args)
        plots.save_picture = hung_up
        """,
        *MATCH,
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "deep" / "out" / "summary.json").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("heard_interrupts")
def test_training_keeps_what_was_done(folder):
    pytest.importorskip("torch")
    import numpy as np
    from PIL import Image

    from tests.cli.running import write_labels
    from tests.networks.training.small_training import squares

    (folder / "cells").mkdir()
    for number, (image, labels) in enumerate(zip(*squares(), strict=True)):
        Image.fromarray(image).save(folder / "cells" / f"{number}.png")
        write_labels(folder / "cells" / f"{number}-labels.png", np.asarray(labels))
    options = ("--widths", "4,6", "--batch", "2", "--crop", "16", "--every", "4", "--steps", "4000")
    command = ("train", "cells", *options, "--reading", "classes", "--out", "own.pt")
    process = subprocess.Popen(
        [sys.executable, "-m", "hiersearch", *command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while not os.path.exists("own-checkpoint.pt") and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    output, message = process.communicate(timeout=300)
    assert (process.returncode, output) == (143, "")
    assert "hiersearch: terminated: " in message
    assert "steps are in own-checkpoint.pt, and the same command goes on from there" in message
    assert sorted(path.name for path in folder.glob("own*")) == ["own-checkpoint.pt"]


def test_signals_are_held_only_within_the_block(monkeypatch):
    monkeypatch.setattr(signals, "_first", 0)
    monkeypatch.setattr(signals, "_held", 0)
    monkeypatch.setattr(signals, "_heard_at", 0.0)
    steps = []

    def act():
        with signals.held():
            with signals.held():
                signals._interrupt(signal.SIGTERM, None)
                steps.append("inner")
            steps.append("outer")
        steps.append("never")

    with pytest.raises(KeyboardInterrupt):
        act()
    assert steps == ["inner", "outer"]
    assert (signals.heard(), signals.exit_code(), signals.word()) == (True, 143, "terminated")
    signals._interrupt(signal.SIGHUP, None)  # at once after the first: not heard
    monkeypatch.setattr(signals, "_heard_at", -100.0)
    with pytest.raises(KeyboardInterrupt):
        signals._interrupt(signal.SIGHUP, None)
    assert signals.exit_code() == 143
