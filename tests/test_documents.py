"""What the documents name is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BASES = (ROOT, ROOT / "hiersearch", ROOT / "hiersearch/index", ROOT / "hiersearch/index/segments")
DOCUMENTS = ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))]


def named_paths(text):
    """Paths of Python files in backticks, e.g. `index/store/store.py`."""
    return set(re.findall(r"`([\w/]+/[\w./]+\.py)`", text))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_modules_that_a_document_names_exist(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    for path in named_paths(text):
        assert any((base / path).is_file() for base in BASES), path


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert ((ROOT / document).parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS)
def test_modules_that_a_document_names_with_dots_exist(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    for name in set(re.findall(r"\bhiersearch(?:\.\w+)+", text)):
        parts = name.split(".")
        # The last part, or the last two, may be what a module holds.
        found = any(
            (ROOT / Path(*parts[:n])).is_dir()
            or (ROOT / Path(*parts[:n])).with_suffix(".py").is_file()
            for n in range(max(1, len(parts) - 2), len(parts) + 1)
            if n > 1 or len(parts) == 2
        )
        assert found, name
