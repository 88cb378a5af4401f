"""Each kind of bad input ends in one sentence that says what is wrong, and leaves no file."""

import numpy as np
import pytest

from tests.cli.running import HEIGHT, WIDTH, refused, run, scene, write_labels, write_scene

SOFT = ("--soft", "soft.npy", "--reading", "classes")
QUICK = ("--superpixels", "pixels", "--linkage", "average")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_scene(tmp_path)
    return tmp_path


@pytest.fixture
def refuses(folder):
    """Run ``match`` on the scene with other options; check the refusal and that no file is left."""

    def check(arguments, *parts, json=True):
        before = sorted(path.name for path in folder.rglob("*"))
        quiet = ("--json",) if json else ()
        refused(run("match", *arguments, *quiet), *parts)
        assert sorted(path.name for path in folder.rglob("*")) == before

    return check


def spoiled(index, value):
    soft = scene()[1]
    soft[index] = value
    np.save("soft.npy", soft)


# --- values of the soft output --------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(refuses, value):
    spoiled((1, 4, 6), value)
    wanted = ("soft.npy", "must be finite", f"got {value:g}", "channel 1", "pixel (4, 6)")
    refuses(("image.png", *SOFT, *QUICK), *wanted)


@pytest.mark.parametrize("reading", ["regions", "classes"])
def test_probabilities_that_do_not_sum_to_one_name_the_pixel(refuses, reading):
    spoiled((0, 5, 7), 0.5)
    arguments = ("image.png", "--soft", "soft.npy", "--reading", reading, *QUICK)
    refuses(arguments, "soft.npy", "sum to 1", "at pixel (5, 7)", "1.4")


def test_negative_probabilities(refuses):
    spoiled((slice(None), 5, 7), [-0.2, 1.2])
    refuses(("image.png", *SOFT, *QUICK), "must not be negative", "pixel (5, 7)")


def test_boundaries_outside_the_range(refuses):
    np.save("edges.npy", np.full((HEIGHT, WIDTH), 1.5))
    refuses(
        ("image.png", "--soft", "edges.npy", "--reading", "boundaries", *QUICK),
        "edges.npy: boundary must be within [0, 1], got 1.5",
    )


def test_boundaries_need_one_channel(refuses):
    refuses(
        ("image.png", "--soft", "soft.npy", "--reading", "boundaries", *QUICK),
        "boundaries reading needs one channel, got 2",
    )


def test_soft_outputs_of_integers(refuses):
    np.save("soft.npy", np.zeros((2, HEIGHT, WIDTH), np.int64))
    refuses(("image.png", *SOFT, *QUICK), "soft.npy", "floating-point", "int64")


# --- shapes ---------------------------------------------------------------------------------


def test_a_channel_axis_that_is_wrong(refuses):
    refuses(
        ("image.png", *SOFT, "--channel-axis", 1, *QUICK),
        "--channel-axis 1 does not fit the image",
        "soft.npy has shape (2, 18, 24)",
        "0 leaves (18, 24)",
    )
    refuses(("image.png", *SOFT, "--channel-axis", 3, *QUICK), "within -3..2", "got 3")


def test_a_channel_axis_that_is_ambiguous(refuses):
    np.save("cube.npy", np.full((8, 8, 8), 1 / 8, np.float32))
    np.save("square.npy", np.zeros((8, 8), np.uint8))
    arguments = ("square.npy", "--soft", "cube.npy", "--reading", "regions")
    refuses(arguments, "--channel-axis must be given, since axes [0, 1, 2] all fit", "(8, 8, 8)")


def test_image_and_soft_output_of_different_shapes(refuses):
    np.save("soft.npy", scene()[1][:, :, :-1])
    wanted = ("must share one grid", "soft.npy has shape (2, 18, 23)", "has shape (18, 24)")
    refuses(("image.png", *SOFT, *QUICK), *wanted)
    refuses(("image.png", *SOFT, "--channel-axis", 0, *QUICK), *wanted)


def test_superpixels_on_another_grid(refuses, folder):
    write_labels(folder / "leaves.png", np.zeros((4, 5), int))
    refuses(
        ("image.png", *SOFT, "--superpixels", "leaves.png"),
        "superpixels must lie on the grid (18, 24)",
        "leaves.png has shape (4, 5)",
    )


def test_an_empty_image(refuses):
    np.save("empty.npy", np.zeros((0, 5), np.uint8))
    refuses(("empty.npy", *SOFT, *QUICK), "empty.npy does not hold an image", "(0, 5)")


