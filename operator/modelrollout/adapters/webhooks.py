"""``ports.Webhooks``: one POST with a JSON body; what it says is cut to a few words, its address is never told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from modelrollout.api.base import clean
from modelrollout.ports import DeniedError, PortError, RejectedError, TransientError
from modelrollout.settings import Webhook

LONGEST_ANSWER = 4096
"""Bytes of an answer that are read."""
LONGEST_WORDS = 120


class HttpWebhooks:
    """Calls the webhooks of the settings; addresses come from there, never from a user."""

    def __init__(self, webhooks: Mapping[str, Webhook]) -> None:
        self._webhooks = webhooks
        self._session: aiohttp.ClientSession | None = None

    async def call(self, name: str, body: Mapping[str, Any]) -> str:
        """POST ``body`` once, following no redirect; returns the status and a few words of the answer.

        Raises TransientError (no answer, 429, 5xx), DeniedError (401, 403, a token that cannot be read) and
        RejectedError (any other answer than 2xx, a name that is not known).
        """
        webhook = self._webhooks.get(name)
        if webhook is None:
            raise RejectedError(f"the settings have no webhook {name!r}")
        headers = _credentials(name, webhook.bearer_token_file)
        timeout = aiohttp.ClientTimeout(total=webhook.timeout.total_seconds())
        session = self._opened()
        try:
            async with session.post(
                webhook.url, json=dict(body), headers=headers, timeout=timeout, allow_redirects=False
            ) as answer:
                status = answer.status
                words = (await answer.content.read(LONGEST_ANSWER)).decode("utf-8", "replace")
        except TimeoutError:
            raise TransientError(
                f"webhook {name} did not answer within {webhook.timeout.total_seconds():g} s"
            ) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # The text of some of these errors has the address in it.
            raise TransientError(f"webhook {name} could not be reached ({type(error).__name__})") from None
        said = clean(f"HTTP {status} {clean(words, LONGEST_WORDS)}", LONGEST_WORDS + 12)
        if 200 <= status < 300:
            return said
        raise _refusal(status)(f"webhook {name} answered {said}")

    async def close(self) -> None:
        """Let go of the session; a later call opens a new one."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            # No cookies: what one webhook sets is nobody's business in the next call.
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        return self._session


def _refusal(status: int) -> type[PortError]:
    if status in (401, 403):
        return DeniedError
    return TransientError if status == 429 or status >= 500 else RejectedError


def _credentials(name: str, path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    try:
        token = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DeniedError(f"the bearerTokenFile of webhook {name} cannot be read ({type(error).__name__})") from None
    if not token.isprintable() or not token:
        raise DeniedError(f"the bearerTokenFile of webhook {name} has no token in its only line")
    return {"Authorization": f"Bearer {token}"}
