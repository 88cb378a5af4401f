import errno
import io
import os
import pickle
import stat
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from hiersearch.errors import FileFormatError
from hiersearch.partitions.files import (
    read_image,
    read_label_map,
    read_probabilities,
    write_atomically,
    write_label_map,
)

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (40, 50), dtype=np.uint8)
RGB = RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)


class Bomb:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (os.mkdir, (str(self.trace),))


def assert_one_sentence(error, file):
    message = str(error.value)
    assert str(file) in message
    assert "\n" not in message


# --- images -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.tif", "a.tiff", "a.npy"])
@pytest.mark.parametrize("image", [GREY, RGB, GREY.astype(np.uint16) * 257], ids=["8", "c", "16"])
def test_images_come_back_as_they_were_stored(tmp_path, name, image):
    file = tmp_path / name
    if file.suffix.lower() == ".png":
        Image.fromarray(image).save(file)
    elif file.suffix == ".npy":
        np.save(file, image)
    else:
        tifffile.imwrite(file, image)
    read = read_image(file)
    assert read.dtype == image.dtype
    np.testing.assert_array_equal(read, image)


def test_jpeg_gives_the_image_up_to_its_loss(tmp_path):
    smooth = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - smooth).max() < 10


def test_volumes_and_colour_planes_of_tiff(tmp_path):
    volume = RNG.random((5, 6, 7), dtype=np.float32)
    tifffile.imwrite(tmp_path / "v.tif", volume)
    np.testing.assert_array_equal(read_image(tmp_path / "v.tif"), volume)
    planes = np.moveaxis(RGB, -1, 0)
    tifffile.imwrite(tmp_path / "p.tif", planes, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_image(tmp_path / "p.tif"), RGB)


def test_palettes_become_colours_and_one_bit_becomes_black_and_white(tmp_path):
    palette = Image.fromarray(RGB).quantize(16)
    palette.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_image(tmp_path / "p.png"), np.array(palette.convert("RGB")))
    Image.fromarray(GREY > 127).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_image(tmp_path / "b.png"), 255 * (GREY > 127))


def test_16_bit_colour_png_is_refused_because_it_would_be_cut(tmp_path):
    header = bytearray(png_bytes(RGB))
    header[24] = 16  # bit depth; the checksum of the header must follow
    header[29:33] = struct.pack(">I", zlib.crc32(bytes(header[12:29])))
    file = tmp_path / "deep.png"
    file.write_bytes(bytes(header))
    with pytest.raises(FileFormatError, match="16-bit colour") as error:
        read_image(file)
    assert_one_sentence(error, file)


def png_bytes(array):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, format="PNG")
    return stream.getvalue()


def good_bytes(ending, tmp_path):
    source = tmp_path / f"good{ending}"
    if ending in (".png", ".jpg"):
        Image.fromarray(GREY).save(source)
    elif ending == ".tif":
        tifffile.imwrite(source, GREY)
    elif ending == ".npz":
        np.savez(source, labels=GREY)
    else:
        np.save(source, GREY)
    return source.read_bytes()