def test_an_image_with_nan(refuses):
    image = scene()[0].astype(np.float32)
    image[3, 4] = np.nan
    np.save("nan.npy", image)
    refuses(("nan.npy", *SOFT, *QUICK), "image must be finite", "(3, 4)")


# --- files ----------------------------------------------------------------------------------


def test_missing_files(refuses):
    refuses(("absent.png", *SOFT, *QUICK), "absent.png: no such file")
    refuses(("image.png", "--soft", "absent.npy", *SOFT[2:], *QUICK), "absent.npy: no such file")
    refuses(("image.png", *SOFT, "--superpixels", "absent.png"), "label map file", "absent.png")


@pytest.mark.parametrize("keep", [0, 10, 60])
def test_truncated_images(refuses, folder, keep):
    content = (folder / "image.png").read_bytes()
    (folder / "image.png").write_bytes(content[:keep])
    refuses(("image.png", *SOFT, *QUICK), "cannot read image.png as an image")


@pytest.mark.parametrize("keep", [0, 40, 900])
def test_truncated_soft_outputs(refuses, folder, keep):
    content = (folder / "soft.npy").read_bytes()
    (folder / "soft.npy").write_bytes(content[:keep])
    refuses(("image.png", *SOFT, *QUICK), "cannot read soft.npy as probabilities")


def test_files_of_another_kind(refuses, folder):
    (folder / "notes.txt").write_text("hello")
    refuses(("notes.txt", *SOFT, *QUICK), "notes.txt", "must end in")
    refuses((".", *SOFT, *QUICK), ".")


def test_soft_outputs_are_never_unpickled(refuses):
    np.save("soft.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    refuses(("image.png", *SOFT, *QUICK), "cannot read soft.npy as probabilities")


def test_superpixels_that_are_no_whole_numbers(refuses):
    np.save("leaves.npy", np.full((HEIGHT, WIDTH), 0.5))
    arguments = ("image.png", *SOFT, "--superpixels", "leaves.npy")
    refuses(arguments, "leaves.npy must be whole numbers, got 0.5 at index (0, 0)")


def test_keys_of_files_that_hold_several_arrays(refuses, folder):
    soft = scene()[1]
    np.savez("several.npz", image=scene()[0], soft=soft)
    arguments = ("image.png", "--soft", "several.npz", "--reading", "classes", *QUICK)
    refuses(arguments, "several arrays", "(image, soft)", "--key")
    refuses((*arguments, "--key", "sofd"), "no array named 'sofd' (its arrays: image, soft)")
    refuses(("image.png", *SOFT, *QUICK, "--key", "x"), "--key is for .npz, .pt, .pth files only")
    refuses(("image.png", "--network", "nuclei", "--key", "x"), "--key is for --soft only, got 'x'")
    assert run("match", *arguments, "--key", "soft", "--out", "out").exit_code == 0


def test_weights_that_are_none(refuses, folder):
    pytest.importorskip("torch")
    (folder / "weights.pt").write_bytes(b"not a network")
    refuses(
        ("image.png", "--network", "weights.pt", "--reading", "classes", *QUICK),
        "cannot load weights.pt as a network",
    )


def test_weights_that_do_not_say_what_their_channels_mean(refuses):
    torch = pytest.importorskip("torch")
    from hiersearch.networks.unet import SmallUNet

    torch.save(SmallUNet(classes=2, widths=(4, 6)).state_dict(), "weights.pt")
    arguments = ("image.png", "--network", "weights.pt")
    refuses(arguments, "--reading must say what the channels mean", "affinities")
    refuses((*arguments, "--offsets", "0,1"), "--reading must say what the channels mean")
    refuses((*arguments, "--reading", "affinities"), "--offsets must be given")


def test_weights_with_code_are_not_run(refuses, folder):
    pytest.importorskip("torch")
    import pickle

    class Harmful:
        def __reduce__(self):
            return (open, (str(folder / "harm"), "w"))

    (folder / "weights.pt").write_bytes(pickle.dumps(Harmful()))
    refuses(
        ("image.png", "--network", "weights.pt", "--reading", "classes", *QUICK),
        "cannot load weights.pt as a network",
    )


# --- options --------------------------------------------------------------------------------


@pytest.mark.parametrize("regions", [0, -3, HEIGHT * WIDTH + 1])
def test_numbers_of_regions_out_of_range(refuses, regions):
    refuses(
        ("image.png", *SOFT, *QUICK, "--n-regions", regions), "regions must be", f"got {regions}"
    )


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ((), ("exactly one of --soft and --network, got neither",)),
        ((*SOFT, "--network", "nuclei"), ("exactly one of --soft and --network, got both",)),
        (("--soft", "soft.npy"), ("--reading must say what the channels mean", "affinities")),
        (("--network", "own.pt"), ("own.pt: no such file",)),
        (("--network", "nuclei", "--reading", "classes"), ("--reading is fixed",)),
        (("--soft", "soft.npy", "--reading", "classy"), ("--reading must be one of", "'classy'")),
        ((*SOFT, "--activation", "softmax"), ("--activation is for --network only",)),
        (("--network", "nuclei", "--channel-axis", "0"), ("--channel-axis is for --soft only",)),
        ((*SOFT, "--offsets", "0,1"), ("--offsets is for --reading affinities only",)),
        (("--soft", "soft.npy", "--reading", "affinities"), ("--offsets must be given",)),
        ((*SOFT, "--linkage", "wards"), ("--linkage must be one of", "'wards'")),
        ((*SOFT, "--linkage", "mix"), ("--linkage must be one of", "'mix'")),
        ((*SOFT, "--superpixels", "snic"), ("--superpixels must be one of", "'snic'")),
        ((*SOFT, *QUICK, "--superpixel-count", "9"), ("--superpixel-count is for",)),
        ((*SOFT, "--superpixel-count", "0"), ("--superpixel-count must be at least 1",)),
        ((*SOFT, "-k", "0"), ("-k must be at least 1, got 0",)),
        ((*SOFT, "-k", "2", "--n-regions", "3"), ("-k cannot be combined with --n-regions",)),
        ((*SOFT, "--minimum-size", "-1"), ("--minimum-size", "at least 0")),
        ((*SOFT, "--class-weight", "nan"), ("--class-weight", "got nan")),
        ((*SOFT, "--n-regions", "many"), ("--n-regions", "valid integer")),
        ((*SOFT, "--no-such-option"), ("--no-such-option",)),
    ],
)
def test_options_that_do_not_go_together(refuses, arguments, parts):
    refuses(("image.png", *arguments), *parts)


