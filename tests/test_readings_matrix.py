"""A network's output gives one answer, whichever way it comes and whatever it is used for."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from hiersearch import PartitionIndex, SoftOutput, match, refine
from hiersearch.choices import READINGS
from hiersearch.networks import Network
from tests.cli.running import parsed, run

GRID = (24, 30)
OFFSETS = ((0, 1), (1, 0))
USES = ("match", "refine", "search")
WAYS = ("array", "output", "network", "file")


def scene():
    """Two discs on a ground, and what a sensible network would say of them."""
    rows, columns = np.indices(GRID)
    objects = np.zeros(GRID, np.int32)
    objects[(rows - 11) ** 2 + (columns - 8) ** 2 < 45] = 1
    objects[(rows - 12) ** 2 + (columns - 21) ** 2 < 50] = 2
    noise = np.random.default_rng(0).normal(0, 6, GRID)
    image = np.clip(60 + 90 * (objects > 0) + noise, 0, 255).astype(np.uint8)
    return image, objects


IMAGE, OBJECTS = scene()


def channels_of(reading):
    inside = ndimage.gaussian_filter((OBJECTS > 0).astype(np.float64), 1)
    edges = ndimage.grey_dilation(OBJECTS, 3) != ndimage.grey_erosion(OBJECTS, 3)
    boundary = ndimage.gaussian_filter(edges.astype(np.float64), 0.7)
    match reading:
        case "regions":
            each = [ndimage.gaussian_filter((i == OBJECTS).astype(np.float64), 1) for i in range(3)]
            channels = np.stack(each) / np.sum(each, axis=0)
        case "classes":
            channels = np.stack([1 - inside, inside])
        case "boundaries":
            channels = boundary[None]
        case "affinities":
            joined = [1 - np.minimum(boundary + np.roll(boundary, -1, axis), 1) for axis in (1, 0)]
            channels = np.stack(joined)
        case "objects":
            kept = inside * (1 - boundary)
            channels = np.stack([(1 - inside) * (1 - boundary), kept, boundary])
    return channels.astype(np.float32)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Entries between what was meant and something else."""
    with PartitionIndex.create(tmp_path_factory.mktemp("matrix") / "index", GRID) as index:
        for shift in range(8):
            index.add(np.roll(OBJECTS, shift, axis=1), shift)
        index.add(np.zeros(GRID, np.int32), "one")
        index.add(OBJECTS > 0, "mask")
        yield index


def given(reading, way):
    """Return what is handed over in Python, and the keywords beside it."""
    channels = channels_of(reading)
    offsets = OFFSETS if reading == "affinities" else None
    match way:
        case "array":
            return channels, {"reading": reading, "offsets": offsets}
        case "output":
            return SoftOutput(channels, reading, offsets), {}
        case "network":
            network = Network(
                "made up", lambda _: channels, "none", reading=reading, offsets=offsets
            )
            return network.predict(IMAGE), {}


def in_python(use, reading, way, index):
    soft, keywords = given(reading, way)
    match use:
        case "match":
            return match_labels(soft, keywords)
        case "refine":
            return refine(IMAGE, soft, **keywords).labels
        case "search":
            found = index.search(soft, 10, **keywords)
            return [list(map(str, found.ids)), found.distances.tolist()]


def match_labels(soft, keywords):
    return match(IMAGE, soft, **keywords).best.labels


def on_the_command_line(use, reading, index, folder):
    Image.fromarray(IMAGE).save(folder / "image.png")
    np.save(folder / "soft.npy", channels_of(reading))
    options = ["--reading", reading, "--json"]
    if reading == "affinities":
        options += ["--offsets", ";".join(f"{a},{b}" for a, b in OFFSETS)]
    if use == "search":
        axis = ["--channel-axis", "0"]
        found = parsed(run("index", "search", index.path, "soft.npy", "--soft", *axis, *options))
        rows = found["results"]
        return [[str(one["id"]) for one in rows], [one["distance"] for one in rows]]
    source = ("--soft", "soft.npy", "--channel-axis", 0, "--out", "out")
    parsed(run(use, "image.png", *source, *options))
    return np.load(folder / "out" / "labels.npy")


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("reading", READINGS)
def test_every_way_gives_one_answer(use, reading, index, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answers = {
        way: on_the_command_line(use, reading, index, tmp_path)
        if way == "file"
        else in_python(use, reading, way, index)
        for way in WAYS
    }
    for way in WAYS[1:]:
        if use == "search":
            assert answers[way] == answers["array"], way
        else:
            assert np.array_equal(answers[way], answers["array"]), way
    if use == "search":
        assert len(answers["array"][0]) == 10
    else:
        assert len(np.unique(answers["array"])) > 1


@pytest.mark.parametrize("way", WAYS[:3])
def test_a_boundary_map_needs_no_axis_of_channels(way, index):
    soft, keywords = given("boundaries", way)
    bare = channels_of("boundaries")[0]
    assert np.array_equal(
        match_labels(soft, keywords), match_labels(bare, {"reading": "boundaries"})
    )
    refined = refine(IMAGE, soft, **keywords).labels
    assert np.array_equal(refined, refine(IMAGE, bare, reading="boundaries").labels)
    found = index.search(soft, 3, **keywords).ids.tolist()
    assert found == index.search(bare, 3, reading="boundaries").ids.tolist()


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({}, "say how its channels are read|reading must say what the channels"),
        ({"reading": "basins"}, "reading must be one of regions, classes"),
        ({"reading": "affinities"}, "offsets must be given for reading 'affinities'"),
        ({"reading": "classes", "offsets": OFFSETS}, "offsets must be given for .* alone"),
    ],
)
def test_a_reading_that_is_missing_or_wrong_is_refused_with_the_way_out(keywords, message, index):
    channels = channels_of("classes")
    for use in (
        lambda: match(IMAGE, channels, **keywords),
        lambda: refine(IMAGE, channels, **keywords),
        lambda: index.search(channels, **keywords),
        lambda: index.search_radius(channels, 0.1, **keywords),
        lambda: index.search_many([channels], **keywords),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            use()


def test_a_reading_beside_what_knows_it_must_be_the_same(index):
    output = SoftOutput(channels_of("classes"), "classes")
    for use in (
        lambda reading: match(IMAGE, output, reading=reading).best.n_regions,
        lambda reading: refine(IMAGE, output, reading=reading).partition.n_regions,
        lambda reading: index.search(output, reading=reading).ids.tolist(),
    ):
        assert use("classes") == use(None)
        with pytest.raises(ValueError, match="reading must be that of the soft output, 'classes'"):
            use("regions")
    with pytest.raises(ValueError, match="reading must be given with a network's output"):
        index.search(index.partition(0), reading="regions")
