"""Compiled code: kept where it can be, used only if it is whole, and never a reason to fail."""

import logging
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numba
import pytest

import hiersearch

PACKAGE = Path(hiersearch.__file__).parent

KERNEL = """
    from hiersearch._compile import compiled, compiled_part

    @compiled_part
    def twice(number):
        return 2 * number

    @compiled
    def one_more(number):
        return twice(number) + 1
"""
CALL = "import kernel; print(kernel.one_more(20), sum(kernel.one_more.stats.cache_hits.values()))"


@pytest.fixture
def module(tmp_path):
    (tmp_path / "kernel.py").write_text(textwrap.dedent(KERNEL))
    return tmp_path


def called(folder, code=CALL, **environment):
    """Run code in a process of its own; return what it printed on both streams."""
    known = {name: text for name, text in os.environ.items() if not name.startswith("NUMBA_")}
    paths = os.pathsep.join([str(folder), str(PACKAGE.parent)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=False, cwd=folder,
        env={**known, "PYTHONPATH": paths, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def kept(folder):
    return sorted(folder.glob("**/kernel.one_more*.nb?"))


def spoil_end(path):
    path.write_bytes(path.read_bytes()[:-40])


def spoil_all(path):
    path.write_bytes(b"nonsense" * 20)


def spoil_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_code_is_kept_and_found_again_while_it_is_whole(module):
    assert called(module) == ("41 0\n", "")
    code, index = kept(module)
    assert (code.suffix, index.suffix) == (".nbc", ".nbi")
    assert called(module) == ("41 1\n", "")
    for path, spoil in (
        (index, spoil_end), (index, spoil_all), (code, spoil_end), (code, spoil_bit),
    ):  # fmt: skip
        spoil(path)
        assert called(module) == ("41 0\n", ""), (path, spoil)
    assert called(module) == ("41 1\n", "")


@pytest.mark.skipif(
    not hasattr(numba.config, "CACHE_LOCATOR_CLASSES"),
    reason="this version of Numba can't be told where not to look for a place",
)
def test_without_a_place_for_it_code_is_compiled_and_that_is_said_once(module):
    # A file where the folder would be, and no other place: also for root, whom no mode stops.
    (module / "kernel.py").chmod(0o444)
    (module / "taken").write_text("")
    output, message = called(
        module,
        NUMBA_CACHE_DIR=str(module / "taken"),
        NUMBA_CACHE_LOCATOR_CLASSES="UserProvidedCacheLocator",
        HOME="/nonexistent",
    )
    assert output == "41 0\n"
    assert message.startswith("compiled code cannot be kept, and each start compiles anew")
    assert message.count("\n") == 1
    assert not kept(module)


def test_a_folder_that_takes_nothing_any_more_is_no_reason_to_fail(module):
    code = """
        import os, shutil, kernel
        shutil.rmtree("cache")
        open("cache", "w").close()
        print(kernel.one_more(20))
    """
    cache = module / "cache"
    output, message = called(module, textwrap.dedent(code), NUMBA_CACHE_DIR=str(cache))
    assert output == "41\n"
    assert message.startswith("compiled code cannot be kept")
    assert message.count("\n") == 1


def test_without_a_home_no_folder_of_that_name_is_made(module):
    code = """
        import os
        os.path.expanduser = lambda path: path  # no HOME, and a user whom the system doesn't know
        os.access = lambda path, mode: False
        import kernel
        print(kernel.one_more(20))
    """
    output, message = called(module, textwrap.dedent(code))
    assert output == "41\n"
    assert "no folder for it can be written" in message
    assert not (module / "~").exists()


def test_kernels_can_be_left_uncompiled(module):
    code = "import kernel; print(kernel.one_more(20), type(kernel.one_more).__name__)"
    assert called(module, code, NUMBA_DISABLE_JIT="1") == ("41 function\n", "")


@pytest.mark.slow
def test_the_program_works_from_a_folder_that_cannot_be_written(tmp_path):
    site = tmp_path / "site"
    shutil.copytree(PACKAGE, site / "hiersearch", ignore=shutil.ignore_patterns("__pycache__"))
    # Files where Numba wants folders.
    for folder in (site / "hiersearch").glob("**/"):
        (folder / "__pycache__").write_text("")
    for name in ("a", "b"):
        shutil.copy(PACKAGE / "data" / "nuclei-labels.png", tmp_path / f"{name}.png")
    done = subprocess.run(
        [sys.executable, "-B", "-m", "hiersearch", "compare", "a.png", "b.png"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site), "HOME": "/proc/nonexistent"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "A and B are the same partition." in done.stdout
    assert done.stderr.startswith("hiersearch: warning: compiled code cannot be kept")
    assert done.stderr.count("\n") == 1


def test_the_warning_comes_from_the_logger_of_the_package(monkeypatch, caplog):
    from hiersearch import _compile

    monkeypatch.setattr(_compile, "_told", False)
    with caplog.at_level(logging.WARNING, logger="hiersearch"):
        for reason in ("the disk is full", "another"):
            _compile._tell_once(reason)
    assert [record.name for record in caplog.records] == ["hiersearch"]
    assert "the disk is full" in caplog.text
    assert "NUMBA_CACHE_DIR" in caplog.text