@pytest.mark.parametrize("ending", [".png", ".jpg", ".tif", ".npy"])
@pytest.mark.parametrize("damage", ["empty", "half", "header", "noise", "text"])
def test_unreadable_images_are_named_in_one_sentence(tmp_path, ending, damage):
    good = good_bytes(ending, tmp_path)
    noise = RNG.integers(0, 256, 500, dtype=np.uint8).tobytes()
    content = {
        "empty": b"",
        "half": good[: len(good) // 2],
        "header": good[:12],
        "noise": noise,
        "text": b"hello, this is no image\n" * 5,
    }[damage]
    file = tmp_path / f"bad{ending}"
    file.write_bytes(content)
    with pytest.raises(FileFormatError) as error:
        read_image(file)
    assert_one_sentence(error, file)


def test_missing_files_unknown_endings_and_things_that_are_no_images(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        read_image(tmp_path / "none.png")
    (tmp_path / "a.gif").write_bytes(b"GIF89a")
    with pytest.raises(FileFormatError, match=r"a.gif.*must end in .png"):
        read_image(tmp_path / "a.gif")
    np.save(tmp_path / "line.npy", np.zeros(3))
    with pytest.raises(FileFormatError, match=r"line.npy.*\(3,\)"):
        read_image(tmp_path / "line.npy")
    np.save(tmp_path / "none.npy", np.zeros((0, 3)))
    with pytest.raises(FileFormatError, match=r"\(0, 3\)"):
        read_image(tmp_path / "none.npy")
    np.save(tmp_path / "text.npy", np.array([["a", "b"]]))
    with pytest.raises(FileFormatError, match="<U1"):
        read_image(tmp_path / "text.npy")


@pytest.mark.parametrize("read", [read_image, read_label_map])
def test_pickles_in_npy_are_never_executed(tmp_path, read):
    objects = np.array([[Bomb(tmp_path / "executed")]], dtype=object)
    np.save(tmp_path / "object.npy", objects, allow_pickle=True)
    (tmp_path / "plain.npy").write_bytes(pickle.dumps(Bomb(tmp_path / "executed")))
    for name in ("object.npy", "plain.npy"):
        with pytest.raises(FileFormatError) as error:
            read(tmp_path / name)
        assert_one_sentence(error, tmp_path / name)
    assert not (tmp_path / "executed").exists()


# --- label maps ---------------------------------------------------------------------------


def labels_of(dtype, high, shape=(6, 7)):
    labels = RNG.integers(0, high, shape, endpoint=True).astype(dtype)
    labels.flat[:2] = 0, high
    return labels


@pytest.mark.parametrize(
    ("name", "high", "shape", "stored"),
    [
        ("a.png", 65535, (6, 7), np.uint16),
        ("a.png", 0, (1, 1), np.uint16),
        ("a.tif", 65535, (6, 7), np.uint16),
        ("a.tif", 65536, (6, 7), np.uint32),
        ("a.tiff", 2**32 - 1, (6, 7), np.uint32),
        ("a.tif", 9, (3, 4, 5), np.uint16),
        ("a.tif", 9, (4, 5, 3), np.uint16),
        ("a.tif", 9, (1, 5, 6), np.uint16),
        ("a.tif", 9, (1, 1), np.uint16),
        ("a.npy", 2**40, (6, 7), np.int64),
        ("a.npy", 9, (3, 4, 5), np.int64),
    ],
)
def test_written_label_maps_come_back_unchanged(tmp_path, name, high, shape, stored):
    labels = RNG.integers(0, high, shape, endpoint=True)
    labels.flat[-1] = high
    write_label_map(tmp_path / name, labels)
    read = read_label_map(tmp_path / name)
    assert read.dtype == stored
    np.testing.assert_array_equal(read, labels)
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_negative_labels_go_into_tiff_and_npy(tmp_path):
    labels = np.array([[-5, 7], [-(2**31), 2**31 - 1]])
    for name in ("a.tif", "a.npy"):
        write_label_map(tmp_path / name, labels)
        np.testing.assert_array_equal(read_label_map(tmp_path / name), labels)


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("a.png", [[0, 65536]], r"0\.\.65535, got 0\.\.65536.*\.tif or \.npy"),
        ("a.png", [[-1, 3]], r"got -1\.\.3.*\.tif or \.npy"),
        ("a.png", [[[1]]], r"2-D.*\(1, 1, 1\).*\.tif or \.npy"),
        ("a.tif", [[0, 2**32]], r"got 0\.\.4294967296: write them as \.npy"),
        ("a.tif", [[-1, 2**31]], r"got -1\.\.2147483648: write them as \.npy"),
        ("a.jpg", [[0, 1]], r"must end in \.png, \.tif, \.tiff or \.npy, got '\.jpg'"),
    ],
)
def test_labels_that_a_format_cannot_hold_are_refused_and_nothing_is_written(
    tmp_path, name, labels, expected
):
    with pytest.raises(ValueError, match=expected):
        write_label_map(tmp_path / name, np.array(labels, dtype=np.int64))
    assert not list(tmp_path.iterdir())


def test_written_label_maps_must_be_integers(tmp_path):
    with pytest.raises(TypeError, match=r"float64: labels.astype\(int\) makes integers"):
        write_label_map(tmp_path / "a.npy", np.zeros((2, 2)))


def write_values(file, values):
    """Write an array of any type as the kind of file that the name says."""
    match file.suffix:
        case ".npy":
            np.save(file, values)
        case ".npz":
            np.savez(file, labels=values)
        case _:
            tifffile.imwrite(file, values, photometric="minisblack")
    return file


