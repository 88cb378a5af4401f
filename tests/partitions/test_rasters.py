"""PNG and JPEG files: upright, of any size, each label as stored."""

import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from hiersearch.errors import FileFormatError
from hiersearch.partitions.files import read_image, read_label_map
from hiersearch.partitions.rasters import upright

RNG = np.random.default_rng(4)
GREY = RNG.integers(0, 256, (20, 24), dtype=np.uint8)


def tagged(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("orientation", range(10))
def test_images_and_label_maps_are_upright(tmp_path, orientation):
    for name, image in (("a", GREY), ("b", np.dstack([GREY, GREY + 1, GREY + 2]))):
        Image.fromarray(image).save(tmp_path / f"{name}.png", exif=tagged(orientation))
        Image.fromarray(image).save(tmp_path / f"{name}.jpg", exif=tagged(orientation))
        for ending in ("png", "jpg"):
            with Image.open(tmp_path / f"{name}.{ending}") as shown:
                wanted = np.array(ImageOps.exif_transpose(shown))
            np.testing.assert_array_equal(read_image(tmp_path / f"{name}.{ending}"), wanted)
    with Image.open(tmp_path / "a.png") as shown:
        wanted = np.array(ImageOps.exif_transpose(shown))
    np.testing.assert_array_equal(read_label_map(tmp_path / "a.png"), wanted)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_any_two_axes_may_be_turned(orientation):
    image = np.arange(24).reshape(2, 3, 4)
    turned = upright(image, orientation, (1, 2))
    for page, wanted in zip(turned, image, strict=True):
        np.testing.assert_array_equal(page, upright(wanted, orientation))


def test_notes_that_cannot_be_read_do_not_bar_the_image(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png", exif=b"Exif\0\0no such thing")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), GREY)


def png(width, height, depth, colour, rows):
    """Assemble a PNG, also one that Pillow would not write."""

    def chunk(name, content):
        body = name + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = zlib.compress(rows, 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_labels_of_few_bits_are_the_stored_numbers(tmp_path, depth):
    top = 2**depth
    labels = np.arange(8 * 3).reshape(3, 8) % top
    bits = ((labels[..., None] >> np.arange(depth)[::-1]) & 1).astype(np.uint8).reshape(3, -1)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in bits)
    (tmp_path / "a.png").write_bytes(png(8, 3, depth, 0, rows))
    np.testing.assert_array_equal(read_label_map(tmp_path / "a.png"), labels)
    # As an image they are shades of the whole range.
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), labels * (255 // (top - 1)))


def test_large_images_are_read_whatever_the_limit_of_pillow(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.fromarray(GREY).save(tmp_path / "a.png")
    Image.fromarray(GREY).save(tmp_path / "a.jpg")
    with warnings.catch_warnings(action="error"):
        np.testing.assert_array_equal(read_label_map(tmp_path / "a.png"), GREY)
        assert read_image(tmp_path / "a.png").shape == GREY.shape
        assert read_image(tmp_path / "a.jpg").shape == GREY.shape
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.slow
def test_a_png_of_182_megapixels(tmp_path):
    labels = np.zeros((13500, 13500), np.uint8)
    labels[:100] = 1
    Image.fromarray(labels).save(tmp_path / "a.png")
    found = read_label_map(tmp_path / "a.png")
    assert found.shape == (13500, 13500)
    assert int(found.sum()) == 1_350_000


@pytest.mark.parametrize("read", [read_image, read_label_map])
def test_what_no_grid_holds_is_refused_before_memory_is_taken(tmp_path, read):
    (tmp_path / "a.png").write_bytes(png(2**16, 2**15, 8, 0, bytes(9)))
    with pytest.raises(FileFormatError, match=r"fewer than 2\*\*31 pixels, .* \(32768, 65536\)"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize("read", [read_image, read_label_map])
def test_animations_are_refused(tmp_path, read):
    frames = [Image.fromarray(np.roll(GREY, i)) for i in range(3)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    with pytest.raises(FileFormatError, match="an animation of 3 frames"):
        read(tmp_path / "a.png")