@pytest.mark.parametrize(
    "offsets", ["", "1", "0,1;1,0;1,1", "0,1;x,0", "0,1;1", "0.5,1;1,0", "0,1;;1,0"]
)
def test_bad_offsets(refuses, offsets):
    if offsets == "0,1;1,0;1,1":
        # Well written, but three offsets for two channels.
        parts = ("soft.npy", "affinities with 3 offsets must have as many channels", "got 2")
    else:
        parts = ("--offsets must", repr(offsets))
    arguments = ("image.png", "--soft", "soft.npy", "--reading", "affinities", *QUICK)
    refuses((*arguments, "--offsets", offsets), *parts)


def test_offsets_that_leave_the_grid(refuses):
    arguments = ("image.png", "--soft", "soft.npy", "--reading", "affinities", *QUICK)
    refuses((*arguments, "--offsets", "0,100;100,0"), "soft.npy", "know a pair of pixels")


def test_constraints_that_cannot_be_met(refuses):
    refuses(("image.png", *SOFT, *QUICK, "--minimum-size", 1e6), "constraints must allow a cut")


def test_a_class_term_without_classes(refuses):
    np.save("aff.npy", scene()[1])
    arguments = (
        "image.png",
        "--soft",
        "aff.npy",
        "--reading",
        "affinities",
        "--offsets",
        "0,1;1,0",
    )
    refuses((*arguments, *QUICK, "--class-weight", 1), "class")


# --- the folder to write to -----------------------------------------------------------------


def test_a_folder_that_cannot_be(refuses, folder):
    for out in ("image.png", "image.png/deeper"):
        refuses(("image.png", *SOFT, *QUICK, "--out", out), "cannot be a folder", "is a file")


def test_a_folder_in_place_of_a_file(refuses, folder):
    (folder / "out" / "labels.npy").mkdir(parents=True)
    refuses(("image.png", *SOFT, *QUICK, "--out", "out"), "labels.npy is in the way")


def test_messages_are_the_same_without_json(refuses):
    refuses(("absent.png", *SOFT), "absent.png: no such file", json=False)
