"""The API server as a person reaches it: their kubeconfig, blocking calls, plain JSON, watches as iterators.

Not ``apiserver.py``: a command lives for a second, and the synchronous client starts in half the time of the other.
"""

from __future__ import annotations

import getpass
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from math import ceil
from pathlib import Path
from typing import Any

import urllib3
import yaml
from kubernetes.client.api_client import ApiClient
from kubernetes.client.configuration import Configuration
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException, list_kube_config_contexts, load_incluster_config, load_kube_config

import modelrollout
from modelrollout.adapters.apierrors import Call, Failure, convert, one_line
from modelrollout.adapters.clock import SystemClock
from modelrollout.ports import ConflictError, DeniedError, Manifest, PortError, TransientError

# Not kubectl...: Flux takes back what managers of that name wrote, and the command would be gone before it is read.
FIELD_MANAGER = "modelrollout-command"
MERGE_PATCH = "application/merge-patch+json"
PAGE = 500
CONNECT_SECONDS = 5.0
WATCH_SECONDS = 290
NOTICEABLE_SKEW = timedelta(seconds=2)
"""The Date of an answer is in whole seconds: a smaller difference of the clocks is none."""

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True)
class Kind:
    """Where a kind lives; ``scope`` False: it is in no namespace."""

    api: str
    plural: str
    namespaced: bool = True


KINDS = {
    "ModelDeployment": Kind("/apis/modelrollout.io/v1alpha1", "modeldeployments"),
    "ModelRevision": Kind("/apis/modelrollout.io/v1alpha1", "modelrevisions"),
    "RolloutPolicy": Kind("/apis/modelrollout.io/v1alpha1", "rolloutpolicies"),
    "ClusterRolloutPolicy": Kind("/apis/modelrollout.io/v1alpha1", "clusterrolloutpolicies", namespaced=False),
    "Deployment": Kind("/apis/apps/v1", "deployments"),
    "Pod": Kind("/api/v1", "pods"),
    "ConfigMap": Kind("/api/v1", "configmaps"),
    "Node": Kind("/api/v1", "nodes", namespaced=False),
}


class WatchExpired(PortError):  # noqa: N818 - no failure: the list must be read again
    """The API server does not remember so far back."""


