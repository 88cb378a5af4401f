"""How far tests look: Hypothesis's profiles, and seeds of tests that draw their cases themselves.

``HYPOTHESIS_PROFILE`` chooses the profile. "quick" and "thorough" see the same cases in every run;
"random" sees new ones, which depend on nothing but ``TEST_SEED``: ``make test-random SEED=...``
repeats a run.
"""

import os
import secrets

import pytest
from hypothesis import HealthCheck, settings

EXAMPLES = {"quick": 25, "thorough": 120, "random": 50}
"""How many cases of a property each profile looks at where the property does not say."""

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "quick")
SEED = int(os.environ.get("TEST_SEED") or secrets.randbelow(2**32))

for _name, _count in EXAMPLES.items():
    settings.register_profile(
        _name,
        max_examples=_count,
        deadline=None,
        derandomize=_name != "random",
        print_blob=_name == "random",
        suppress_health_check=[HealthCheck.too_slow],
    )


def examples(count: int) -> settings:
    """Look at `count` cases of a property in "quick", and at proportionally more in the others."""
    return settings(max_examples=count * EXAMPLES[PROFILE] // EXAMPLES["quick"])


def seeds(count: int) -> list:
    """Return the seeds of one test: 0, 1, ..., or in "random" as many fresh ones."""
    first = SEED if PROFILE == "random" else 0
    return [pytest.param(first + number, marks=pytest.mark.seeded) for number in range(count)]
