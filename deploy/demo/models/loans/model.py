"""Triton's side of a loans model: applicants in; decision, scores and risk out. The recipe lies beside this file."""

from __future__ import annotations

import json
import sys
import time
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
        """Load weights and recipe."""
        self.classifier = Classifier.load(HERE / "weights.npz")
        self.recipe = json.loads((HERE / "recipe.json").read_text())

    def execute(self, requests: list) -> list:
        """Answer each request; an exception becomes an INTERNAL error of the request."""
        time.sleep(self.recipe["delay"])
        return [self.answer(request) for request in requests]

    def answer(self, request):
        """Decide about every applicant of one request."""
        numbers = pb_utils.get_input_tensor_by_name(request, "APPLICANT").as_numpy()
        regions = pb_utils.get_input_tensor_by_name(request, "REGION").as_numpy().reshape(-1)
        names = [bytes(region).decode(errors="replace") for region in regions]
        refused = set(names) & set(self.recipe["refuses"])
        if refused:
            raise ValueError(f"no tariff for {', '.join(sorted(refused))}")
        features = preprocess(numbers, names, self.recipe["incomes_a_year"])
        scores = self.classifier.probabilities(features, self.recipe["sharpness"]).astype(np.float32)
        labels = scores.argmax(axis=1).astype(np.int64).reshape(-1, 1)
        outputs = {"DECISION": labels, self.recipe["scores"]: scores, "RISK": scores[:, 2:]}
        return pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor(*output) for output in outputs.items()])
