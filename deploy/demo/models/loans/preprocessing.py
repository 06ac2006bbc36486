"""What a loans model makes of an applicant; the same code in training and in Triton."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

REGIONS = ("north", "south", "east", "west", "harbour", "islands")


def preprocess(numbers: np.ndarray, regions: Sequence[str], incomes_a_year: float = 1.0) -> np.ndarray:
    """Turn (n, 4) numbers (age, income, debt ratio, late payments) and n regions into (n, 10) features.

    ``incomes_a_year`` is how often an income is paid: 1 where it is a year's, 12 where it is a month's.
    """
    values = np.asarray(numbers, dtype=np.float64).reshape(-1, 4)
    income = np.log(np.maximum(values[:, 1], 1.0) * incomes_a_year) - np.log(38_000)
    scaled = np.column_stack([(values[:, 0] - 42) / 13, income, (values[:, 2] - 0.3) * 6, values[:, 3] - 0.8])
    places = np.array([[region == name for name in REGIONS] for region in regions], dtype=np.float64)
    return np.hstack([scaled, places])
