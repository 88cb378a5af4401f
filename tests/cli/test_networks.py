"""Networks from files on the command line: what they need, and what goes wrong in them."""

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from tests.cli.running import parsed, refused, run, write_scene  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit")

QUICK = ("--superpixels", "pixels", "--linkage", "average", "--json")
CLASSES = ("--network", "net.pt", "--reading", "classes")


class Demanding(torch.nn.Module):
    """Takes sides that are multiples of 32 alone; bright is the second class."""

    def forward(self, images):
        if images.shape[-1] % 32 != 0:
            raise RuntimeError("width must be divisible by 32")
        bright = 20 * images[:, :1] - 8
        return torch.cat((-bright, bright), 1)


class Sure(torch.nn.Module):
    """Ends with a softmax of its own."""

    def forward(self, images):
        bright = 20 * images[:, :1] - 8
        return torch.cat((-bright, bright), 1).softmax(1)


class Single(torch.nn.Module):
    """Gives the logit of the second class alone."""

    def forward(self, images):
        return 20 * images[:, :1] - 8


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_scene(tmp_path)
    return tmp_path


def save(module):
    torch.jit.script(module).save("net.pt")


def commands(folder):
    """Yield each command that runs networks, up to what they share."""
    yield ("match", "image.png", *QUICK)
    yield ("refine", "image.png", "--json")
    yield ("index", "search", "index", "image.png", "--json")


@pytest.fixture
def index(folder):
    parsed(run("index", "create", "index", "--grid", "18x24", "--json"))
    labels = (np.array(Image.open("image.png")) > 100).astype(np.uint16)
    Image.fromarray(labels).save("labels.png")
    parsed(run("index", "add", "index", "labels.png", "--json"))


@pytest.mark.usefixtures("index")
def test_a_network_that_raises_leads_to_padding_which_lets_it_work(folder):
    save(Demanding())
    for command in commands(folder):
        result = run(*command, *CLASSES)
        refused(result, "network net.pt cannot process an input of shape (1, 1, 18, 24)")
        refused(result, "width must be divisible by 32", "--pad 32")
        parsed(run(*command, *CLASSES, "--pad", 32))


@pytest.mark.usefixtures("index")
def test_a_second_softmax_is_warned_of_once(folder):
    save(Sure())
    for command in commands(folder):
        result = run(*command, *CLASSES)
        parsed(result)
        assert result.stderr.startswith("hiersearch: warning: output of network net.pt is prob")
        assert result.stderr.count("\n") == 1
        assert "--activation none" in result.stderr
        result = run(*command, *CLASSES, "--activation", "none")
        parsed(result)
        assert result.stderr == ""


def test_a_folder_of_images_is_warned_of_once(folder):
    save(Sure())
    (folder / "images").mkdir()
    for name in ("a.png", "b.png"):
        Image.open("image.png").save(folder / "images" / name)
    result = run("refine", "images", *CLASSES, "--json")
    parsed(result)
    assert result.stderr.count("warning") == 1


@pytest.mark.usefixtures("index")
def test_one_channel_needs_a_sigmoid_and_is_two_classes(folder):
    save(Single())
    for command in commands(folder):
        refused(run(*command, *CLASSES), "two channels or more", "--activation sigmoid")
        parsed(run(*command, *CLASSES, "--activation", "sigmoid"))
    found = parsed(run("match", "image.png", *QUICK, *CLASSES, "--activation", "sigmoid"))
    assert found["regions"] == 3


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--soft", "soft.npy", "--reading", "classes", "--pad", 32), ("--pad is for --network",)),
        (("--network", "nuclei", "--pad", 32), ("--pad is for --network FILE only", "every size")),
        ((*CLASSES, "--pad", 0), ("--pad must be within 1..4096, got 0",)),
        ((*CLASSES, "--pad", 9999), ("--pad must be within 1..4096, got 9999",)),
    ],
)
def test_padding_that_makes_no_sense(folder, arguments, parts):
    refused(run("match", "image.png", *arguments, *QUICK), *parts)


def test_a_file_that_is_no_network_is_named_without_advice_to_unpickle(folder):
    torch.save(torch.nn.Linear(2, 2), "net.pt")
    result = run("match", "image.png", *QUICK, *CLASSES)
    refused(result, "cannot load net.pt as a network")
    assert "weights_only" not in result.stderr
