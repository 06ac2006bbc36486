"""Every rendered object of every case, compared with what was reviewed (see tests/data/golden/README.md)."""

from __future__ import annotations

import os

import pytest
import yaml

from tests.unit.render.cases import CASES, GOLDEN, load_case


@pytest.mark.parametrize("name", CASES)
def test_objects_are_as_reviewed(name: str) -> None:
    objects = load_case(name).objects()
    file = GOLDEN / "output" / f"{name}.yaml"
    text = yaml.safe_dump_all(objects, sort_keys=False, width=120)
    if os.environ.get("GOLDEN_UPDATE") == "1":
        file.write_text(text)
    reviewed = list(yaml.safe_load_all(file.read_text()))
    assert [body["kind"] for body in objects] == [body["kind"] for body in reviewed]
    for body, expected in zip(objects, reviewed, strict=True):
        assert body == expected, f"{body['kind']}: GOLDEN_UPDATE=1 rewrites {file}"


def test_no_output_without_an_input() -> None:
    assert sorted(path.stem for path in (GOLDEN / "output").glob("*.yaml")) == CASES
