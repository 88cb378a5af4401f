"""The program as a process: start, help, interruption, missing extras; and the demo."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from hiersearch import __version__
from tests.cli.running import parsed, refused, run, write_scene


def process(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "hiersearch", *map(str, arguments)],
        capture_output=True, text=True, check=False, **options,
    )  # fmt: skip


def test_version_and_help():
    assert run("--version").stdout == f"hiersearch {__version__}\n"
    for arguments in (("--help",), ("match", "--help"), ("compare", "--help"), ("demo", "--help")):
        result = run(*arguments)
        assert result.exit_code == 0
        assert "Usage" in result.stdout
    refused(run(), "Missing command")
    refused(run("mach"), "mach", "match")


def test_help_needs_none_of_the_heavy_packages():
    code = """
        import sys
        from typer.testing import CliRunner
        from hiersearch.cli import app
        assert CliRunner().invoke(app, ["match", "--help"]).exit_code == 0
        assert CliRunner().invoke(app, ["match", "a.png"]).exit_code == 2
        heavy = {"numpy", "scipy", "numba", "skimage", "matplotlib", "torch"} & set(sys.modules)
        sys.exit(f"imported {heavy}" if heavy else 0)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_the_program_writes_json_to_standard_output_and_nothing_else(tmp_path):
    write_scene(tmp_path)
    quick = ("--superpixels", "pixels", "--linkage", "average", "--json")
    done = process(
        "match", "image.png", "--soft", "soft.npy", "--reading", "classes", *quick, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    summary = json.loads(done.stdout)
    assert np.load(summary["partition"]).max() + 1 == summary["regions"]
    failed = process("match", "image.png", "--soft", "absent.npy", *quick, cwd=tmp_path)
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr.startswith("hiersearch: error: --reading must say")


def test_without_torch_the_demo_says_what_to_install(tmp_path):
    code = """
        import sys
        sys.modules["torch"] = None
        from hiersearch.cli import main
        sys.argv = ["hiersearch", "demo", "--out", "out"]
        main()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert 'pip install "hiersearch[torch]"' in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_an_interrupted_run_exits_130_and_leaves_nothing(tmp_path):
    write_scene(tmp_path)
    code = """
        import os, signal, sys
        # A parent that runs in the background may have left the signal ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from hiersearch import plots
        def interrupt(*args, **options):
            os.kill(os.getpid(), signal.SIGINT)
        plots.match_figure = interrupt  # between the label maps and the last picture
        from hiersearch.cli import main
        sys.argv = ("hiersearch match image.png --soft soft.npy --reading classes "
                    "--superpixels pixels --linkage average --overview --out deep/out").split()
        main()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.png", "soft.npy"]


def test_faults_of_the_program_keep_their_traceback(monkeypatch, tmp_path):
    write_scene(tmp_path)
    monkeypatch.chdir(tmp_path)

    def broken(*args, **options):
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr("hiersearch.partitions.files.read_plain_image", broken)
    result = run("match", "image.png", "--soft", "soft.npy", "--reading", "classes")
    assert isinstance(result.exception, ZeroDivisionError)


def test_the_demo_finds_nuclei(tmp_path):
    pytest.importorskip("torch")
    summary = parsed(run("demo", "--out", tmp_path / "demo", "--json"))
    assert summary["distance"] <= summary["horizontal"]["distance"]
    assert 20 < summary["regions"] < summary["superpixels"]["regions"]
    assert set(os.listdir(tmp_path / "demo")) == {
        "labels.npy", "labels.png", "overlay.png", "overview.png", "summary.json",
    }  # fmt: skip


def test_the_shipped_network_on_an_image(tmp_path):
    pytest.importorskip("torch")
    from PIL import Image

    from hiersearch.data import demo_image

    Image.fromarray(demo_image()[:64, :96]).save(tmp_path / "crop.png")
    out = tmp_path / "out"
    result = run("match", tmp_path / "crop.png", "--network", "nuclei", "--out", out, "--json")
    summary = parsed(result)
    assert summary["network"] == "nuclei"
    assert summary["grid"] == [64, 96]


def test_a_network_from_a_file(tmp_path):
    torch = pytest.importorskip("torch")
    write_scene(tmp_path)

    class Brightness(torch.nn.Module):
        def forward(self, images):
            bright = 20 * images.mean(dim=1, keepdim=True) - 5
            return torch.cat([-bright, bright], dim=1)

    torch.jit.script(Brightness()).save(str(tmp_path / "own.pt"))
    summary = parsed(
        run(
            "match", tmp_path / "image.png", "--network", tmp_path / "own.pt", "--reading",
            "classes", "--superpixels", "pixels", "--out", tmp_path / "out", "--json",
        )
    )  # fmt: skip
    assert summary["regions"] == 3


def test_warnings_of_the_package_are_shown_and_those_of_libraries_are_not(tmp_path):
    code = """
        import sys, warnings
        import hiersearch.partitions.files as files
        from hiersearch.errors import HiersearchWarning
        read = files.read_label_map
        def read_with_warnings(path, **options):
            warnings.warn("a library's", UserWarning)
            warnings.warn("half of it is\\n gone \\x1b", HiersearchWarning)
            return read(path, **options)
        files.read_label_map = read_with_warnings
        from hiersearch.cli import main
        sys.argv = ["hiersearch", "compare", "a.npy", "a.npy", "--json"]
        main()
    """
    np.save(tmp_path / "a.npy", np.zeros((4, 5), int))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["distance"] == 0
    assert done.stderr == "hiersearch: warning: half of it is gone \\x1b\n"