class UserClient:
    """One person's way to the cluster.

    Parameters
    ----------
    kubeconfig
        File to use. None: ``$KUBECONFIG``, else the pod's service account, else ``~/.kube/config``.
    context
        Context of the kubeconfig; None is its current one.
    timeout
        Seconds that the server may take to answer.

    Raises TransientError when there is nothing to log in with.

    """

    def __init__(self, kubeconfig: str | None = None, context: str | None = None, *, timeout: float = 10.0) -> None:
        # The library reports a login program that fails in the log and goes on without it; the 401 says it better.
        logging.getLogger("root").setLevel(logging.ERROR)
        configuration = Configuration()
        configuration.retries = False
        # A watch over a connection that silently died (a laptop that slept) must end.
        configuration.keep_alive = True
        try:
            self.namespace = _log_in(configuration, kubeconfig, context)
            self._client = ApiClient(configuration)
        except (ConfigException, yaml.YAMLError, OSError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise TransientError(one_line(f"cannot log in to a cluster: {error}")) from error
        self._client.user_agent = f"kubectl-modelrollout/{modelrollout.__version__}"
        self._timeout = timeout
        self._clock = SystemClock()
        self._skew = timedelta(0)

    @property
    def server(self) -> str:
        """The address of the API server."""
        return str(self._client.configuration.host)

    def now(self) -> datetime:
        """The time by the API server's clock: a countdown must not depend on that of a laptop."""
        return self._clock.now() + self._skew

    def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """Return one object, None where it does not exist. Raises TransientError, DeniedError."""
        call = Call("get", kind, namespace, name)
        answer = self._attempt(call, "GET", _path(kind, namespace, name))
        if isinstance(answer, Failure):
            if answer.code == 404 and answer.reason == "NotFound" and _names_an_object(answer):
                return None
            raise _convert(call, answer)
        return answer

    def list_objects(
        self, kind: str, namespace: str | None, selector: str = "", field: str = ""
    ) -> tuple[list[Manifest], str]:
        """Return all objects and the version of the list. ``namespace`` None: of every namespace."""
        call = Call("list", kind, namespace or "all namespaces", "")
        query = {"limit": str(PAGE), "labelSelector": selector, "fieldSelector": field}
        items: list[Manifest] = []
        while True:
            page = self._request(call, "GET", _path(kind, namespace), query)
            items += page.get("items") or []
            metadata = page.get("metadata") or {}
            if not metadata.get("continue"):
                return items, str(metadata.get("resourceVersion") or "")
            query["continue"] = metadata["continue"]

    def watch(
        self,
        kind: str,
        namespace: str,
        version: str,
        selector: str = "",
        field: str = "",
        seconds: float = WATCH_SECONDS,
    ) -> Iterator[tuple[str, Manifest]]:
        """Yield (ADDED, MODIFIED, DELETED, BOOKMARK; object) after ``version`` for about ``seconds``.

        Raises WatchExpired when the list must be read again, TransientError, DeniedError.
        """
        call = Call("watch", kind, namespace, "")
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(max(ceil(seconds), 1)),
            "labelSelector": selector,
            "fieldSelector": field,
        }
        response = self._send(call, "GET", _path(kind, namespace), query, seconds=seconds + 10)
        if response.status != 200:
            raise _convert(call, Failure.read(response.status, response.read(), response.headers))
        try:
            for line in _lines(response.response):
                event = json.loads(line)
                if event.get("type") == "ERROR":
                    raise WatchExpired(str((event.get("object") or {}).get("message") or "the watch has expired"))
                yield str(event["type"]), event["object"]
        except (urllib3.exceptions.HTTPError, OSError, ValueError, KeyError) as error:
            raise TransientError(f"{call.what}: {one_line(str(error)) or type(error).__name__}") from error
        finally:
            response.response.close()

    def merge_patch(self, kind: str, namespace: str, name: str, body: Manifest) -> Manifest:
        """Change what ``body`` names, and nothing else. Raises DeniedError, RejectedError, TransientError, ..."""
        call = Call("patch", kind, namespace, name)
        query = {"fieldManager": FIELD_MANAGER}
        return self._request(call, "PATCH", _path(kind, namespace, name), query, body, MERGE_PATCH)

    def whoami(self) -> str:
        """Return the person's name as the API server knows it, else as this machine does."""
        call = Call("create", "SelfSubjectReview", "", "")
        path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        body: Manifest = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        with suppress(PortError):
            answer = self._request(call, "POST", path, body=body)
            name = ((answer.get("status") or {}).get("userInfo") or {}).get("username")
            if name:
                return str(name)
        try:
            return getpass.getuser()
        except (OSError, KeyError):
            return "unknown"

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _request(
        self,
        call: Call,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Manifest | None = None,
        content_type: str = "application/json",
    ) -> Manifest:
        answer = self._attempt(call, method, path, query, body, content_type)
        if isinstance(answer, Failure):
            raise _convert(call, answer)
        return answer

    def _attempt(
        self,
        call: Call,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Manifest | None = None,
        content_type: str = "application/json",
    ) -> Manifest | Failure:
        response = self._send(call, method, path, query, body, content_type, seconds=self._timeout)
        try:
            data = response.read()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise TransientError(f"{call.what}: the answer broke off") from error
        if not 200 <= response.status <= 299:
            return Failure.read(response.status, data, response.headers)
        try:
            decoded: Any = json.loads(data)
        except ValueError:
            decoded = None
        if not isinstance(decoded, dict):
            raise TransientError(f"{call.what}: {self.server} does not answer like an API server")
        return decoded

    def _send(
        self,
        call: Call,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Manifest | None = None,
        content_type: str = "application/json",
        *,
        seconds: float,
    ) -> Any:
        try:
            method, url, headers, sent, _ = self._client.param_serialize(
                method,
                path,
                query_params=[(key, value) for key, value in (query or {}).items() if value],
                header_params={"Accept": "application/json", "Content-Type": content_type},
                body=body,
                auth_settings=["BearerToken"],
            )
            response = self._client.call_api(method, url, headers, sent, _request_timeout=(CONNECT_SECONDS, seconds))
        except (urllib3.exceptions.HTTPError, ApiException, OSError, ValueError) as error:
            raise TransientError(f"cannot reach the API server at {self.server}: {_cause(error)}") from error
        self._note_time(response.headers.get("Date"))
        return response

    def _note_time(self, date: str | None) -> None:
        with suppress(TypeError, ValueError):
            skew = parsedate_to_datetime(date or "").replace(tzinfo=UTC) - self._clock.now()
            self._skew = skew if abs(skew) > NOTICEABLE_SKEW else timedelta(0)


