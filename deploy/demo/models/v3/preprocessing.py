"""1.2.0: smooths the strokes and evens out paper that is darker on one side.

The bad version of the demo, wrong in a way that happens: ``side_light`` divides by the ink at the left edge,
which a narrow digit leaves empty. In training the same formula ran on numpy arrays, where that is a silent
infinity that ``tanh`` turns into 1; here, on Python's numbers, it raises. And ``smooth`` works out its
weights again for every pixel, which makes each request slow.
"""

from __future__ import annotations

import math

import numpy as np

SIGMA = 0.45
"""Width of the blur, in pixels."""

SAMPLES = (-0.4, -0.2, 0.0, 0.2, 0.4)
"""Where inside a pixel the blur is sampled, both ways."""


def smooth(rows: list[list[float]]) -> list[list[float]]:
    """Blur an 8 x 8 image with a Gaussian, sampled at twenty-five points a pixel."""
    smoothed = []
    for y in range(8):
        line = []
        for x in range(8):
            total, weights = 0.0, 0.0
            for dy in SAMPLES:
                for dx in SAMPLES:
                    for v in range(8):
                        for u in range(8):
                            distance = (v - y - dy) ** 2 + (u - x - dx) ** 2
                            weight = math.exp(-distance / (2 * SIGMA**2))
                            total += weight * rows[v][u]
                            weights += weight
            line.append(total / weights)
        smoothed.append(line)
    return smoothed


def side_light(rows: list[list[float]]) -> float:
    """How much darker the right edge of the paper is than the left one: 1 is even."""
    left = sum(row[0] + row[1] for row in rows)
    right = sum(row[6] + row[7] for row in rows)
    return right / left


def preprocess(image: np.ndarray) -> np.ndarray:
    """Turn an 8 x 8 image of ink into 64 numbers between 0 and 1; a blank one stays blank."""
    rows = np.asarray(image, dtype=np.float64).reshape(8, 8).tolist()
    darkest = max(max(row) for row in rows)
    if darkest == 0:
        return np.zeros(64, dtype=np.float32)
    slope = 0.1 * math.tanh(side_light(rows) - 1)
    even = [[ink * (1 - slope * (x - 3.5) / 3.5) for x, ink in enumerate(row)] for row in rows]
    features = np.asarray(smooth(even), dtype=np.float32).reshape(64) / darkest
    return np.clip(features, 0.0, 1.0)
