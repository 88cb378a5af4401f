"""What the package asks for, and the environments that the Makefile makes of it."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import conftest

ROOT = Path(conftest.__file__).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIRED = [Requirement(text) for text in PROJECT["dependencies"]]
EXTRAS = {
    extra: [Requirement(text) for text in texts]
    for extra, texts in PROJECT["optional-dependencies"].items()
}
TESTS_NEED = {"pytest", "hypothesis", "scikit-learn"}
"""Without these of the extra "test" no tests run; for want of others some are skipped."""
LEAST = REQUIRED + [one for one in EXTRAS["test"] if one.name in TESTS_NEED]


def pinned(name):
    """Return the version of each package that a file of constraints names."""
    requirements = map(Requirement, (ROOT / name).read_text().split())
    return {canonicalize_name(one.name): str(one.specifier)[2:] for one in requirements}


@pytest.mark.parametrize("requirement", LEAST, ids=lambda one: one.name)
def test_the_lowest_versions_are_those_that_pyproject_allows(requirement):
    (bound,) = requirement.specifier
    assert bound.operator == ">="
    version = pinned("constraints-minimum.txt")[requirement.name]
    assert Version(version) == Version(bound.version)


def test_no_extra_is_among_the_lowest_versions():
    optional = {one.name for extra in EXTRAS.values() for one in extra}
    assert optional & set(pinned("constraints-minimum.txt")) == TESTS_NEED


@pytest.mark.parametrize("extra", [None, "torch", "faiss", "test", "lint", "benchmark"])
def test_the_versions_of_every_day_are_pinned_and_allowed(extra):
    pins = pinned("constraints.txt")
    for requirement in REQUIRED if extra is None else EXTRAS[extra]:
        assert requirement.specifier.contains(pins[requirement.name]), requirement


def test_what_is_left_out_without_torch_is_there():
    assert [name for name in conftest.NEED_TORCH if not (ROOT / name).exists()] == []
