"""Webhooks against a real HTTP server of this machine: what is sent, and what each kind of refusal becomes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from modelrollout.adapters.webhooks import HttpWebhooks
from modelrollout.ports import DeniedError, PortError, RejectedError, TransientError
from modelrollout.settings import Webhook

BODY = {"name": "digits", "drift": []}


class Pipeline:
    """Answers as it is told, and remembers what it was sent."""

    def __init__(self, status: int = 202, text: str = "queued", hangs: bool = False) -> None:
        self.status, self.text, self.hangs = status, text, hangs
        self.seen: list[tuple[str, str | None, Any]] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.seen.append((request.path_qs, request.headers.get("Authorization"), await request.json()))
        if self.hangs:
            await asyncio.sleep(60)
        headers = {"Location": "/elsewhere"} if 300 <= self.status < 400 else {}
        return web.Response(status=self.status, text=self.text, headers=headers)


async def called(pipeline: Pipeline, token: Path | None = None, name: str = "retraining") -> str:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", pipeline.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.05)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    timeout = "300ms" if pipeline.hangs else "30s"
    webhook = Webhook.model_validate(
        {"url": f"http://127.0.0.1:{port}/runs?model=1", "timeout": timeout, "bearer_token_file": token}
    )
    webhooks = HttpWebhooks({"retraining": webhook})
    try:
        return await webhooks.call(name, BODY)
    finally:
        await webhooks.close()
        await runner.shutdown()
        await runner.cleanup()


def test_the_body_and_the_token_are_sent_once(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    pipeline = Pipeline()
    assert asyncio.run(called(pipeline, token)) == "HTTP 202 queued"
    assert pipeline.seen == [("/runs?model=1", "Bearer s3cret", BODY)]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, DeniedError),
        (403, DeniedError),
        (404, RejectedError),
        (302, RejectedError),
        (429, TransientError),
        (500, TransientError),
    ],
)
def test_what_is_no_success_is_an_error_of_its_kind(status: int, kind: type[PortError]) -> None:
    pipeline = Pipeline(status, "no\n" + "x" * 5000)
    with pytest.raises(kind, match=f"webhook retraining answered HTTP {status} no") as raised:
        asyncio.run(called(pipeline))
    assert len(str(raised.value)) < 200
    assert len(pipeline.seen) == 1, "redirects are not followed, nothing is sent twice"


def test_silence_is_given_up() -> None:
    with pytest.raises(TransientError, match=r"did not answer within 0\.3 s"):
        asyncio.run(called(Pipeline(hangs=True)))


def test_nobody_there_is_told_without_the_address() -> None:
    webhooks = HttpWebhooks({"retraining": Webhook(url="http://127.0.0.1:1/hidden")})

    async def main() -> None:
        try:
            await webhooks.call("retraining", BODY)
        finally:
            await webhooks.close()

    with pytest.raises(TransientError, match="could not be reached") as raised:
        asyncio.run(main())
    assert "hidden" not in str(raised.value)


def test_a_token_that_cannot_be_read_is_not_left_out(tmp_path: Path) -> None:
    pipeline = Pipeline()
    with pytest.raises(DeniedError, match="bearerTokenFile"):
        asyncio.run(called(pipeline, tmp_path / "nowhere"))
    assert pipeline.seen == []


def test_a_name_that_is_not_known() -> None:
    with pytest.raises(RejectedError, match="no webhook 'other'"):
        asyncio.run(called(Pipeline(), name="other"))
