"""TIFF files: all pages or none, every common compression, upright."""

import logging
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from hiersearch.errors import FileFormatError, MissingExtraError
from hiersearch.partitions.files import read_image, read_label_map, read_plain_image

RNG = np.random.default_rng(3)
VOLUME = RNG.integers(0, 400, (5, 20, 24)).astype(np.uint16)
COLOURS = RNG.integers(0, 256, (20, 24, 3), dtype=np.uint8)


def written(file, *pages, **options):
    with tifffile.TiffWriter(file) as tiff:
        for page in pages:
            tiff.write(page, **{"photometric": "minisblack", **options})
    return file


# --- pages ----------------------------------------------------------------------------------


def one_by_one(file, pages):
    written(file, *pages)


def appended(file, pages):
    for page in pages:
        tifffile.imwrite(file, page, append=True, photometric="minisblack")


def without_description(file, pages):
    written(file, *pages, metadata=None)


def in_one_block(file, pages):
    written(file, *pages, contiguous=True)


def as_one_volume(file, pages):
    tifffile.imwrite(file, pages, photometric="minisblack")


def as_imagej(file, pages):
    tifffile.imwrite(file, pages, imagej=True)


def as_ome(file, pages):
    tifffile.imwrite(file, pages, ome=True, photometric="minisblack", metadata={"axes": "ZYX"})


def by_pillow(file, pages):
    first, *rest = [Image.fromarray(page) for page in pages]
    first.save(file, save_all=True, append_images=rest, compression="tiff_lzw")


@pytest.mark.parametrize(
    "write",
    [
        one_by_one, appended, without_description, in_one_block, as_one_volume, as_imagej, as_ome,
        by_pillow,
    ],
)  # fmt: skip
def test_pages_of_one_shape_form_the_stack_however_they_were_written(tmp_path, write):
    write(tmp_path / "a.tif", VOLUME)
    for read in (read_label_map, read_image):
        found = read(tmp_path / "a.tif")
        assert found.dtype == np.uint16
        np.testing.assert_array_equal(found, VOLUME)


@pytest.mark.parametrize("read", [read_label_map, read_image])
def test_images_that_form_no_stack_are_counted_and_refused(tmp_path, read):
    a, b, c = VOLUME[:3]
    for name, pages in {
        "shapes": (a, b, c[:10]),
        "types": (a, b.astype(np.uint8)),
        "between": (a, c[:10], b),
    }.items():
        file = written(tmp_path / f"{name}.tif", *pages)
        with pytest.raises(FileFormatError, match=r"\d images that .*\(20, 24\).*a file of"):
            read(file)


def test_smaller_copies_and_masks_of_an_image_are_passed_over(tmp_path):
    image = VOLUME[0]
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(image, photometric="minisblack", metadata=None)
        tiff.write(image[::2, ::2], subfiletype=1, photometric="minisblack", metadata=None)
        tiff.write(image > 9, subfiletype=4, photometric="minisblack", metadata=None)
    with tifffile.TiffWriter(tmp_path / "b.tif") as tiff:
        tiff.write(image, subifds=1, photometric="minisblack")
        tiff.write(image[::2, ::2], subfiletype=1, photometric="minisblack")
    for name in ("a.tif", "b.tif"):
        np.testing.assert_array_equal(read_label_map(tmp_path / name), image)


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_a_list_of_pages_that_breaks_off_is_noticed(tmp_path, compression):
    first, *rest = [Image.fromarray(page) for page in VOLUME]
    first.save(tmp_path / "a.tif", save_all=True, append_images=rest, compression=compression)
    whole = (tmp_path / "a.tif").read_bytes()
    for keep in (0.3, 0.5, 0.75, 0.95):
        (tmp_path / "cut.tif").write_bytes(whole[: int(len(whole) * keep)])
        with pytest.raises(FileFormatError, match=r"cut.tif as a label map: (its list|fail)"):
            read_label_map(tmp_path / "cut.tif")


def test_a_list_of_pages_that_runs_in_a_circle(tmp_path):
    file = written(tmp_path / "a.tif", VOLUME[0], metadata=None)
    with tifffile.TiffFile(file) as tiff:
        first, tags = tiff.pages[0].offset, len(tiff.pages[0].tags)
    content = bytearray(file.read_bytes())
    place = first + 2 + 12 * tags
    content[place : place + 4] = first.to_bytes(4, "little")
    file.write_bytes(content)
    with pytest.raises(FileFormatError, match="runs in a circle after 1 page"):
        read_label_map(file)


