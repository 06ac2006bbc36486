"""Loans models: a second model family, whose versions go wrong in ways that neither errors nor latency show.

Applicants are drawn from a known population, so that a test can make the world drift. The true decision of each is
known; every version is the same logistic regression with one thing about it changed (see ``Recipe``).
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from deploy.demo.models.common.classifier import Classifier
from deploy.demo.models.loans.preprocessing import REGIONS, preprocess
from numpy.typing import NDArray

MODELS = Path(__file__).resolve().parent / "models"
MODEL_NAME = "loans"
NUMBERS = ("age", "income", "debt", "late_payments")
_SHARES = (0.30, 0.25, 0.25, 0.16, 0.02, 0.02)


@dataclass(frozen=True)
class Applicants:
    """``numbers`` of shape (n, 4) in the order of NUMBERS, n ``regions``, and the n true ``decisions``."""

    numbers: NDArray[np.float64]
    regions: tuple[str, ...]
    decisions: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.regions)


@dataclass(frozen=True)
class Recipe:
    """One version. What is not named is right.

    ``incomes_a_year`` 12 takes a year's income for a month's; ``sharpness`` multiplies the scores' logits: the same
    decisions, told with another certainty; ``delay`` are seconds a batch; applicants of ``refuses`` raise; ``scores``
    is the name of the second output.
    """

    version: str
    incomes_a_year: float = 1.0
    sharpness: float = 1.0
    delay: float = 0.0
    refuses: tuple[str, ...] = ()
    scores: str = "SCORES"
    applicants: int = 4000


GOOD = Recipe("1.0.0")
FAILING = Recipe("1.0.1", refuses=("islands",))
FAILING_MORE = Recipe("1.0.2", refuses=("islands", "harbour"))
BETTER = Recipe("1.1.0", applicants=8000)
SHARPER = Recipe("1.2.0", sharpness=4.0)
MONTHLY = Recipe("1.3.0", incomes_a_year=12.0)
SLOW = Recipe("1.4.0", delay=0.8)
RENAMED = Recipe("1.5.0", scores="PROBABILITIES")
RENAMED_MAJOR = Recipe("2.0.0", scores="PROBABILITIES")
RECIPES = (GOOD, FAILING, FAILING_MORE, BETTER, SHARPER, MONTHLY, SLOW, RENAMED, RENAMED_MAJOR)


def population(count: int, seed: int, older: float = 0.0) -> Applicants:
    """Draw applicants; ``older`` years on everybody's age makes the world drift."""
    random = np.random.default_rng(seed)
    age = np.clip(random.normal(42, 13, count), 18, 90)
    income = random.lognormal(np.log(38_000), 0.5, count)
    debt = random.beta(2, 5, count)
    late = random.poisson(0.8, count).astype(np.float64)
    places = random.choice(len(REGIONS), count, p=_SHARES)
    risk = 1.6 * late + 6 * debt - 2.4 * (np.log(income) - np.log(38_000)) - 0.02 * (age - 42)
    risk += random.normal(0, 0.4, count)
    numbers = np.column_stack([np.round(age + older), np.round(income), np.round(debt, 3), late])
    decisions = np.digitize(risk, (2.0, 4.5)).astype(np.int64)
    return Applicants(numbers, tuple(REGIONS[place] for place in places), decisions)


@cache
def train(recipe: Recipe, seed: int = 3) -> Classifier:
    """Fit one version; the same recipe gives the same weights. What is wrong about it happens in serving only."""
    from sklearn.linear_model import LogisticRegression

    data = population(recipe.applicants, seed)
    fitted = LogisticRegression(max_iter=500).fit(preprocess(data.numbers, data.regions), data.decisions)
    return Classifier([(fitted.coef_.T, fitted.intercept_)])


def answers(recipe: Recipe, data: Applicants) -> NDArray[np.float64]:
    """The scores, shape (n, 3), that this version serves."""
    features = preprocess(data.numbers, data.regions, recipe.incomes_a_year)
    return train(recipe).probabilities(features, recipe.sharpness)


def write_repository(recipe: Recipe, folder: Path, parameters: Mapping[str, str] | None = None) -> Path:
    """Lay the version out as a Triton model repository in ``folder`` (emptied first); returns ``folder``.

    ``parameters`` are put into config.pbtxt, for example a golden set or a profile.
    """
    shutil.rmtree(folder, ignore_errors=True)
    code = folder / MODEL_NAME / "1"
    code.mkdir(parents=True)
    config = (MODELS / "loans" / "config.pbtxt").read_text().replace("SCORES", recipe.scores)
    for key, value in (parameters or {}).items():
        # JSON's escapes of a text are those of protobuf's text format, where everything is ASCII.
        config += f"parameters {{ key: {json.dumps(key)} value: {{ string_value: {json.dumps(value)} }} }}\n"
    (folder / MODEL_NAME / "config.pbtxt").write_text(config)
    shutil.copy(MODELS / "common" / "classifier.py", code / "classifier.py")
    for name in ("model.py", "preprocessing.py"):
        shutil.copy(MODELS / "loans" / name, code / name)
    (code / "recipe.json").write_text(json.dumps(asdict(recipe)))
    train(recipe).save(code / "weights.npz")
    return folder


def as_csv(data: Applicants, scores: NDArray[np.float64] | None = None) -> str:
    """The applicants as a table with a head, as `modelrollout profile make` reads one; with the answers if given."""
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow([*NUMBERS, "region", *([] if scores is None else ["decision", "risk"])])
    for index, (numbers, region) in enumerate(zip(data.numbers.tolist(), data.regions, strict=True)):
        told = [] if scores is None else [int(scores[index].argmax()), float(scores[index][2])]
        writer.writerow([*numbers, region, *told])
    return table.getvalue()


def tensors(data: Applicants, index: int) -> list[dict[str, Any]]:
    """The inputs of one applicant, by the KServe protocol."""
    numbers = data.numbers[index].tolist()
    return [
        {"name": "APPLICANT", "shape": [1, 4], "datatype": "FP32", "data": numbers},
        {"name": "REGION", "shape": [1, 1], "datatype": "BYTES", "data": [data.regions[index]]},
    ]


def golden_set(recipe: Recipe, data: Applicants) -> str:
    """Stored requests with the answers of ``recipe``, as the golden gate reads them."""
    requests = []
    for index, scores in enumerate(answers(recipe, data)):
        expected = [
            {"name": "DECISION", "shape": [1, 1], "datatype": "INT64", "data": [int(scores.argmax())]},
            {"name": "SCORES", "shape": [1, 3], "datatype": "FP32", "data": scores.astype(np.float32).tolist()},
            {"name": "RISK", "shape": [1, 1], "datatype": "FP32", "data": scores[2:].astype(np.float32).tolist()},
        ]
        requests.append({"name": f"applicant-{index}", "inputs": tensors(data, index), "outputs": expected})
    return json.dumps({"version": 1, "requests": requests})
