import os
import pickle
import subprocess
import sys
import zipfile
from importlib import resources

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hiersearch.data import demo_image, demo_labels  # noqa: E402
from hiersearch.errors import FileFormatError, MissingExtraError  # noqa: E402
from hiersearch.networks import NetworkError, load_network, nuclei_network  # noqa: E402
from hiersearch.networks.loading import trained_header  # noqa: E402
from hiersearch.networks.models import ModelHeader, write_model  # noqa: E402
from hiersearch.networks.unet import SmallUNet  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{message}")
    for message in (
        "`torch.jit",  # deprecated, and still what networks are stored as
        "Converting a tensor to a Python boolean",
        "Detected pickle protocol",
    )
]

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (13, 18, 3), dtype=np.uint8)


class Bomb:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (os.mkdir, (str(self.trace),))


# --- the shipped network ------------------------------------------------------------------


@pytest.fixture(scope="module")
def nuclei():
    return nuclei_network()


def test_shipped_weights_are_small():
    weights = resources.files("hiersearch.networks") / "weights" / "nuclei.pt"
    with resources.as_file(weights) as path:
        assert path.stat().st_size <= 2.5e6


def test_the_shipped_network_finds_the_nuclei_of_the_demo_image(nuclei):
    soft = nuclei(demo_image())
    assert nuclei.channels == ("background", "interior", "boundary")
    assert soft.dtype == np.float32
    np.testing.assert_allclose(soft.sum(0), 1, atol=1e-5)
    truth, found = demo_labels() > 0, soft[1:].sum(0) > 0.5
    assert (truth & found).sum() / (truth | found).sum() > 0.85


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 1), (1, 1, 3), (1, 30), (9, 17), (13, 18, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_shipped_network_takes_every_size_and_type(nuclei, shape, dtype):
    soft = nuclei(RNG.integers(0, np.iinfo(dtype).max, shape).astype(dtype))
    assert soft.shape == (3, *shape[:2])
    np.testing.assert_allclose(soft.sum(0), 1, atol=1e-5)


def test_8_and_16_bits_and_grey_and_rgb_agree(nuclei):
    image = demo_image()[:64, :64]
    soft = nuclei(image)
    np.testing.assert_allclose(nuclei(image.astype(np.uint16) * 257), soft, atol=1e-4)
    np.testing.assert_allclose(nuclei(np.stack([image] * 3, axis=-1)), soft, atol=1e-4)


# --- files --------------------------------------------------------------------------------


class Swap(torch.nn.Module):
    """Reverses the channels, as logits, so that a test sees what went in."""

    def forward(self, images):
        return images.flip(1) * 8 - 4


def test_torchscript_round_trip(tmp_path):
    torch.jit.script(Swap()).save(str(tmp_path / "swap.pt"))
    network = load_network(
        tmp_path / "swap.pt", activation="sigmoid", channels=("blue", "green", "red")
    )
    assert network.name == "swap.pt"
    logits = np.moveaxis(RGB[..., ::-1], -1, 0) / 255.0 * 8 - 4
    np.testing.assert_allclose(network(RGB), 1 / (1 + np.exp(-logits)), atol=1e-5)


def test_a_small_unet_can_be_exported_and_loaded_both_ways(tmp_path):
    torch.manual_seed(0)
    model = SmallUNet(classes=2, widths=(4, 6, 8)).eval()
    torch.save(model.state_dict(), tmp_path / "state.pt")
    traced = torch.jit.trace(model, torch.rand(1, 3, 13, 18))
    traced.save(str(tmp_path / "traced.ts"))
    with torch.inference_mode():
        batch = torch.from_numpy(RGB).permute(2, 0, 1)[None] / 255
        expected = model(batch).softmax(1)[0].numpy()
    for name in ("state.pt", "traced.ts"):
        network = load_network(tmp_path / name, activation="softmax")
        np.testing.assert_allclose(network(RGB), expected, atol=1e-5)


def test_a_network_that_cannot_take_the_image_says_its_shape(tmp_path):
    torch.jit.script(torch.nn.Conv2d(3, 2, 1)).save(str(tmp_path / "a.pt"))
    network = load_network(tmp_path / "a.pt", activation="softmax")
    with pytest.raises(ValueError, match=r"a.pt cannot process an input of shape \(1, 1, 13, 18\)"):
        network(RGB[..., 0])
    assert load_network(tmp_path / "a.pt", activation="softmax", input_channels=3)(
        RGB[..., 0]
    ).shape == (2, 13, 18)


def damaged(tmp_path):
    """Yield files that are no networks, under the names of networks."""
    torch.save(Bomb(tmp_path / "executed"), tmp_path / "bomb.pt")
    yield "bomb.pt"
    (tmp_path / "pickle.pth").write_bytes(pickle.dumps(Bomb(tmp_path / "executed"), protocol=2))
    yield "pickle.pth"
    torch.save(SmallUNet(widths=(4, 6)), tmp_path / "module.pt")
    yield "module.pt"
    (tmp_path / "noise.pt").write_bytes(RNG.integers(0, 256, 999, dtype=np.uint8).tobytes())
    yield "noise.pt"
    (tmp_path / "empty.pt").write_bytes(b"")
    yield "empty.pt"
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "linear.pt")
    yield "linear.pt"
    state = SmallUNet(widths=(4, 6)).state_dict()
    torch.save({**state, "head.weight": torch.zeros(2, 5, 1, 1)}, tmp_path / "shape.pt")
    yield "shape.pt"
    torch.save({**state, "head.bias": torch.full((3,), torch.nan)}, tmp_path / "nan.pt")
    yield "nan.pt"
    torch.save({**state, "down.0.0.weight": torch.tensor(1.0)}, tmp_path / "scalar.pt")
    yield "scalar.pt"
    torch.save([1, 2], tmp_path / "list.pt")
    yield "list.pt"
    torch.jit.script(Swap()).save(str(tmp_path / "whole.pt"))
    whole = (tmp_path / "whole.pt").read_bytes()
    (tmp_path / "half.pt").write_bytes(whole[: len(whole) // 2])
    yield "half.pt"
    with (
        zipfile.ZipFile(tmp_path / "whole.pt") as archive,
        zipfile.ZipFile(tmp_path / "code.pt", "w") as other,
    ):
        for entry in archive.namelist():
            content = archive.read(entry)
            other.writestr(entry, b"no code" if entry.endswith(".py") else content)
    yield "code.pt"
    (tmp_path / "weights.h5").write_bytes(whole)
    yield "weights.h5"


def test_files_that_are_no_networks_are_named_and_nothing_of_theirs_runs(tmp_path):
    for name in damaged(tmp_path):
        with pytest.raises(FileFormatError) as error:
            load_network(tmp_path / name, activation="none")
        message = str(error.value)
        assert str(tmp_path / name) in message
        assert "\n" not in message
    assert not (tmp_path / "executed").exists()


def crafted(tmp_path):
    """Yield state dictionaries that claim much and hold little."""
    state = SmallUNet(widths=(4, 6)).state_dict()
    for number, changes in enumerate(
        (
            {"head.weight": torch.zeros(1).expand(10**9, 4, 1, 1)},
            {"head.weight": torch.zeros(10**9, 0, 1, 1)},
            {"down.0.0.weight": torch.zeros(10**6, 0)},
            {"down.0.0.weight": torch.zeros(10**6, 0), "down.1.0.weight": torch.zeros(10**6, 0)},
            {f"down.{i}.0.weight": torch.zeros(1, 3, 3, 3) for i in range(40)},
            {"head.bias": torch.zeros(3, dtype=torch.complex64).conj()},
            {"head.bias": torch.eye(3).to_sparse()},
            {"head.bias": torch.empty(3, device="meta")},
            {7: torch.zeros(3)},
        )
    ):
        torch.save({**state, **changes}, tmp_path / f"{number}.pt")
        yield tmp_path / f"{number}.pt"


def test_files_that_claim_more_than_they_hold_are_refused_in_bounded_memory(tmp_path):
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for file in crafted(tmp_path):
        with pytest.raises(FileFormatError) as error:
            load_network(file, activation="none")
        assert str(file) in str(error.value)
        assert "\n" not in str(error.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes


def test_messages_never_repeat_the_advice_to_unpickle(tmp_path):
    torch.save({"format": Bomb(tmp_path / "executed")}, tmp_path / "own.pt")
    names = [*damaged(tmp_path), "own.pt"]
    for name in names:
        for read in (trained_header, lambda file: load_network(file, activation="none")):
            try:
                read(tmp_path / name)
            except FileFormatError as error:
                shown, cause = [str(error)], error.__cause__
                while cause is not None:
                    shown.append(str(cause))
                    cause = cause.__cause__
                assert "weights_only" not in " ".join(shown)
                assert "trust" not in " ".join(shown)


def test_a_tensor_alone_is_no_network(tmp_path):
    torch.save(torch.rand(3, 4, 5), tmp_path / "soft.pt")
    with pytest.raises(FileFormatError, match="holds a tensor: a soft output is no network"):
        load_network(tmp_path / "soft.pt", activation="none")


class Demanding(torch.nn.Module):
    """Raises in TorchScript for sides that are no multiples of 32."""

    def forward(self, images):
        if images.shape[-1] % 32 != 0 or images.shape[-2] % 32 != 0:
            raise RuntimeError("Wrong input shape: sides must be divisible by 32")
        return images[:, :2]


class Assured(torch.nn.Module):
    """Fails an assertion in TorchScript."""

    def forward(self, images):
        assert images.shape[-1] == 0, "no width at all"
        return images


def test_what_a_scripted_network_raises_is_one_sentence(tmp_path):
    for module, reason in (
        (Demanding(), "Wrong input shape: sides must be"),
        (Assured(), "no wid"),
    ):
        torch.jit.script(module).save(str(tmp_path / "raises.pt"))
        with pytest.raises(
            NetworkError, match=rf"^network raises.pt cannot .*18\): {reason}"
        ) as got:
            load_network(tmp_path / "raises.pt", activation="none")(RGB)
        assert "\n" not in str(got.value)
        assert got.value.__cause__ is not None


def test_padding_lets_it_take_every_size(tmp_path):
    torch.jit.script(Demanding()).save(str(tmp_path / "raises.pt"))
    network = load_network(tmp_path / "raises.pt", activation="none", pad=32)
    expected = np.moveaxis(RGB[..., :2], -1, 0) / np.float32(255)
    np.testing.assert_allclose(network(RGB), expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"pad must be within 1\.\.4096, got 0"):
        load_network(tmp_path / "raises.pt", activation="none", pad=0)


def test_an_argmax_inside_the_network_is_refused(tmp_path):
    class Hard(torch.nn.Module):
        def forward(self, images):
            return images.argmax(1)

    torch.jit.script(Hard()).save(str(tmp_path / "hard.pt"))
    with pytest.raises(NetworkError, match=r"before any arg-max"):
        load_network(tmp_path / "hard.pt", activation="sigmoid")(RGB)


# --- trained networks ---------------------------------------------------------------------


OFFSETS = ((0, 1), (2, -2))
HEADERS = {
    "objects": (("background", "interior", "boundary"), None, "softmax"),
    "classes": (("class 0", "class 1"), None, "softmax"),
    "affinities": (("foreground", "together 0,1", "together 2,-2"), OFFSETS, "sigmoid"),
}


def trained(file, reading="affinities"):
    """Write what a training writes."""
    names, offsets, _ = HEADERS[reading]
    torch.manual_seed(0)
    module = SmallUNet(len(names), (4, 6)).eval()
    header = ModelHeader(reading, names, offsets, (4, 6), {"loss": "x"})
    write_model(file, header, module.state_dict())
    return module


@pytest.mark.parametrize("reading", HEADERS)
def test_a_trained_network_says_itself_what_its_channels_mean(tmp_path, reading):
    module = trained(tmp_path / "own.pt", reading)
    names, offsets, activation = HEADERS[reading]
    network = load_network(tmp_path / "own.pt")
    assert network.reading == reading
    assert (network.channels, network.offsets, network.activation) == (names, offsets, activation)
    with torch.inference_mode():
        logits = module(torch.from_numpy(RGB).permute(2, 0, 1)[None] / 255)
        expected = (logits.softmax(1) if activation == "softmax" else logits.sigmoid())[0]
    np.testing.assert_allclose(network(RGB), expected.numpy(), atol=1e-5)
    assert network.predict(RGB).partition().grid == (13, 18)
    # It may be said again.
    load_network(tmp_path / "own.pt", activation=activation, channels=names)


def test_what_contradicts_the_file_is_refused(tmp_path):
    trained(tmp_path / "own.pt")
    with pytest.raises(ValueError, match=r"activation of .*own.pt must be 'sigmoid'.*'softmax'"):
        load_network(tmp_path / "own.pt", activation="softmax")
    with pytest.raises(ValueError, match=r"channels of .*own.pt must be \('foreground',.*'a'"):
        load_network(tmp_path / "own.pt", channels=("a", "b", "c"))


def test_files_that_do_not_say_need_an_activation(tmp_path):
    torch.save(SmallUNet(2, (4, 6)).state_dict(), tmp_path / "bare.pt")
    with pytest.raises(ValueError, match=r"activation must be one of softmax.* got None: .*bare"):
        load_network(tmp_path / "bare.pt")
    assert load_network(tmp_path / "bare.pt", activation="none").reading is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 1}, "its format has version 1, and this package reads 2"),
        ({"version": None}, "its format has version None"),
        ({"reading": "regions"}, "it does not say what its channels are"),
        ({"names": 3}, "it does not say what its channels are"),
        ({"activation": "tanh"}, "it does not say what its channels are"),
        ({"activation": "softmax"}, "its affinities come with the activation 'softmax'"),
        ({"offsets": None}, "its affinities come with the offsets None"),
        ({"offsets": [[0, 1]]}, "one offset of length 2 for each of the 2 channels"),
        ({"offsets": [[0, 1], [0, 0]]}, "offsets must not be zero"),
        ({"offsets": [[0, 1, 2], [1, 0, 0]]}, "one offset of length 2"),
        ({"offsets": [[0, 1], [1]]}, "cannot load"),
        ({"names": ["foreground", "a", "b", "c"]}, "each of the 3 channels"),
        ({"reading": "classes"}, "its classes come with the activation 'sigmoid'"),
        (
            {"reading": "classes", "activation": "softmax", "offsets": None, "names": ["a"]},
            "it names 1 channels, and has 3",
        ),
        ({"state": None}, "not the state dictionary of a SmallUNet"),
        ({"state": {}}, "not the state dictionary of a SmallUNet"),
        ({"widths": [float("inf")]}, "it does not say what its channels are"),
        ({"version": torch.ones(2)}, "cannot load"),
        ({"offsets": [[torch.ones(2), 1]]}, "cannot load"),
        ({"training": 5}, "it does not say what its channels are"),
        ({"format": "something else"}, "not the state dictionary of a SmallUNet"),
    ],
)
def test_damaged_headers_are_named(tmp_path, changes, message):
    trained(tmp_path / "own.pt")
    content = torch.load(tmp_path / "own.pt", weights_only=True)
    torch.save({**content, **changes}, tmp_path / "own.pt")
    with pytest.raises(FileFormatError) as error:
        load_network(tmp_path / "own.pt")
    assert message in str(error.value)
    assert "own.pt" in str(error.value)
    assert "\n" not in str(error.value)


