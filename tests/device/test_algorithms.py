import itertools

import pytest

from hiersearch.device.soft_overlaps import bytes_moved, chosen_algorithm

SIZES = list(itertools.product((1, 2, 10, 100), (1, 4, 21, 256), (100, 25_000, 300_000)))


@pytest.mark.parametrize("fused", [True, False])
def test_the_chosen_algorithm_moves_the_fewest_bytes(fused):
    for regions, channels, pixels in SIZES:
        for share in (0.001, 0.03, 0.5, 1.0):
            size = (max(regions, share * pixels), regions, channels, pixels)
            chosen = chosen_algorithm(*size, fused=fused)
            moved = {
                name: bytes_moved(name, *size, fused=fused)
                for name in ("gathers", "products", "segments")
            }
            assert moved[chosen] == min(moved.values())
            # No run is shorter than a pixel.
            assert chosen != "segments"


@pytest.mark.parametrize(
    ("fused", "runs", "expected"),
    [
        (True, 3_000, "gathers"),
        (True, 24_000, "products"),
        (False, 3_000, "gathers"),
        (False, 6_000, "products"),
    ],
)
def test_products_pay_where_runs_are_many_and_regions_few(fused, runs, expected):
    assert chosen_algorithm(runs, 2, 21, 24_576, fused=fused) == expected
    # A matrix of many regions is never worth it.
    assert chosen_algorithm(runs, 1000, 21, 24_576, fused=fused) == "gathers"