def _log_in(configuration: Any, kubeconfig: str | None, context: str | None) -> str:
    """Fill ``configuration``; returns the namespace that the person works in."""
    path = str(Path(kubeconfig).expanduser()) if kubeconfig else os.environ.get("KUBECONFIG", "")
    if path and not any(Path(part).is_file() for part in path.split(os.pathsep)):
        raise ConfigException(f"there is no kubeconfig at {path}" + ("" if kubeconfig else " (from $KUBECONFIG)"))
    if not path and "KUBERNETES_SERVICE_HOST" in os.environ and (_SERVICE_ACCOUNT / "token").is_file():
        load_incluster_config(configuration)
        own = _SERVICE_ACCOUNT / "namespace"
        return own.read_text("utf-8").strip() if own.is_file() else "default"
    if not path:
        path = str(Path("~/.kube/config").expanduser())
        if not Path(path).is_file():
            raise ConfigException(f"KUBECONFIG is not set and there is no {path}: give --kubeconfig")
    contexts, current = list_kube_config_contexts(path)
    if context is not None:
        named = [entry for entry in contexts if entry.get("name") == context]
        if not named:
            known = ", ".join(sorted(str(entry.get("name")) for entry in contexts)) or "none"
            raise ConfigException(f"the kubeconfig has no context {context!r}; it has {known}")
        current = named[0]
    load_kube_config(path, context, configuration, persist_config=False)
    return str(((current or {}).get("context") or {}).get("namespace") or "default")


def _path(kind: str, namespace: str | None, name: str = "") -> str:
    known = KINDS[kind]
    parts = [known.api]
    if known.namespaced and namespace is not None:
        parts += ["namespaces", namespace]
    return "/".join([*parts, known.plural, name] if name else [*parts, known.plural])


def _names_an_object(failure: Failure) -> bool:
    details = failure.status.get("details")
    return isinstance(details, dict) and bool(details.get("name"))


def _convert(call: Call, failure: Failure) -> PortError:
    if failure.code == 401:
        return DeniedError(
            "the API server does not accept your credentials: log in again (kubectl get pods shows it too)"
        )
    if failure.code == 410:
        return WatchExpired("the list is too old")
    if failure.code == 404 and failure.reason == "NotFound" and _names_an_object(failure):
        return ConflictError(one_line(failure.text))
    return convert(call, failure)


def _cause(error: Exception) -> str:
    """What a person can act on, out of the library's onion."""
    text = one_line(str(error), 1000)
    for sign, words in (
        ("Connection refused", "connection refused. Is the cluster up, and is it the right --context?"),
        ("Name or service not known", "its name is not known. Is it the right --context, and is the VPN up?"),
        ("nodename nor servname", "its name is not known. Is it the right --context, and is the VPN up?"),
        ("Temporary failure in name resolution", "its name is not known. Is the network up?"),
        ("CERTIFICATE_VERIFY_FAILED", "its certificate is not the one that the kubeconfig trusts"),
        ("timed out", "no answer in time. Is it the right --context, and is the VPN up?"),
        ("No route to host", "no route to it. Is the VPN up?"),
    ):
        if sign in text:
            return words
    return one_line(text) or type(error).__name__


def _lines(response: Any) -> Iterator[bytes]:
    """The lines of a stream as they come."""
    rest = b""
    for chunk in response.stream(amt=None, decode_content=False):
        rest += chunk
        *lines, rest = rest.split(b"\n")
        yield from (line for line in lines if line.strip())