@pytest.mark.parametrize("ending", [".npy", ".npz", ".tif"])
@pytest.mark.parametrize(
    ("dtype", "highest", "read_as"),
    [(np.float16, 2047, np.int32), (np.float32, 2**24 - 1, np.int32), (np.float64, 2**53 - 1, int)],
)
def test_whole_numbers_of_floating_type_are_labels_as_long_as_none_can_be_two(
    tmp_path, ending, dtype, highest, read_as
):
    labels = np.array([[0, -3, 7], [highest, 1, 1]], dtype)
    read = read_label_map(write_values(tmp_path / f"a{ending}", labels))
    assert read.dtype == read_as
    assert read.tolist() == [[0, -3, 7], [highest, 1, 1]]
    labels[1, 2] = highest + 1
    exponent = int(np.log2(highest + 1))
    with pytest.raises(TypeError, match=rf"below 2\*\*{exponent} in float.*at index \(1, 2\)"):
        read_label_map(write_values(tmp_path / f"a{ending}", labels))


@pytest.mark.parametrize("ending", [".npy", ".npz", ".tif"])
@pytest.mark.parametrize("value", [0.5, np.nan, np.inf, -np.inf])
def test_fractions_are_no_labels_and_are_named(tmp_path, ending, value):
    labels = np.zeros((2, 3), np.float32)
    labels[1, 2] = value
    file = write_values(tmp_path / f"a{ending}", labels)
    wanted = rf"a{ending} must be whole numbers, got {value:g} at index \(1, 2\)"
    with pytest.raises(TypeError, match=wanted):
        read_label_map(file)


def test_png_label_maps_of_1_8_and_16_bits_and_palettes(tmp_path):
    for name, array in (("1", GREY > 99), ("8", GREY), ("16", GREY.astype(np.uint16) * 200)):
        Image.fromarray(array).save(tmp_path / f"{name}.png")
        read = read_label_map(tmp_path / f"{name}.png")
        assert read.dtype == (np.uint16 if name == "16" else np.uint8)
        np.testing.assert_array_equal(read, array)
    palette = Image.fromarray(GREY % 4).convert("P")
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    palette.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_label_map(tmp_path / "p.png"), GREY % 4)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_coloured_label_pngs_are_refused(tmp_path, mode):
    file = tmp_path / "a.png"
    Image.fromarray(RGB).convert(mode).save(file)
    with pytest.raises(FileFormatError, match=rf"{len(mode)} channels \({mode}\)") as error:
        read_label_map(file)
    assert_one_sentence(error, file)


def test_a_jpeg_is_no_label_map_whatever_its_name(tmp_path):
    for name in ("a.jpg", "a.png"):
        Image.fromarray(GREY).save(tmp_path / name, format="JPEG")
        with pytest.raises(FileFormatError, match=name):
            read_label_map(tmp_path / name)


