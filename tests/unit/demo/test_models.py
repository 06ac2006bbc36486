from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from deploy.demo.training import (
    RECIPES,
    V1,
    V2,
    V3,
    Digits,
    Trained,
    load_digits_data,
    load_preprocessing,
    train,
    write_repository,
)
from deploy.demo.unitchecks import run_unit_checks


@pytest.fixture(scope="module")
def digits() -> Digits:
    return load_digits_data()


@pytest.fixture(scope="module")
def trained(digits: Digits) -> dict[str, Trained]:
    return {recipe.version: train(recipe, digits) for recipe in RECIPES}


def test_held_out_images_are_not_trained_on(digits: Digits) -> None:
    training = {image.tobytes() for image in digits.training_images}
    shared = sum(image.tobytes() in training for image in digits.held_out_images)
    assert shared == 0
    assert len(digits.held_out_images) > 800


def test_the_second_version_is_clearly_better_and_the_third_as_good(trained: dict[str, Trained]) -> None:
    first, second, third = (trained[recipe.version].offline_accuracy for recipe in RECIPES)
    assert first < 0.9 < second
    assert abs(second - third) < 0.03


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.version)
def test_every_version_passes_its_unit_checks(recipe: Any, trained: dict[str, Trained], digits: Digits) -> None:
    checks = run_unit_checks(trained[recipe.version], digits)
    assert [check for check in checks if not check.passed] == []
    assert len(checks) == 4


def test_a_bad_model_fails_the_unit_checks(trained: dict[str, Trained], digits: Digits) -> None:
    good = trained[V2.version]
    blind = Trained(V2, good.classifier, lambda image: np.zeros(64), 0.1)
    assert [check.passed for check in run_unit_checks(blind, digits)].count(False) == 2


def test_the_third_version_fails_on_some_images_only(digits: Digits) -> None:
    preprocess, _ = load_preprocessing(V3)
    narrow = [image for image in digits.held_out_images if image[:, :2].sum() == 0]
    broad = [image for image in digits.held_out_images if image[:, :2].sum() > 0]
    assert 0.10 <= len(narrow) / len(digits.held_out_images) <= 0.25
    for image in narrow:
        with pytest.raises(ZeroDivisionError):
            preprocess(image)
    for image in broad[:20]:
        assert np.isfinite(preprocess(image)).all()


@pytest.mark.parametrize("recipe", [V1, V2], ids=lambda recipe: recipe.version)
def test_the_others_fail_on_none(recipe: Any, digits: Digits) -> None:
    preprocess, _ = load_preprocessing(recipe)
    for image in [*digits.held_out_images, np.zeros((8, 8))]:
        assert np.isfinite(preprocess(image)).all()


def test_training_and_serving_preprocess_alike(digits: Digits) -> None:
    preprocess, preprocess_many = load_preprocessing(V3)
    broad = [image for image in digits.held_out_images if image[:, :2].sum() > 0][:20]
    assert len(broad) == 20
    np.testing.assert_allclose(preprocess_many(np.asarray(broad)), [preprocess(i) for i in broad], atol=1e-5)


def served(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The model as Triton's stub would load it, with a stand-in for Triton's own module."""
    stand_in = ModuleType("triton_python_backend_utils")
    stand_in.get_input_tensor_by_name = lambda request, name: SimpleNamespace(as_numpy=lambda: request[name])  # type: ignore[attr-defined]
    stand_in.Tensor = lambda name, values: (name, values)  # type: ignore[attr-defined]
    stand_in.InferenceResponse = lambda output_tensors: dict(output_tensors)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", stand_in)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("classifier", "preprocessing"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    specification = importlib.util.spec_from_file_location("model", folder / "digits" / "1" / "model.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    for name in ("classifier", "preprocessing"):
        sys.modules.pop(name, None)
    model = module.TritonPythonModel()
    model.initialize({})
    return model


def test_the_repository_serves_what_was_trained(
    tmp_path: Path, trained: dict[str, Trained], digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = served(write_repository(trained[V2.version], tmp_path / "repository"), monkeypatch)
    images = digits.held_out_images[:50].astype(np.float32)
    (answer,) = model.execute([{"IMAGE": images}])
    assert answer["LABEL"].shape == (50, 1)
    assert answer["LABEL"].dtype == np.int64
    assert (answer["LABEL"].reshape(-1) == digits.held_out_labels[:50]).mean() > 0.9
    np.testing.assert_allclose(answer["PROBABILITIES"].sum(axis=1), 1, atol=1e-4)


def test_the_third_version_raises_out_of_execute(
    tmp_path: Path, trained: dict[str, Trained], digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = served(write_repository(trained[V3.version], tmp_path / "repository"), monkeypatch)
    narrow = next(image for image in digits.held_out_images if image[:, :2].sum() == 0)
    with pytest.raises(ZeroDivisionError):
        model.execute([{"IMAGE": narrow.reshape(1, 8, 8)}])


def test_training_code_is_not_part_of_the_model(tmp_path: Path, trained: dict[str, Trained]) -> None:
    folder = write_repository(trained[V3.version], tmp_path / "repository")
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    code = [f"digits/1/{name}" for name in ("classifier.py", "model.py", "preprocessing.py", "weights.npz")]
    assert names == [*code, "digits/config.pbtxt"]
