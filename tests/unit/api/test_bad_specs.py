"""The operator's own validator refuses what the API server refuses, even where the CRD was edited."""

from __future__ import annotations

import pytest

from modelrollout.api.modeldeployment import InvalidSpec, parse_modeldeployment
from modelrollout.api.rolloutpolicy import parse_policy
from tests.badspecs import BAD_POLICIES, BAD_SPECS, POLICY_KINDS, BadSpec, good, good_policy


def test_the_good_spec_is_good() -> None:
    assert parse_modeldeployment(good()).spec.model.version == "1.4.0"


@pytest.mark.parametrize("bad", BAD_SPECS, ids=str)
def test_refused(bad: BadSpec) -> None:
    with pytest.raises(InvalidSpec) as refusal:
        parse_modeldeployment(bad.manifest)
    said = {problem.path: problem.sentence for problem in refusal.value.problems}
    assert set(said) == {bad.operator_path}
    assert bad.operator_sentence in said[bad.operator_path]


@pytest.mark.parametrize("kind", POLICY_KINDS)
def test_the_good_policy_is_good(kind: str) -> None:
    assert parse_policy(good_policy(kind)).kind == kind


@pytest.mark.parametrize("bad", BAD_POLICIES, ids=str)
def test_a_policy_is_refused(bad: BadSpec) -> None:
    with pytest.raises(InvalidSpec) as refusal:
        parse_policy(bad.manifest)
    said = {problem.path: problem.sentence for problem in refusal.value.problems}
    assert set(said) == {bad.operator_path}
    assert bad.operator_sentence in said[bad.operator_path]
