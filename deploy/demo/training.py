"""Trains the three digits models and lays them out as Triton model repositories.

The data are the 1,797 handwritten digits that come with scikit-learn; half of them are held out, never
trained on, and become the traffic of the demo.
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from deploy.demo.models.common.classifier import Classifier
from numpy.typing import NDArray

MODELS = Path(__file__).resolve().parent / "models"
MODEL_NAME = "digits"
Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Preprocess = Callable[[Floats], NDArray[Any]]
"""One 8 x 8 image to 64 features (as served), or n images to (n, 64) features (as trained)."""


@dataclass(frozen=True)
class Digits:
    """The data: images of shape (n, 8, 8) with ink from 0 to 16, and their labels."""

    training_images: Floats
    training_labels: Labels
    held_out_images: Floats
    held_out_labels: Labels


@dataclass(frozen=True)
class Recipe:
    """How one version comes to be: its preprocessing, number of images, hidden layers, and what it is."""

    version: str
    folder: str
    images: int
    hidden: tuple[int, ...]
    story: str


V1 = Recipe("1.0.0", "v1", 60, (), "logistic regression, trained on 60 images")
V2 = Recipe("1.1.0", "v2", 898, (48,), "a small neural network, trained on 898 images")
V3 = Recipe("1.2.0", "v3", 898, (48,), "v2's network on a new preprocessing: evens out side light, smooths")
RECIPES = (V1, V2, V3)


@dataclass(frozen=True)
class Trained:
    """A trained version; ``offline_accuracy`` is over all held-out images, preprocessed as in training."""

    recipe: Recipe
    classifier: Classifier
    preprocess: Preprocess
    offline_accuracy: float


def load_digits_data(seed: int = 7) -> Digits:
    """The digits, split in halves with equal shares of each digit."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    parts = train_test_split(data.images, data.target, test_size=0.5, random_state=seed, stratify=data.target)
    return Digits(parts[0], parts[2], parts[1], parts[3])


def load_preprocessing(recipe: Recipe) -> tuple[Preprocess, Preprocess]:
    """The code that will run in Triton (one image), and the one used in training (many images at once)."""
    module = importlib.import_module(f"deploy.demo.models.{recipe.folder}.preprocessing")
    try:
        batch = importlib.import_module(f"deploy.demo.models.{recipe.folder}.training_preprocessing").preprocess_many
    except ModuleNotFoundError:
        return module.preprocess, lambda images: np.asarray([module.preprocess(image) for image in images])
    return module.preprocess, batch


def train(recipe: Recipe, digits: Digits, seed: int = 1) -> Trained:
    """Train one version; the same seed gives the same weights."""
    preprocess, preprocess_many = load_preprocessing(recipe)
    features = preprocess_many(digits.training_images[: recipe.images])
    classifier = Classifier(_fit(features, digits.training_labels[: recipe.images], recipe.hidden, seed))
    guesses = classifier.probabilities(preprocess_many(digits.held_out_images)).argmax(axis=1)
    return Trained(recipe, classifier, preprocess, float((guesses == digits.held_out_labels).mean()))


def _fit(
    features: Floats, labels: Labels, hidden: tuple[int, ...], seed: int
) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    if not hidden:
        regression = LogisticRegression(max_iter=500).fit(features, labels)
        return [(regression.coef_.T, regression.intercept_)]
    network = MLPClassifier(hidden, max_iter=300, learning_rate_init=0.005, random_state=seed).fit(features, labels)
    return list(zip(network.coefs_, network.intercepts_, strict=True))


def write_repository(trained: Trained, folder: Path) -> Path:
    """Lay the version out as a Triton model repository in ``folder`` (emptied first); returns ``folder``."""
    shutil.rmtree(folder, ignore_errors=True)
    code = folder / MODEL_NAME / "1"
    code.mkdir(parents=True)
    shutil.copy(MODELS / "common" / "config.pbtxt", folder / MODEL_NAME / "config.pbtxt")
    for name in ("model.py", "classifier.py"):
        shutil.copy(MODELS / "common" / name, code / name)
    shutil.copy(MODELS / trained.recipe.folder / "preprocessing.py", code / "preprocessing.py")
    trained.classifier.save(code / "weights.npz")
    return folder
