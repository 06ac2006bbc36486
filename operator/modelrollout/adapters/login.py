"""Who we are to the API server: a service account in the cluster, a kubeconfig outside of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import yaml
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from modelrollout.adapters.apierrors import one_line
from modelrollout.ports import TransientError

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_CONNECTIONS = 32


@dataclass(frozen=True)
class Credentials:
    """The same login in plain words, for kopf's own connection. Paths may name temporary files."""

    server: str
    ca_path: str | None
    certificate_path: str | None
    private_key_path: str | None
    scheme: str | None
    token: str | None
    insecure: bool
    proxy_url: str | None


class Login:
    """Reads the credentials anew each time it is asked, so that rotated ones are found.

    Parameters
    ----------
    kubeconfig
        File to use. None: ``$KUBECONFIG``, else the pod's service account, else ``~/.kube/config``.
    context
        Context of the kubeconfig; None is its current one. Not used with a service account.

    """

    def __init__(self, kubeconfig: str | Path | None = None, context: str | None = None) -> None:
        self._kubeconfig = kubeconfig
        self._context = context

    async def configuration(self) -> Configuration:
        """Return a fresh configuration. Raises TransientError when there is nothing to log in with."""
        configuration = Configuration()
        # http_proxy and .netrc of the environment must not redirect requests that carry our token.
        configuration.client_session_kwargs = {"trust_env": False}
        configuration.connection_pool_maxsize = _CONNECTIONS
        try:
            path = self._path()
            if path is None:
                load_incluster_config(configuration)
            else:
                # The path is passed on, never left to the library: it reads $KUBECONFIG once, at import.
                await load_kube_config(
                    config_file=path,
                    context=self._context,
                    client_configuration=configuration,
                    persist_config=False,
                )
        # The library meets a broken file with whatever error its code happens to run into.
        except (ConfigException, yaml.YAMLError, OSError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise TransientError(one_line(f"cannot log in to the API server: {error}")) from error
        if token := configuration.api_key.get("BearerToken"):
            # A token file that ends in a newline would make an invalid header.
            configuration.api_key["BearerToken"] = token.strip()
        return configuration

    async def credentials(self) -> Credentials:
        """Return the login as plain values. Raises TransientError as ``configuration`` does."""
        configuration = await self.configuration()
        header = configuration.api_key.get("BearerToken")
        scheme, token = header.split(" ", 1) if header else (None, None)
        return Credentials(
            server=configuration.host,
            ca_path=configuration.ssl_ca_cert,
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
            scheme=scheme,
            token=token,
            insecure=not configuration.verify_ssl,
            proxy_url=configuration.proxy,
        )

    def _path(self) -> str | None:
        if self._kubeconfig:
            path = Path(self._kubeconfig).expanduser()
            if not path.is_file():
                raise ConfigException(f"there is no kubeconfig at {path}")
            return str(path)
        if named := os.environ.get("KUBECONFIG"):
            return named
        if "KUBERNETES_SERVICE_HOST" in os.environ and (_SERVICE_ACCOUNT / "token").is_file():
            return None
        path = Path("~/.kube/config").expanduser()
        if not path.is_file():
            raise ConfigException(f"not in a pod, KUBECONFIG is not set and there is no {path}")
        return str(path)
