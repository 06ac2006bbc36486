"""Triton's side of a digits model: requests in, labels out. Only preprocessing and weights differ."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from classifier import Classifier  # noqa: E402
from preprocessing import preprocess  # noqa: E402


class TritonPythonModel:
    """Called by Triton's python backend."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the weights that lie beside this file."""
        self.classifier = Classifier.load(HERE / "weights.npz")

    def execute(self, requests: list) -> list:
        """Answer each request; an exception of the preprocessing becomes an INTERNAL error of the request."""
        return [self.answer(request) for request in requests]

    def answer(self, request):
        """Label every image of one request."""
        images = pb_utils.get_input_tensor_by_name(request, "IMAGE").as_numpy()
        features = np.stack([preprocess(image) for image in images])
        probabilities = self.classifier.probabilities(features).astype(np.float32)
        labels = probabilities.argmax(axis=1).astype(np.int64).reshape(-1, 1)
        return pb_utils.InferenceResponse(
            output_tensors=[pb_utils.Tensor("LABEL", labels), pb_utils.Tensor("PROBABILITIES", probabilities)]
        )
