"""``modelrollout run`` on a real API server: it leads, takes a turn, stops when asked and gives its lease back."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.badspecs import good
from tests.component.apiserver import ApiServer, Manifest, eventually
from tests.ports import free_ports

SETTINGS = {
    "pools": {"cpu": {"image": "localhost/triton:1"}},
    "prometheus": {"default": {"url": "http://127.0.0.1:9"}},
    "operatorImage": "localhost/operator:1",
    "logFormat": "text",
}


def _ports() -> dict[str, int]:
    metrics, health = free_ports(2)
    return {"metricsPort": metrics, "healthPort": health}


@pytest.mark.parametrize("objects", [0, 1], ids=["nothing to do", "one object"])
def test_it_takes_turns_until_it_is_asked_to_stop(api: ApiServer, namespace: str, tmp_path: Path, objects: int) -> None:
    path = f"/apis/modelrollout.io/v1alpha1/namespaces/{namespace}/modeldeployments"
    for _ in range(objects):
        answer = api.request("POST", path, good())
        assert answer.code == 201, answer.message
    settings = tmp_path / "settings.yaml"
    settings.write_text(yaml.safe_dump({**SETTINGS, **_ports(), "lease": {"namespace": namespace}}))
    command = [sys.executable, "-m", "modelrollout", "run", f"--settings={settings}", f"--kubeconfig={api.kubeconfig}"]
    log = tmp_path / "operator.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [*command, f"--namespace={namespace}", "--bind=127.0.0.1"], stdout=output, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            lease = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/modelrollout"

            def holder() -> str:
                found = api.request("GET", lease)
                return str(found.body["spec"].get("holderIdentity") or "") if found.code == 200 else ""

            eventually(lambda: holder() or process.poll() is not None, "leads")
            if objects:
                revisions = path.replace("modeldeployments", "modelrevisions")

                def listed(where: str) -> list[Manifest]:
                    found = api.request("GET", where)
                    # A busy server may answer with an error first.
                    items: list[Manifest] = found.body["items"] if found.code == 200 else []
                    return items

                eventually(lambda: listed(revisions), "a turn was taken")
                eventually(lambda: any(each.get("status") for each in listed(path)), "a status was written")
            process.send_signal(signal.SIGTERM)
            assert process.wait(90) == 0, log.read_text()
            assert holder() == ""
        finally:
            process.kill()
