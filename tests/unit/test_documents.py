"""The documents keep their word: manifests are the examples, links lead somewhere, every strategy has its page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from modelrollout.api.strategies import Strategy

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs" / "strategies").glob("*.md"))
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLE = re.compile(r"^\[deploy/examples/[a-z-]+\.yaml\]\((\S+)\):\n\n```yaml\n(.*?)\n```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)")


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "README.md"], ids=lambda page: page.stem)
def test_the_manifest_of_a_page_is_the_example(page: Path) -> None:
    found = EXAMPLE.findall(page.read_text())
    assert len(found) == 1
    path, manifest = found[0]
    assert manifest == (page.parent / path).read_text().rstrip("\n")


def test_every_strategy_has_a_page_and_a_small_picture() -> None:
    names = {
        re.sub(r"(?<=[a-z])(?=[A-Z])", "-", str(strategy)).lower().replace("abtest", "ab-test") for strategy in Strategy
    }
    assert names <= {page.stem for page in PAGES}
    for name in names:
        assert (ROOT / "docs" / "strategies" / f"{name}.png").stat().st_size < 150_000


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target, anchor in LINK.findall(re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)):
        if target.startswith(("http:", "https:")):
            continue
        to = (document.parent / target).resolve() if target else document
        assert to.exists(), f"{document.name} links to {target}"
        if anchor:
            assert anchor in _anchors(to), f"{document.name} links to {target}#{anchor}"


def _anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", document.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-") for heading in headings}
