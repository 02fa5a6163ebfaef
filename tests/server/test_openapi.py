"""The OpenAPI description: of every route, and true of every answer that generated requests get."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from jsonschema import Draft202012Validator
from server.conftest import Served

from semroute.server.admin import Administration
from semroute.server.app import Gateway, GatewayLimits, routes_of
from semroute.server.keys import RIGHTS, KeyRing, create_key
from semroute.server.openapi import describe_api
from semroute.server.operation import GatewayState
from semroute.server.records import ROUTES
from semroute.server.sessions import Sessions
from semroute.testing import answer

schemathesis = pytest.importorskip("schemathesis", reason='needs the extra "test"')

OPERATIONS = [(path, method) for path, item in describe_api()["paths"].items() for method in item]
GENERATED = [
    pytest.param(path, method, mode, id=f"{mode} {method} {path}")
    for path, method in OPERATIONS
    for mode in ("plain", "positive", "negative")
    if mode == "positive" or {"requestBody", "parameters"} & describe_api()["paths"][path][method].keys()
]
"""Operations, and what is generated: what fits the description (plain: without further fields, and with a model that is
there), or what does not; without a body or a query there is nothing to vary."""
ANSWERED = {"/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/route", "/v1/messages/count_tokens"}
EXAMPLES = 30
"""Generated requests of each operation and kind."""


def test_every_route_of_the_application_is_described_and_every_described_one_is_there(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    async def nothing() -> Any: ...

    router, ring = serve().router, KeyRing(tmp_path / "keys.json")
    gateway = Gateway(router, ring, Sessions(1.0), 1.0, GatewayLimits(), GatewayState(), nothing)
    routes = routes_of(gateway, Administration(router, ring, nothing))
    found = {(path, method.lower()) for path, handlers in routes.items() for method in handlers}
    assert found == set(OPERATIONS)
    assert {path for path, _ in OPERATIONS} == ROUTES


def test_every_reference_has_its_schema_and_every_schema_is_one() -> None:
    schemas = describe_api()["components"]["schemas"]
    text = json.dumps(describe_api())
    assert {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]} == set(schemas)
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    ids = [operation["operationId"] for item in describe_api()["paths"].values() for operation in item.values()]
    assert len(set(ids)) == len(ids)


@pytest.mark.slow
def test_the_description_wants_a_key_where_keys_are_used(serve: Callable[..., Served], tmp_path: Path) -> None:
    served = serve()
    assert httpx.get(f"{served.url}/openapi.json").json() == describe_api()
    _, secret = create_key(tmp_path / "keys.json", "any")
    assert httpx.get(f"{served.url}/openapi.json").status_code == 401
    assert httpx.get(f"{served.url}/openapi.json", headers={"x-api-key": secret}).json() == describe_api()


@pytest.mark.slow
def test_another_method_is_refused_with_the_described_ones(serve: Callable[..., Served]) -> None:
    served = serve()
    for path, item in describe_api()["paths"].items():
        refused = httpx.request("DELETE", f"{served.url}{path}")
        assert refused.status_code == 405
        methods = {method.upper() for method in item}
        assert set(refused.headers["allow"].split(", ")) - {"HEAD"} == methods
        assert ("HEAD" in refused.headers["allow"]) == ("GET" in methods)
        assert "message" in refused.json()["error"]
    assert "allow" not in httpx.get(f"{served.url}/v1/unknown").headers


def closed(schema: Any) -> Any:
    """Return a description whose objects have no further fields, and whose only model is one that is there."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: closed(value) for name, value in schema.items()}
    if isinstance(properties := found.get("properties"), dict) and schema.get("type") == "object":
        found["additionalProperties"] = False
        if "model" in properties:
            properties["model"] = {"const": "auto"}
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("path", "method", "mode"), GENERATED)
def test_generated_requests_get_described_answers(
    serve: Callable[..., Served], tmp_path: Path, path: str, method: str, mode: str
) -> None:
    checks = [
        schemathesis.checks.not_a_server_error,
        schemathesis.checks.status_code_conformance,
        schemathesis.checks.content_type_conformance,
        schemathesis.checks.response_schema_conformance,
    ]
    served = serve()
    served.provider.always(answer("fine"))  # its echo of an empty message would be a provider's failure
    _, secret = create_key(tmp_path / "keys.json", "all", rights=RIGHTS)
    asked = json.loads(json.dumps(describe_api()))
    if mode == "plain":
        schemas = asked["components"]["schemas"]
        schemas |= {name: closed(schema) for name, schema in schemas.items() if name.endswith("Request")}
        schemas["ContentBlock"] = closed(schemas["ContentBlock"]["anyOf"][0])  # text; few providers have other types
    operation = schemathesis.openapi.from_dict(asked)[path][method.upper()]
    kind = schemathesis.GenerationMode("negative" if mode == "negative" else "positive")
    strategy, statuses = operation.as_strategy(generation_mode=kind), set[int]()

    @settings(max_examples=EXAMPLES, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def check(case: Any) -> None:
        headers = {"authorization": f"Bearer {secret}"}
        statuses.add(case.call_and_validate(base_url=served.url, headers=headers, checks=checks).status_code)

    check()
    assert mode != "plain" or path not in ANSWERED or 200 in statuses, "none was answered"
