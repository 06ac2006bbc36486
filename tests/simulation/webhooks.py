"""A pipeline behind a webhook: slow, and it remembers who called."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modelrollout.ports import TransientError


@dataclass
class WebhookModel:
    """``ports.Webhooks``."""

    calls: list[Mapping[str, Any]] = field(default_factory=list)
    fails: bool = False

    async def call(self, name: str, body: Mapping[str, Any]) -> str:
        self.calls.append({"webhook": name, **body})
        await asyncio.sleep(0.2)
        if self.fails:
            raise TransientError(f"webhook {name} did not answer within 10 s")
        return "HTTP 202"