@pytest.mark.parametrize("ending", [".png", ".tif", ".npy", ".npz"])
def test_truncated_label_maps_are_refused(tmp_path, ending):
    good = good_bytes(ending, tmp_path)
    file = tmp_path / f"bad{ending}"
    for length in (0, 10, len(good) // 2, len(good) - 40):
        file.write_bytes(good[:length])
        with pytest.raises(FileFormatError) as error:
            read_label_map(file)
        assert_one_sentence(error, file)


def test_npz_label_maps_by_name_or_alone(tmp_path):
    one, two = labels_of(np.int32, 9), labels_of(np.int32, 5)
    np.savez(tmp_path / "one.npz", anything=one)
    np.testing.assert_array_equal(read_label_map(tmp_path / "one.npz"), one)
    np.savez(tmp_path / "named.npz", labels=one, other=two)
    np.testing.assert_array_equal(read_label_map(tmp_path / "named.npz"), one)
    np.testing.assert_array_equal(read_label_map(tmp_path / "named.npz", key="other"), two)
    np.savez(tmp_path / "two.npz", a=one, b=two)
    with pytest.raises(FileFormatError, match=r"several arrays, .* 'labels' \(a, b\): .* --key"):
        read_label_map(tmp_path / "two.npz")
    with pytest.raises(FileFormatError, match=r"no array named 'c' \(its arrays: a, b\)"):
        read_label_map(tmp_path / "two.npz", key="c")


def test_a_line_of_labels_is_no_grid(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(4))
    with pytest.raises(ValueError, match=r"a.npy must be 2-D .* or 3-D"):
        read_label_map(tmp_path / "a.npy")


# --- probabilities ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_probabilities_come_channels_first_in_single_precision(tmp_path, dtype, axis):
    soft = RNG.random((4, 5, 6)).astype(dtype)
    np.save(tmp_path / "a.npy", np.moveaxis(soft, 0, axis))
    read = read_probabilities(tmp_path / "a.npy", channel_axis=axis)
    assert read.dtype == np.float32
    assert read.flags.c_contiguous
    np.testing.assert_array_equal(read, soft.astype(np.float32))


def test_the_grid_finds_the_channel_axis_if_only_one_fits(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((5, 6, 4), dtype=np.float32))
    file = tmp_path / "a.npy"
    assert read_probabilities(file, channel_axis=None, grid=(5, 6)).shape == (4, 5, 6)
    assert read_probabilities(file, channel_axis=2, grid=(5, 6)).shape == (4, 5, 6)


@pytest.mark.parametrize(
    ("shape", "axis", "grid", "expected"),
    [
        ((5, 6, 4), None, None, r"must be given.*\(5, 6, 4\).*0 leaves the grid \(6, 4\)"),
        ((5, 5, 5), None, (5, 5), r"must be given.*axes \[0, 1, 2\] all fit the grid \(5, 5\)"),
        ((5, 6, 4), None, (6, 5), r"no axis fits the grid \(6, 5\).*2 leaves the grid \(5, 6\)"),
        ((5, 6, 4), 0, (5, 6), r"leaves the grid \(6, 4\), expected \(5, 6\)"),
        ((5, 6, 4), 3, None, r"channel_axis must be within -3\.\.2, got 3"),
        ((5, 6), 0, None, r"3 or 4 axes, got shape \(5, 6\)"),
        ((1, 4, 3, 5, 6), 0, None, r"3 or 4 axes, got shape \(1, 4, 3, 5, 6\)"),
    ],
)
def test_ambiguous_and_wrong_channel_axes_are_refused(tmp_path, shape, axis, grid, expected):
    np.save(tmp_path / "a.npy", np.zeros(shape))
    with pytest.raises(ValueError, match=expected):
        read_probabilities(tmp_path / "a.npy", channel_axis=axis, grid=grid)


def test_probabilities_must_be_floating_point(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 4), dtype=np.uint8))
    with pytest.raises(TypeError, match=r"a.npy must hold floating-point numbers, got dtype uint8"):
        read_probabilities(tmp_path / "a.npy", channel_axis=0)


def test_probabilities_from_npz_and_torch(tmp_path):
    soft = RNG.random((2, 3, 4), dtype=np.float32)
    np.savez(tmp_path / "a.npz", probabilities=soft, x=soft + 1)
    np.testing.assert_array_equal(read_probabilities(tmp_path / "a.npz", channel_axis=0), soft)
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(soft)
    torch.save(tensor.requires_grad_(), tmp_path / "a.pt")
    np.testing.assert_array_equal(read_probabilities(tmp_path / "a.pt", channel_axis=0), soft)
    torch.save({"x": tensor, "y": tensor.to(torch.bfloat16)}, tmp_path / "b.pth")
    read = read_probabilities(tmp_path / "b.pth", channel_axis=0, key="y")
    np.testing.assert_allclose(read, soft, atol=0.01)
    with pytest.raises(FileFormatError, match=r"several arrays, .* 'probabilities' \(x, y\)"):
        read_probabilities(tmp_path / "b.pth", channel_axis=0)
    with pytest.raises(FileFormatError, match=r"no array named 'z' \(its arrays: x, y\)"):
        read_probabilities(tmp_path / "b.pth", channel_axis=0, key="z")
    with pytest.raises(FileFormatError, match=r"no array named 'z': it holds one tensor"):
        read_probabilities(tmp_path / "a.pt", channel_axis=0, key="z")
    torch.save({0: tensor, "note": "text"}, tmp_path / "c.pt")
    np.testing.assert_array_equal(read_probabilities(tmp_path / "c.pt", channel_axis=0), soft)


