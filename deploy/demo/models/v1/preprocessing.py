"""1.0.0: the ink as it is."""

from __future__ import annotations

import numpy as np


def preprocess(image: np.ndarray) -> np.ndarray:
    """Scale an 8 x 8 image of ink (0 to 16) to 64 numbers between 0 and 1."""
    return np.asarray(image, dtype=np.float32).reshape(64) / 16.0
