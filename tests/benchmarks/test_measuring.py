"""What a section says of where it was measured."""

import re
import shutil
import subprocess

import numpy as np
import pytest

from benchmarks.measuring import commit, in_turn, machine, peak, restarted_peak

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def test_a_line_names_the_day_the_commit_the_time_and_each_version_once():
    line = machine(("numpy", "no-such-package"), "0123abc", "5 min")
    assert re.match(r"\d{4}-\d\d-\d\d, commit 0123abc, ", line)
    assert f"numpy {np.__version__}, " in line
    assert line.count("numpy ") == 1
    assert "in 5 min; hiersearch " in line
    assert line.endswith("no-such-package not installed")


@needs_git
def test_a_commit_is_said_to_have_changes_only_where_what_is_measured_changed(tmp_path):
    def git(*arguments):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True, capture_output=True)

    assert commit(tmp_path) == "unknown"
    git("init")
    for folder in ("hiersearch", "benchmarks"):
        (tmp_path / folder).mkdir()
    code, results = tmp_path / "hiersearch" / "code.py", tmp_path / "benchmarks" / "RESULTS.md"
    for path in (code, results):
        path.write_text("1\n")
    git("add", ".")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-m", "first")
    clean = commit(tmp_path)
    assert re.fullmatch(r"[0-9a-f]{7}", clean)
    results.write_text("2\n")
    assert commit(tmp_path) == clean
    code.write_text("2\n")
    assert commit(tmp_path) == f"{clean} with changes"


def test_functions_are_timed_as_often_as_asked():
    found = in_turn({"sum": lambda: sum(range(1000)), "none": lambda: None}, repeats=3)
    assert found.keys() == {"sum", "none"}
    assert all(timing.milliseconds.shape == (3,) for timing in found.values())


def test_peak_memory_counts_what_was_used_and_given_back():
    try:
        before = restarted_peak()
    except OSError:
        pytest.skip("peak memory is read from Linux's /proc")
    np.ones(2**23)  # 64 MiB
    assert peak() - before > 50