def test_a_key_is_for_files_with_names(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 4)))
    for read in (lambda f: read_probabilities(f, channel_axis=0, key="x"), with_key):
        with pytest.raises(ValueError, match=r"key is for \.npz, \.pt, .* only, got 'x' for"):
            read(tmp_path / "a.npy")


def with_key(file):
    return read_label_map(file, key="x")


def test_of_many_arrays_only_the_first_are_listed(tmp_path):
    np.savez(tmp_path / "a.npz", **{f"layer{i:03}": np.zeros((2, 2)) for i in range(300)})
    with pytest.raises(FileFormatError, match=r"layer000, .*layer011 and 288 more\)"):
        read_label_map(tmp_path / "a.npz")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_malicious_and_random_tensors_are_refused_without_advice_to_run_them(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save(Bomb(tmp_path / "executed"), tmp_path / "bomb.pt")
    torch.save({"pred": np.zeros((2, 3, 4))}, tmp_path / "numpy.pt")
    torch.save(torch.zeros(2, 3, 4), tmp_path / "good.pt")
    (tmp_path / "old.pt").write_bytes(pickle.dumps(Bomb(tmp_path / "executed")))
    (tmp_path / "noise.pt").write_bytes(bytes(range(256)))
    (tmp_path / "text.pt").write_bytes(b"hello")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "good.pt").read_bytes()[:300])
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"epoch": 3}, tmp_path / "settings.pt")
    for name, wanted in {
        "bomb.pt": "would have to be unpickled",
        "numpy.pt": "save a tensor, or a dictionary of tensors",
        "old.pt": "would have to be unpickled",
        "noise.pt": "holds no plain tensors",
        "text.pt": "no file of tensors, or it is damaged",
        "cut.pt": "no file of tensors, or it is damaged",
        "list.pt": "it holds a list, not a tensor",
        "settings.pt": "a dictionary without a tensor",
    }.items():
        with pytest.raises(FileFormatError, match=wanted) as error:
            read_probabilities(tmp_path / name, channel_axis=0)
        assert_one_sentence(error, tmp_path / name)
        assert "weights_only" not in str(error.value)
        assert "\x1b" not in str(error.value)
    assert not (tmp_path / "executed").exists()


def test_a_network_is_not_its_output(tmp_path):
    torch = pytest.importorskip("torch")

    class Same(torch.nn.Module):
        def forward(self, x):
            return x

    torch.jit.script(Same()).save(str(tmp_path / "net.pt"))
    with pytest.raises(FileFormatError, match=r"is a network \(TorchScript\), .* as --network"):
        read_probabilities(tmp_path / "net.pt", channel_axis=0)


# --- writing ------------------------------------------------------------------------------


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    file = tmp_path / "a.bin"
    file.write_bytes(b"old")

    def fail():
        with write_atomically(file) as stream:
            stream.write(b"half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_full_disk_is_said_whatever_a_library_makes_of_it(tmp_path):
    def fail(wrapped):
        with write_atomically(tmp_path / "a.bin"):
            try:
                raise OSError(errno.ENOSPC, "No space left on device")
            except OSError:
                if wrapped:
                    raise RuntimeError("enforce fail at line 672")  # noqa: B904
                raise

    for wrapped in (False, True):
        with pytest.raises(OSError, match="No space left on device") as error:
            fail(wrapped)
        assert error.value.errno == errno.ENOSPC
        assert error.value.filename == str(tmp_path / "a.bin")
        assert list(tmp_path.iterdir()) == []


def test_written_files_have_ordinary_permissions_and_links_stay_links(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    link = tmp_path / "link.png"
    link.symlink_to(tmp_path / "target.png")
    write_label_map(link, np.array([[1]]))
    assert link.is_symlink()
    expected = stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert stat.S_IMODE((tmp_path / "target.png").stat().st_mode) == expected


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none does not exist"):
        write_label_map(tmp_path / "none" / "a.png", np.array([[1]]))


def test_tensors_that_claim_more_numbers_than_their_file_holds_are_refused(tmp_path):
    torch = pytest.importorskip("torch")
    # A tensor of 10¹² numbers that all lie in one place: a few hundred bytes.
    torch.save(torch.ones(1).expand(3, 10**6, 333_333), tmp_path / "claim.pt")
    with pytest.raises(FileFormatError, match=r"claim.pt.* holds a tensor of shape .* numbers for"):
        read_probabilities(tmp_path / "claim.pt", channel_axis=0)
