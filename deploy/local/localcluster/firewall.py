"""Remove the cluster's firewall rules and nobody else's: chains KUBE-*, and rules with our mark."""

import shlex

from localcluster import before
from localcluster.settings import MARK
from localcluster.shell import run

_FAMILIES = {"ip": "iptables", "ip6": "ip6tables"}


def _ours(line: str) -> bool:
    words = shlex.split(line)
    return any(word.startswith("KUBE-") for word in words) or (
        "--comment" in words and words[words.index("--comment") + 1] == MARK
    )


def _script(saved: str) -> tuple[str, int]:
    """Turn what `iptables-save` says into the input of `iptables-restore --noflush` that removes our part."""
    out: list[str] = []
    count = 0
    chains: list[str] = []
    for line in saved.splitlines():
        if line.startswith("*"):
            out.append(line)
            chains = []
        elif line.startswith(":KUBE-"):
            name = line[1:].split()[0]
            chains.append(name)
            out.append(f":{name} - [0:0]")
            count += 1
        elif line.startswith("-A ") and not line.startswith("-A KUBE-") and _ours(line):
            out.append(f"-D {line[3:]}")
            count += 1
        elif line == "COMMIT":
            out += [f"-X {name}" for name in chains]
            out.append(line)
    return "\n".join(out) + "\n", count


def remove() -> int:
    """Remove our rules and chains, then tables that were not there before and are empty now."""
    removed = 0
    for family, program in _FAMILIES.items():
        script, count = _script(run([f"{program}-save"], check=False).stdout)
        if count:
            run([f"{program}-restore", "--noflush", "-w"], stdin=script)
        removed += count
        for table in set(before.tables()) - set(before.recorded()["tables"]):
            if table.split()[0] == family and "\t\t" not in _bare(table):
                run(["nft", "delete", "table", *table.split()], check=False)
    return removed


def _bare(table: str) -> str:
    """Return a table's text without the headers of its chains: what is left at that depth are rules."""
    said = run(["nft", "list", "table", *table.split()], check=False).stdout
    return "\n".join(line for line in said.splitlines() if not line.strip().startswith("type "))
