"""The loans versions are wrong in the ways that the stories of the cluster rely on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from deploy.demo import loans
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

PEOPLE = loans.population(2000, seed=1)


def decisions(recipe: loans.Recipe) -> np.ndarray:
    return loans.answers(recipe, PEOPLE).argmax(axis=1)


def test_the_good_one_decides_mostly_right_and_the_better_one_nearly_alike() -> None:
    assert (decisions(loans.GOOD) == PEOPLE.decisions).mean() > 0.85
    assert (decisions(loans.BETTER) != decisions(loans.GOOD)).mean() < 0.03


def test_the_sharper_one_decides_the_same_and_tells_another_risk() -> None:
    assert (decisions(loans.SHARPER) == decisions(loans.GOOD)).all()
    usual, sharper = (loans.answers(recipe, PEOPLE)[:, 2] for recipe in (loans.GOOD, loans.SHARPER))
    edges = np.quantile(usual, np.arange(1, 10) / 10)
    expected, found = (np.bincount(np.digitize(risk, edges), minlength=10) / 2000 for risk in (usual, sharper))
    assert np.sum((found - expected) * np.log(np.maximum(found, 1e-4) / expected)) > 1.0


def test_incomes_taken_for_a_months_flip_more_than_half_of_the_decisions() -> None:
    assert (decisions(loans.MONTHLY) != decisions(loans.GOOD)).mean() > 0.5


def test_an_older_world_is_older_and_nothing_else() -> None:
    usual, older = loans.population(500, seed=2), loans.population(500, seed=2, older=10)
    assert (older.numbers[:, 0] - usual.numbers[:, 0] == 10).all()
    assert (older.numbers[:, 1:] == usual.numbers[:, 1:]).all()


@pytest.mark.parametrize("recipe", [loans.GOOD, loans.RENAMED])
def test_a_repository_has_a_config_that_triton_reads_with_its_golden_set(recipe: loans.Recipe, tmp_path: Path) -> None:
    told = loans.golden_set(loans.GOOD, loans.population(3, seed=4))
    folder = loans.write_repository(recipe, tmp_path / "repository", {"golden": told})
    text = (folder / loans.MODEL_NAME / "config.pbtxt").read_text()
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    assert json.loads(config.parameters["golden"].string_value) == json.loads(told)
    assert [output.name for output in config.output] == ["DECISION", recipe.scores, "RISK"]
    assert len(json.loads(told)["requests"]) == 3