def test_a_file_of_a_set_stands_for_itself(tmp_path):
    """Files of an OME set name each other: each would hold all, or zeros for those not there."""
    for place in (0, 1):
        tifffile.imwrite(tmp_path / f"{place}.ome.tif", VOLUME[place], photometric="minisblack")
    with tifffile.TiffFile(tmp_path / "0.ome.tif") as tiff:
        text = tiff.ome_metadata
    both = text.replace('SizeZ="1"', 'SizeZ="2"').replace(
        "</Pixels>",
        '<TiffData FirstZ="1" IFD="0"><UUID FileName="1.ome.tif">urn:uuid:1</UUID></TiffData>'
        "</Pixels>",
    )
    tifffile.imwrite(
        tmp_path / "0.ome.tif", VOLUME[0], photometric="minisblack", description=both, metadata=None
    )
    np.testing.assert_array_equal(read_label_map(tmp_path / "0.ome.tif"), VOLUME[0])


def test_what_tifffile_would_log_is_not_shown(tmp_path, caplog, capfd):
    file = written(tmp_path / "a.tif", *VOLUME, metadata=None)
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(FileFormatError):
        read_label_map(file)
    assert capfd.readouterr().err == ""
    assert logging.getLogger("tifffile").handlers == []


# --- colours --------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["contig", "separate"])
def test_colours_are_images_and_no_label_maps(tmp_path, order):
    colours = COLOURS if order == "contig" else np.moveaxis(COLOURS, -1, 0)
    tifffile.imwrite(tmp_path / "a.tif", colours, photometric="rgb", planarconfig=order)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), COLOURS)
    with pytest.raises(FileFormatError, match=r"3 channels \(RGB\).*number its colours"):
        read_label_map(tmp_path / "a.tif")


def test_several_bands_are_no_label_map(tmp_path):
    bands = np.concatenate([COLOURS, COLOURS], axis=-1)
    tifffile.imwrite(tmp_path / "a.tif", bands, photometric="minisblack", planarconfig="contig")
    with pytest.raises(FileFormatError, match=r"6 channels \(MINISBLACK\)"):
        read_label_map(tmp_path / "a.tif")


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_of_a_palette_images_take_the_colours_and_label_maps_the_indices(tmp_path, compression):
    palette = Image.fromarray(COLOURS).quantize(16)
    palette.save(tmp_path / "a.tif", compression=compression)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), np.array(palette.convert("RGB")))
    np.testing.assert_array_equal(read_label_map(tmp_path / "a.tif"), np.array(palette))


def test_a_palette_of_16_bit_colours_is_not_cut(tmp_path):
    table = RNG.integers(0, 2**16, (3, 256)).astype(np.uint16)
    indices = COLOURS[..., 0]
    tifffile.imwrite(tmp_path / "a.tif", indices, photometric="palette", colormap=table)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), table.T[indices])


def test_inks_become_red_green_and_blue(tmp_path):
    inks = Image.fromarray(COLOURS).convert("CMYK")
    for name, compression in (("a", None), ("b", "tiff_lzw")):
        inks.save(tmp_path / f"{name}.tif", compression=compression)
        found = read_image(tmp_path / f"{name}.tif")
        np.testing.assert_array_equal(found, np.array(inks.convert("RGB")))


def test_colours_of_another_kind_are_refused(tmp_path):
    for name, photometric, image in (
        ("a", "cielab", COLOURS),
        ("b", "ycbcr", COLOURS),
        ("c", "separated", np.zeros((20, 24, 4), np.uint16)),
    ):
        tifffile.imwrite(tmp_path / f"{name}.tif", image, photometric=photometric)
        wanted = rf"its colours are {photometric.upper()} of uint\d+: convert it to RGB"
        with pytest.raises(FileFormatError, match=wanted):
            read_image(tmp_path / f"{name}.tif")


def test_an_opaque_alpha_channel_says_nothing(tmp_path):
    for alpha, sides in ((255, 3), (254, 4)):
        image = np.dstack([COLOURS, np.full((20, 24), alpha, np.uint8)])
        tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", extrasamples=["unassalpha"])
        assert read_image(tmp_path / "a.tif").shape == (20, 24, 4)
        assert read_plain_image(tmp_path / "a.tif").shape == (20, 24, sides)
    # The last column of a volume is none, however bright.
    volume = np.full((5, 6, 4), 255, np.uint8)
    written(tmp_path / "v.tif", volume)
    assert read_plain_image(tmp_path / "v.tif").shape == (5, 6, 4)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.uint16])
def test_where_white_is_zero_images_are_inverted_and_labels_are_not(tmp_path, dtype):
    values = (VOLUME[0] > 200) if dtype == np.bool_ else VOLUME[0].astype(dtype)
    written(tmp_path / "a.tif", values, photometric="miniswhite")
    image, labels = read_image(tmp_path / "a.tif"), read_label_map(tmp_path / "a.tif")
    if dtype == np.bool_:
        # A mask is what is drawn white.
        np.testing.assert_array_equal(image, np.where(values, 0, 255))
        np.testing.assert_array_equal(labels, ~values)
    else:
        np.testing.assert_array_equal(image, np.iinfo(dtype).max - values)
        np.testing.assert_array_equal(labels, values)


