"""The unit checks before an upload: what a careful person tests, and v3 passes them all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from deploy.demo.training import Digits, Floats, Trained


@dataclass(frozen=True)
class UnitCheck:
    """One check: what was tried, whether it passed, and what was seen."""

    name: str
    passed: bool
    seen: str


def clear_images(digits: Digits) -> Floats:
    """For each digit the boldest training image, as a person picks clear examples; shape (10, 8, 8)."""
    chosen = []
    for digit in range(10):
        images = digits.training_images[digits.training_labels == digit]
        chosen.append(images[images.sum(axis=(1, 2)).argmax()])
    return np.asarray(chosen)


def run_unit_checks(trained: Trained, digits: Digits, bar: float = 0.75) -> tuple[UnitCheck, ...]:
    """Try ten clear digits and a blank page, and hold the offline accuracy against ``bar``."""
    examples = np.asarray([trained.preprocess(image) for image in clear_images(digits)])
    answers = trained.classifier.probabilities(examples)
    right = int((answers.argmax(axis=1) == np.arange(10)).sum())
    blank_page = np.zeros((8, 8))
    blank = trained.classifier.probabilities(trained.preprocess(blank_page).reshape(1, 64))
    sums = answers.sum(axis=1)
    near_one = bool(np.allclose(sums, 1, atol=1e-4))
    score = trained.offline_accuracy
    return (
        UnitCheck("clear digits are recognised", right >= 9, f"{right} of 10"),
        UnitCheck(
            "a blank page gives finite probabilities",
            bool(np.isfinite(blank).all()),
            f"sum {blank.sum():.3f}",
        ),
        UnitCheck("probabilities sum to one", near_one, f"{sums.min():.4f} or more"),
        UnitCheck(f"offline accuracy is at least {bar:.0%}", score >= bar, f"{score:.1%}"),
    )
