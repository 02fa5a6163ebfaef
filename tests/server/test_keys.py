"""Virtual keys: what they allow, what they cost, and how they are stored."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from server.conftest import Served

from semroute.errors import InputError
from semroute.server.affinity import SessionTurn
from semroute.server.keys import KeyRing, create_key, read_keys, revoke_key
from semroute.testing import answer
from semroute.testing.replies import Reply

COMPLETION = b'{"choices": [{"index": 0, "message": {"content": "Soup."}, "finish_reason": "stop"}]}'
SOUP: Any = [{"role": "user", "content": "recipe for carrot soup"}]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_a_key_is_found_by_its_secret_alone_until_it_is_revoked(path: Path) -> None:
    key, secret = create_key(path, "team", rpm=5)
    ring = KeyRing(path)
    assert ring.find(secret) == key
    for wrong in (
        None,
        "",
        "any",
        secret[:-1] + "x" if secret[-1] != "x" else secret[:-1] + "y",
        f"sr-{key.id}-",
        key.id,
    ):
        assert ring.find(wrong) is None
    revoke_key(path, "team")
    assert ring.find(secret) is None
    assert not ring.is_empty


def test_neither_the_file_nor_a_repr_has_the_secret(path: Path) -> None:
    key, secret = create_key(path, "team")
    hidden = secret.split("-", 2)[2]
    assert hidden not in path.read_text()
    assert hidden not in repr(key)
    assert key.digest not in repr(key)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not the keys"), ("[]", "not the keys"), ('{"keys": [{"id": "x"}]}', "id"), ('{"keys": 3}', "not the keys")],
)
def test_a_damaged_file_is_named_and_lets_nobody_in(path: Path, text: str, message: str) -> None:
    path.write_text(text)
    with pytest.raises(InputError, match=message) as refused:
        KeyRing(path).find("sr-00000000-x")
    assert str(path) in str(refused.value)


def test_names_are_unique_and_an_unknown_one_is_answered_with_the_nearest(path: Path) -> None:
    create_key(path, "team")
    with pytest.raises(InputError, match="there is a key 'team' already"):
        create_key(path, "team")
    with pytest.raises(InputError, match="team"):
        revoke_key(path, "teem")
    with pytest.raises(InputError, match="rpm"):
        create_key(path, "other", rpm=0)
    assert [key.name for key in read_keys(path)] == ["team"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "route"),
    [
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/responses"),
        ("POST", "/v1/messages"),
        ("POST", "/v1/messages/count_tokens"),
        ("POST", "/v1/route"),
        ("POST", "/v1/feedback"),
        ("GET", "/v1/models"),
    ],
)
def test_every_route_wants_a_key_once_there_is_one(
    serve: Callable[..., Served], path: Path, method: str, route: str
) -> None:
    served = serve()
    _, secret = create_key(path, "team")
    for headers in ({}, {"authorization": "Bearer wrong"}, {"x-api-key": secret + "x"}):
        refused = httpx.request(method, f"{served.url}{route}", headers=headers)
        assert refused.status_code == 401
        assert secret not in refused.text
    for headers in ({"authorization": f"Bearer {secret}"}, {"x-api-key": secret}):
        assert httpx.request(method, f"{served.url}{route}", headers=headers).status_code != 401
    assert httpx.get(f"{served.url}/healthz").status_code == 200


def client_of(served: Served, secret: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key=secret, max_retries=0)


@pytest.mark.slow
def test_a_key_is_held_to_its_models_its_rate_and_its_budget(serve: Callable[..., Served], path: Path) -> None:
    served = serve()
    _, small = create_key(path, "small only", models=["small"])
    with client_of(served, small) as client:
        client.chat.completions.create(model="small", messages=SOUP)
        with pytest.raises(openai.PermissionDeniedError, match="may not use"):
            client.chat.completions.create(model="large", messages=SOUP)
    _, twice = create_key(path, "twice", rpm=2)
    with client_of(served, twice) as client:
        for _ in range(2):
            client.chat.completions.create(model="auto", messages=SOUP)
        with pytest.raises(openai.RateLimitError) as refused:
            client.chat.completions.create(model="auto", messages=SOUP)
        assert int(refused.value.response.headers["retry-after"]) >= 1
    _, poor = create_key(path, "poor", budget_usd=0.001)
    served.provider.always(answer("soup", input_tokens=1000, output_tokens=10))
    with client_of(served, poor) as client:
        list(client.chat.completions.create(model="small", messages=SOUP, stream=True))
        with pytest.raises(openai.RateLimitError, match="poor"):
            client.chat.completions.create(model="small", messages=SOUP)


@pytest.mark.slow
def test_a_call_beyond_a_limit_reads_no_session(
    serve: Callable[..., Served], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, once = create_key(path, "once", rpm=1)
    served, read, begin = serve(), list[SessionTurn](), SessionTurn.begin

    async def noting(turn: SessionTurn) -> None:
        read.append(turn)
        await begin(turn)

    monkeypatch.setattr(SessionTurn, "begin", noting)
    headers = {"authorization": f"Bearer {once}"}
    body = {"model": "small", "messages": SOUP}
    answers = [httpx.post(f"{served.url}/v1/chat/completions", json=body, headers=headers) for _ in range(3)]
    assert [one.status_code for one in answers] == [200, 429, 429]
    assert len(read) == 1


@pytest.mark.slow
def test_the_keys_metadata_decides_by_rules_and_stands_in_the_log(serve: Callable[..., Served], path: Path) -> None:
    rules = [{"name": "free", "when": {"metadata": {"plan": ["free"]}}, "use": ["small"]}]
    served = serve(rules=rules)
    _, secret = create_key(path, "free users", metadata={"plan": "free"})
    with client_of(served, secret) as client:
        answered = client.chat.completions.create(
            model="auto", messages=[{"role": "user", "content": "why does my loop never end"}]
        )
    assert answered.model == "small"
    served.router.close()
    (outcome,) = served.router._log.outcomes()  # type: ignore[union-attr]
    (key,) = read_keys(path)
    assert dict(outcome.metadata) == {"plan": "free", "key": "free users", "key_id": key.id}


def test_the_command_prints_a_key_once_and_lists_it_without_its_secret(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from semroute.cli.main import main

    assert main(["keys", "create", "team", "--file", str(path), "--rpm", "9", "--meta", "plan=free"]) == 0
    secret = capsys.readouterr().out.strip()
    assert KeyRing(path).find(secret) is not None
    assert main(["keys", "list", "--file", str(path)]) == 0
    listed = capsys.readouterr().out
    assert "team" in listed
    assert secret.split("-", 2)[2] not in listed
    assert main(["keys", "revoke", "team", "--file", str(path)]) == 0
    assert main(["keys", "create", "x", "--file", str(path), "--meta", "plan"]) == 2
    assert json.loads(path.read_text())["keys"][0]["revoked"] is True


@pytest.mark.slow
@pytest.mark.parametrize(("models", "status"), [((), 200), (("small",), 403)])
def test_a_key_for_certain_models_names_no_other_by_a_field_of_the_body(
    serve: Callable[..., Served], path: Path, models: tuple[str, ...], status: int
) -> None:
    _, secret = create_key(path, "team", models=models)
    served = serve()
    served.provider.always(Reply(body=COMPLETION))
    body = {"model": "small", "messages": SOUP, "models": ["dear"]}
    answered = httpx.post(f"{served.url}/v1/chat/completions", json=body, headers={"authorization": f"Bearer {secret}"})
    assert answered.status_code == status
    if models:
        assert "leave out models" in answered.json()["error"]["message"]
    assert len(served.provider.requests) == (status == 200)
