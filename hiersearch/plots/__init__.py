"""Pictures of images, soft partitions, partitions and searches.

Pixel pictures (:func:`overlay`, :func:`soft_picture`) are plain uint8 arrays; figures
(:func:`curve_picture`, :func:`match_figure`, :func:`contact_sheet`, :func:`duplicates_sheet`) are
Matplotlib figures that never touch pyplot's global state. This is the only package that imports
Matplotlib.
"""

from typing import Any

from hiersearch.plots.colours import region_colours
from hiersearch.plots.pixels import image_picture, overlay, shown_slice
from hiersearch.plots.saving import save_figure, save_picture
from hiersearch.plots.soft import soft_picture

__all__ = [
    "DuplicatePair",
    "Panel",
    "contact_sheet",
    "curve_picture",
    "duplicates_sheet",
    "image_picture",
    "match_figure",
    "overlay",
    "region_colours",
    "save_figure",
    "save_picture",
    "shown_slice",
    "soft_picture",
]


def __getattr__(name: str) -> Any:
    """Import Matplotlib only for what draws with it."""
    if name == "curve_picture":
        from hiersearch.plots.curve import curve_picture

        return curve_picture
    if name == "match_figure":
        from hiersearch.plots.figures import match_figure

        return match_figure
    if name in ("DuplicatePair", "Panel", "contact_sheet", "duplicates_sheet"):
        from hiersearch.plots import sheets

        return getattr(sheets, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
