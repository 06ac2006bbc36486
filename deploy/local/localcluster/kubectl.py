"""kubectl and Helm against the local cluster, never against the user's own."""

from pathlib import Path
from string import Template

from localcluster import gobuild, layout
from localcluster.shell import run


def _words(*words: str | Path) -> list[str | Path]:
    return [gobuild.binaries() / "kubectl", "--kubeconfig", layout.KUBECONFIG, *words]


def ask(*words: str) -> str:
    """Ask something; an error is an empty answer."""
    done = run(_words(*words), check=False, timeout=30)
    return done.stdout.strip() if done.returncode == 0 else ""


def apply(*files: Path) -> None:
    """Apply files as they are, server-side."""
    names = [word for file in files for word in ("-f", file)]
    run(_words("apply", "--server-side", "--force-conflicts", *names))


def apply_manifest(name: str, **values: str) -> None:
    """Apply one of our manifests with its `${...}` filled in."""
    text = Template((layout.MANIFESTS / name).read_text()).substitute(values)
    run(_words("apply", "--server-side", "--force-conflicts", "-f", "-"), stdin=text)


def helm(*words: str | Path) -> str:
    """Run Helm with folders of our own, so that the user's settings play no part."""
    home = layout.STATE / "helm"
    env = {"HELM_CONFIG_HOME": f"{home}/config", "HELM_CACHE_HOME": f"{home}/cache", "HELM_DATA_HOME": f"{home}/data"}
    return run([gobuild.binaries() / "helm", "--kubeconfig", layout.KUBECONFIG, *words], env=env).stdout
