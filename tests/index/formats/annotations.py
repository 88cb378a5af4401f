"""Small files of annotations, written as the data sets' own tools write them."""

import json

import numpy as np
from PIL import Image
from scipy.io import savemat


def ground_truth(maps):
    """Nest label maps as the Berkeley files do: a cell row of structs."""
    cells = np.empty((1, len(maps)), object)
    for place, labels in enumerate(maps):
        cells[0, place] = {
            "Segmentation": np.asarray(labels, np.uint16),
            "Boundaries": np.zeros(np.shape(labels), np.uint8),
        }
    return cells


def write_ground_truth(path, maps):
    savemat(path, {"groundTruth": ground_truth(maps)})
    return path


HEIGHT, WIDTH = 20, 30


def box(x, y, width, height):
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def instances():
    """Two images; the first with a crowd, a box, a smaller box on it, and a run-length square."""
    square = np.zeros((HEIGHT, WIDTH), np.uint8)
    square[15:18, 20:23] = 1
    # Run lengths go down the columns and begin with background.
    flat = square.T.reshape(-1)
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges.tolist(), flat.size]).tolist()
    crowd = {"size": [HEIGHT, WIDTH], "counts": [0, 5 * HEIGHT, HEIGHT * (WIDTH - 5)]}
    objects = [
        (7, {"size": [HEIGHT, WIDTH], "counts": counts}, 0),
        (3, [box(4, 6, 4, 4)], 0),
        (3, [box(2, 2, 12, 10)], 0),
        (9, crowd, 1),
    ]
    return {
        "images": [
            {"id": 139, "file_name": "000000000139.jpg", "height": HEIGHT, "width": WIDTH},
            {"id": 285, "file_name": "000000000285.jpg", "height": 8, "width": 9},
        ],
        "annotations": [
            {"id": 100 + i, "image_id": 139, "category_id": c, "segmentation": s, "iscrowd": crowd}
            for i, (c, s, crowd) in enumerate(objects)
        ],
        "categories": [{"id": 3, "name": "car"}, {"id": 7, "name": "traffic light"}],
    }


def panoptic():
    labels = np.zeros((HEIGHT, WIDTH), int)
    labels[:, 10:] = 3 + 256 * 5 + 65536 * 7
    labels[5:9, 20:] = 255
    content = {
        "images": [{"id": 139, "file_name": "139.jpg", "height": HEIGHT, "width": WIDTH}],
        "annotations": [
            {
                "image_id": 139,
                "file_name": "139.png",
                "segments_info": [
                    {"id": 3 + 256 * 5 + 65536 * 7, "category_id": 1},
                    {"id": 255, "category_id": 2},
                ],
            }
        ],
        "categories": [{"id": 1, "name": "sky"}, {"id": 2, "name": "bird"}],
    }
    return content, labels


def write_panoptic(path, folder):
    """Write the JSON file, and its PNG into ``folder``."""
    content, labels = panoptic()
    folder.mkdir(exist_ok=True)
    colours = np.stack([labels % 256, labels // 256 % 256, labels // 65536], axis=-1)
    Image.fromarray(colours.astype(np.uint8)).save(folder / "139.png")
    return write_json(path, content), labels


def write_json(path, content):
    path.write_text(json.dumps(content))
    return path
