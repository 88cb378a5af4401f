"""Linkages: how unlike two adjacent regions are, by name, as a mix, or as the user's function."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numba import types

from hiersearch._validate import checked_choice
from hiersearch.choices import LINKAGES, MIX

_ROW = types.Array(types.float64, 1, "C")
_SIGNATURE = types.float64(
    types.float64,
    types.float64,
    _ROW,
    _ROW,
    types.float64,
    types.float64,
    types.float64,
    types.float64,
)


@dataclass(frozen=True, slots=True)
class Linkage:
    """A linkage and its parameters.

    Parameters
    ----------
    name : {"mean-colour", "ward", "average", "single", "complete", "mix"}
        - mean-colour: Euclidean distance of the regions' mean features.
        - ward: s_u s_v / (s_u + s_v) times the squared distance of the means, s the measure:
          the growth of the sum of squares.
        - average, single, complete: mean, minimum, maximum of the contrast over the boundary.
        - mix: ``colour`` times the distance of mean colours, plus ``soft`` times the L1
          distance of mean soft outputs (0 to 2), plus ``boundary`` times the mean contrast.
    colour, soft, boundary : float
        Weights of a mix, non-negative with sum 1; zero for every other linkage.

    Raises
    ------
    ValueError
        If the name is unknown or the weights break their rule.

    Examples
    --------
    >>> Linkage("ward").name
    'ward'
    >>> mix(colour=0.5, boundary=0.5)
    Linkage(name='mix', colour=0.5, soft=0.0, boundary=0.5)
    """

    name: str
    colour: float = 0.0
    soft: float = 0.0
    boundary: float = 0.0

    def __post_init__(self) -> None:
        checked_choice(self.name, (*LINKAGES, MIX), "linkage")
        weights = (self.colour, self.soft, self.boundary)
        if self.name != MIX:
            if any(weights):
                raise ValueError(f"only a mix has weights, but linkage {self.name!r} got {weights}")
        elif not (min(weights) >= 0 and abs(sum(weights) - 1) < 1e-9):
            raise ValueError(
                f"the weights of a mix must be non-negative with sum 1, got colour={self.colour}, "
                f"soft={self.soft}, boundary={self.boundary}"
            )

    @property
    def needs_contrast(self) -> bool:
        """Whether boundary contrasts enter."""
        return self.name in ("average", "single", "complete") or self.boundary > 0

    @property
    def needs_colour(self) -> bool:
        """Whether mean features enter."""
        return self.name in ("mean-colour", "ward") or self.colour > 0


def mix(*, colour: float = 0.0, soft: float = 0.0, boundary: float = 0.0) -> Linkage:
    """Return the convex mix of colour distance, soft-output distance and boundary contrast.

    Parameters
    ----------
    colour, soft, boundary : float
        Non-negative weights with sum 1. The three terms keep their own units: colours and
        contrasts those of the image, soft outputs 0 to 2; scale the image accordingly.

    Returns
    -------
    Linkage

    Raises
    ------
    ValueError
        If a weight is negative or the sum is not 1.

    Examples
    --------
    >>> mix(colour=0.7, soft=0.3).soft
    0.3
    """
    return Linkage(MIX, float(colour), float(soft), float(boundary))


def compiled_linkage(function: Callable[..., float]) -> Any:
    """Compile a user's linkage to the one signature that the merging kernel calls.

    Parameters
    ----------
    function : callable
        ``f(size_u, size_v, feature_sum_u, feature_sum_v, boundary_length, contrast_sum,
        contrast_min, contrast_max) -> float``, plain Python or already under ``numba.njit``.
        Feature sums are 1-D float64 arrays, everything else float64. u is the region whose
        node was made first; the function must not change the arrays. Where it raises, its
        value counts as NaN, which merging refuses.

    Returns
    -------
    numba.core.ccallback.CFunc

    Raises
    ------
    TypeError
        If the function does not compile to that signature.

    Notes
    -----
    The function is compiled once per call, in about a tenth of a second; the merging kernel is
    not compiled again for it.

    Examples
    --------
    >>> def contrast_range(su, sv, fu, fv, length, total, low, high):
    ...     return high - low
    >>> compiled_linkage(contrast_range).address > 0
    True
    """
    python = getattr(function, "py_func", function)
    if not callable(python):
        raise TypeError(f"linkage must be a name, a Linkage or a function, got {function!r}")
    try:
        inner = numba.njit(_SIGNATURE, error_model="numpy")(python)

        # Compiled callbacks drop exceptions and return 0: a raised one must stay visible.
        def guarded(su, sv, fu, fv, length, total, low, high):  # type: ignore[no-untyped-def]
            try:
                return inner(su, sv, fu, fv, length, total, low, high)
            except Exception:
                return np.nan

        return numba.cfunc(_SIGNATURE, error_model="numpy")(guarded)
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise TypeError(
            f"linkage function {getattr(python, '__name__', python)!r} does not compile as "
            "f(size_u, size_v, feature_sum_u, feature_sum_v, boundary_length, contrast_sum, "
            "contrast_min, contrast_max) -> float: "
            f"{type(error).__name__}{': ' + reason[0] if reason else ''}"
        ) from error