# --- compressions ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "compression", ["raw", "tiff_lzw", "packbits", "tiff_adobe_deflate", "tiff_deflate"]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_common_compressions_are_read_exactly(tmp_path, compression, dtype):
    values = VOLUME[0].astype(dtype)
    Image.fromarray(values).save(tmp_path / "a.tif", compression=compression)
    labels = read_label_map(tmp_path / "a.tif")
    assert labels.dtype == (np.int32 if dtype == np.float32 else dtype)
    np.testing.assert_array_equal(labels, values)
    image = read_image(tmp_path / "a.tif")
    assert image.dtype == dtype
    np.testing.assert_array_equal(image, values)


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_lzw", "raw"])
def test_masks_of_one_bit(tmp_path, compression):
    mask = VOLUME[0] > 200
    Image.fromarray(mask).save(tmp_path / "a.tif", compression=compression)
    np.testing.assert_array_equal(read_label_map(tmp_path / "a.tif"), mask)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), 255 * mask)


def test_jpeg_is_for_images_since_it_changes_labels(tmp_path):
    smooth = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.tif", compression="jpeg", quality=95)
    assert np.abs(read_image(tmp_path / "a.tif").astype(int) - smooth).max() < 10
    with pytest.raises(FileFormatError, match="compressed as JPEG, which changes labels"):
        read_label_map(tmp_path / "a.tif")


def test_colours_by_lzw(tmp_path):
    Image.fromarray(COLOURS).save(tmp_path / "a.tif", compression="tiff_lzw")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), COLOURS)


def test_unsigned_numbers_of_32_bits_by_lzw_keep_their_high_bit(tmp_path):
    labels = (VOLUME[0].astype(np.uint32) << 23) + 7
    assert labels.max() > 2**31
    signed = Image.fromarray(labels.view(np.int32))
    # The tag says unsigned; the bytes are the same.
    signed.save(tmp_path / "a.tif", compression="tiff_lzw", tiffinfo={339: 1})
    found = read_label_map(tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert found.dtype == tiff.pages[0].dtype
    np.testing.assert_array_equal(found.view(np.uint32), labels)


@pytest.mark.skipif("imagecodecs" in sys.modules, reason="nothing is missing then")
def test_where_bits_would_be_lost_the_missing_package_is_named(tmp_path, monkeypatch):
    deep = np.stack([VOLUME[0]] * 3, axis=-1)
    tifffile.imwrite(tmp_path / "a.tif", deep, photometric="rgb")
    content = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        place = tiff.pages[0].tags["Compression"].valueoffset
    content[place] = 5  # LZW
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(MissingExtraError, match=r"a.tif \(.*LZW, 3 × 16 bits.*hiersearch\[tiff\]"):
        read_image(tmp_path / "a.tif")


def test_damaged_lzw_is_refused(tmp_path):
    Image.fromarray(VOLUME[0]).save(tmp_path / "a.tif", compression="tiff_lzw")
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[100:400] = bytes(300)
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(FileFormatError, match=r"cannot read .*a.tif as a label map"):
        read_label_map(tmp_path / "a.tif")


# --- orientation ----------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "P"])
def test_images_and_label_maps_are_upright(tmp_path, orientation, compression, mode):
    image = Image.fromarray(COLOURS)
    image = image.quantize(16) if mode == "P" else image.convert(mode)
    image.save(tmp_path / "a.tif", compression=compression, tiffinfo={0x0112: orientation})
    image.getexif()[0x0112] = orientation
    shown = ImageOps.exif_transpose(image)
    found = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(found, np.array(shown.convert("L" if mode == "L" else "RGB")))
    if mode in ("L", "P"):
        np.testing.assert_array_equal(read_label_map(tmp_path / "a.tif"), np.array(shown))


@pytest.mark.parametrize("orientation", [0, 9])
def test_orientations_that_there_are_none_of_are_passed_over(tmp_path, orientation):
    written(tmp_path / "a.tif", VOLUME[0], extratags=[(0x0112, "H", 1, orientation, True)])
    np.testing.assert_array_equal(read_label_map(tmp_path / "a.tif"), VOLUME[0])


def test_stacks_are_turned_page_by_page(tmp_path):
    written(tmp_path / "a.tif", *VOLUME, extratags=[(0x0112, "H", 1, 6, True)])
    np.testing.assert_array_equal(
        read_label_map(tmp_path / "a.tif"), np.rot90(VOLUME, -1, axes=(1, 2))
    )
