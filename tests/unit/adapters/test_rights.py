"""What a login may watch, asked of a server that answers like the API server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.unit.adapters.test_apiserver import kubeconfig, serving

from modelrollout.adapters.apiserver import ApiServer
from modelrollout.adapters.login import Login
from modelrollout.adapters.rights import may_watch
from modelrollout.ports import TransientError


def asked(tmp_path: Path, answer: Any, namespaces: tuple[str | None, ...] = (None,)) -> tuple[bool, list[Any]]:
    """Whether it may, and the attributes of what was asked."""
    seen: list[Any] = []

    async def handle(request: web.Request) -> web.Response:
        attributes = (await request.json())["spec"]["resourceAttributes"]
        seen.append(attributes)
        given = answer(attributes) if callable(answer) else answer
        return given if isinstance(given, web.Response) else web.json_response(given, status=201)

    async def main() -> bool:
        async with serving(handle) as url:
            server = ApiServer(Login(kubeconfig(tmp_path, url)))
            try:
                return await may_watch(server, "modelrollout.io", "rolloutpolicies", namespaces)
            finally:
                await server.close()

    return asyncio.run(main()), seen


def said(allowed: bool) -> Any:
    return {"kind": "SelfSubjectAccessReview", "status": {"allowed": allowed}}


def test_list_and_watch_are_asked_for_in_each_namespace(tmp_path: Path) -> None:
    allowed, seen = asked(tmp_path, said(True), ("a", "b"))
    assert allowed
    assert {(each["namespace"], each["verb"]) for each in seen} == {
        (namespace, verb) for namespace in "ab" for verb in ("list", "watch")
    }
    assert all((each["group"], each["resource"]) == ("modelrollout.io", "rolloutpolicies") for each in seen)


def test_one_that_is_missing_is_enough_to_go_without(tmp_path: Path) -> None:
    assert not asked(tmp_path, lambda each: said(each["verb"] == "list"))[0]
    assert not asked(tmp_path, lambda each: said(each["namespace"] == "a"), ("a", "b"))[0]
    assert "namespace" not in asked(tmp_path, said(True))[1][0]


@pytest.mark.parametrize("answer", [{}, {"status": None}, {"status": {}}], ids=str)
def test_a_server_that_does_not_say_is_no_refusal(tmp_path: Path, answer: Any) -> None:
    assert asked(tmp_path, answer)[0]


def test_a_server_that_lets_nobody_ask_is_no_refusal(tmp_path: Path) -> None:
    assert asked(tmp_path, lambda _: web.json_response({"kind": "Status", "message": "no"}, status=403))[0]


def test_a_server_that_is_down_is_asked_again_by_whoever_asked(tmp_path: Path) -> None:
    with pytest.raises(TransientError):
        asked(tmp_path, lambda _: web.Response(status=503))
