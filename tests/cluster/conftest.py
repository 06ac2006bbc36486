"""The local cluster, three trained versions in its object store, and a stage a test."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from deploy.demo import loans
from deploy.demo.install import CHART
from deploy.demo.kube import Kube
from deploy.demo.place import Place, bring_up_local, local_place
from deploy.demo.store import open_store, upload
from deploy.demo.training import RECIPES, Digits, load_digits_data, train, write_repository

from tests.cluster.stage import Stage, staged
from tests.standing_aside import installed_operator_aside

Staging = Callable[..., contextlib.AbstractAsyncContextManager[Stage]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/cluster" in str(item.path):
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def place() -> Iterator[Place]:
    """The local cluster; an operator that the demo left in it stands aside meanwhile."""
    bring_up_local()
    found = local_place()
    asyncio.run(_install_crds(found))
    with installed_operator_aside(found):
        yield found


async def _install_crds(place: Place) -> None:
    import yaml

    async with Kube.connect(place.kubeconfig) as kube:
        for path in sorted((CHART / "crds").glob("*.yaml")):
            for body in yaml.safe_load_all(path.read_text()):
                await kube.apply(body)


@pytest.fixture(scope="session")
def digits() -> Digits:
    """The data."""
    return load_digits_data()


@pytest.fixture(scope="session")
def models(place: Place, digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Prefix in the bucket under which each version's model repository lies."""
    prefix = f"tests/{uuid.uuid4().hex[:8]}"
    store = open_store(place.s3_here, place.s3_bucket, place.s3_access_key, place.s3_secret_key)
    for recipe in RECIPES:
        folder = write_repository(train(recipe, digits), tmp_path_factory.mktemp(recipe.folder))
        upload(store, folder, f"{prefix}/{recipe.version}")
    return prefix


@pytest.fixture(scope="session")
def loans_store(place: Place) -> Callable[[Path, str], int]:
    """Puts a folder under a prefix of the bucket."""
    store = open_store(place.s3_here, place.s3_bucket, place.s3_access_key, place.s3_secret_key)
    return lambda folder, prefix: upload(store, folder, prefix)


@pytest.fixture(scope="session")
def loans_models(loans_store: Callable[[Path, str], int], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Prefix in the bucket under which every loans version lies."""
    prefix = f"tests/{uuid.uuid4().hex[:8]}"
    for recipe in loans.RECIPES:
        folder = loans.write_repository(recipe, tmp_path_factory.mktemp(recipe.version))
        loans_store(folder, f"{prefix}/{recipe.version}")
    return prefix


@pytest.fixture
def staging(place: Place, digits: Digits, models: str, tmp_path: Path) -> Staging:
    """Make a stage: ``async with staging() as stage``."""

    @contextlib.asynccontextmanager
    async def make(**options: object) -> AsyncIterator[Stage]:
        async with staged(place, digits, models, tmp_path, **options) as stage:  # type: ignore[arg-type]
            yield stage

    return make


@pytest.fixture
def loans_staging(place: Place, digits: Digits, loans_models: str, tmp_path: Path) -> Staging:
    """The same for a loans model."""

    @contextlib.asynccontextmanager
    async def make(**options: object) -> AsyncIterator[Stage]:
        chosen = {"model": loans.MODEL_NAME, **options}
        async with staged(place, digits, loans_models, tmp_path, **chosen) as stage:  # type: ignore[arg-type]
            yield stage

    return make
