"""Where guards come from, in words."""

from __future__ import annotations

from modelrollout.evidence.policies import OWN, Origin


def origin_words(origin: Origin) -> str:
    """Whose a guard is; empty for one of the ModelDeployment's own with which no policy has to do."""
    words = _whose(origin)
    if origin.definer in ("", origin.source):
        return words
    return f"{words or 'its own'}; its SLI as {origin.definer} defines it"


def _whose(origin: Origin) -> str:
    instead = f"instead of that of {' and '.join(origin.instead_of)}" if origin.instead_of else ""
    if origin.source == OWN:
        return f"its own, {instead}" if instead else ""
    whose = f"of {origin.source}{' by its selector' if origin.selected else ''}"
    return f"{whose}, {instead}" if instead else whose