def test_only_trained_networks_have_a_header(tmp_path):
    trained(tmp_path / "own.pt")
    assert trained_header(tmp_path / "own.pt").training == {"loss": "x"}
    torch.save(SmallUNet(2, (4, 6)).state_dict(), tmp_path / "bare.pt")
    torch.jit.script(Swap()).save(str(tmp_path / "swap.pt"))
    (tmp_path / "a.onnx").write_bytes(b"anything")
    for name in ("bare.pt", "swap.pt", "a.onnx"):
        assert trained_header(tmp_path / name) is None
    with pytest.raises(FileNotFoundError, match=r"none\.pt"):
        trained_header(tmp_path / "none.pt")


def test_a_missing_file_and_a_wrong_activation(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.pt"):
        load_network(tmp_path / "none.pt", activation="none")
    with pytest.raises(ValueError, match="activation must be one of"):
        load_network(tmp_path / "none.pt", activation="relu")


def test_a_network_with_several_outputs_is_refused(tmp_path):
    class Two(torch.nn.Module):
        def forward(self, images):
            return images, images

    torch.jit.script(Two()).save(str(tmp_path / "two.pt"))
    with pytest.raises(ValueError, match="must return one tensor, got tuple"):
        load_network(tmp_path / "two.pt", activation="none")(RGB)


# --- ONNX ---------------------------------------------------------------------------------


def save_onnx(file, outputs=1):
    """Save a 1×1 convolution from RGB to two channels."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weight = np.array([[1, 0, 0], [0, 0, 1]], dtype=np.float32).reshape(2, 3, 1, 1)
    names = [f"y{i}" for i in range(outputs)]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], [name]) for name in names],
        "tiny",
        [helper.make_tensor_value_info("x", kind, [1, 3, "h", "w"])],
        [helper.make_tensor_value_info(name, kind, [1, 2, "h", "w"]) for name in names],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(file))


def test_onnx_networks_run(tmp_path):
    pytest.importorskip("onnxruntime")
    save_onnx(tmp_path / "a.onnx")
    network = load_network(tmp_path / "a.onnx", activation="none", channels=("red", "blue"))
    expected = np.moveaxis(RGB[..., [0, 2]], -1, 0) / np.float32(255)
    np.testing.assert_allclose(network(RGB), expected, rtol=1e-6)
    with pytest.raises(NetworkError, match=r"a.onnx cannot process .*\(1, 1, 13.*Got: 1 ") as error:
        network(RGB[..., 0])
    assert error.value.__cause__ is not None


def test_bad_onnx_files_are_named(tmp_path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "noise.onnx").write_bytes(b"no model at all" * 9)
    (tmp_path / "empty.onnx").write_bytes(b"")
    save_onnx(tmp_path / "two.onnx", outputs=2)
    for name in ("noise.onnx", "empty.onnx", "two.onnx"):
        with pytest.raises(FileFormatError, match=name):
            load_network(tmp_path / name, activation="none")


@pytest.mark.parametrize(
    ("missing", "name", "extra"),
    [("onnxruntime", "a.onnx", "onnx"), ("torch", "a.pt", "torch")],
)
def test_missing_extras_are_named(tmp_path, monkeypatch, missing, name, extra):
    (tmp_path / name).write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtraError, match=rf"needs {missing}, .*hiersearch\[{extra}\]"):
        load_network(tmp_path / name, activation="none")


def test_importing_the_package_does_not_import_torch():
    code = "import sys, hiersearch.networks, hiersearch.data; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
