"""The trained part of a demo model: layers of numbers, applied with numpy alone.

The server needs no scikit-learn and no pickle, so versions of libraries at training and serving may differ.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


class Classifier:
    """Rectified layers with a softmax at the end; no hidden layer makes it a logistic regression."""

    def __init__(self, layers: list[tuple[np.ndarray, np.ndarray]]) -> None:
        self.layers = layers

    @classmethod
    def load(cls, path: Path) -> Classifier:
        """Read the layers from an ``.npz`` file of arrays (pickled content is refused)."""
        with np.load(path, allow_pickle=False) as file:
            count = len(file.files) // 2
            return cls([(file[f"weights_{i}"], file[f"bias_{i}"]) for i in range(count)])

    def save(self, path: Path) -> None:
        """Write the layers to an ``.npz`` file."""
        arrays: dict[str, Any] = {}
        for i, (weights, bias) in enumerate(self.layers):
            arrays[f"weights_{i}"] = np.asarray(weights, dtype=np.float32)
            arrays[f"bias_{i}"] = np.asarray(bias, dtype=np.float32)
        np.savez(path, **arrays)

    def probabilities(self, features: np.ndarray, sharpness: float = 1.0) -> np.ndarray:
        """Probabilities of a batch of features, shapes (n, features) and (n, classes); sharper ones are surer."""
        values = features
        for weights, bias in self.layers[:-1]:
            values = np.maximum(values @ weights + bias, 0.0)
        weights, bias = self.layers[-1]
        scores = sharpness * (values @ weights + bias)
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))
