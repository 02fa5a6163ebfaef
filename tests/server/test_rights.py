"""Rights of keys: what is apart for each, who may administer the gateway, and what the audit log keeps of it."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from server.conftest import Served
from server.test_connections import soon
from server.test_reload import Reloading, reloading

from semroute.cli.main import main
from semroute.errors import StateError
from semroute.server.audit import AuditEvent, AuditLog
from semroute.server.keys import USUAL_RIGHTS, create_key, disable_key, read_keys
from semroute.testing import answer, fail

__all__ = ["reloading"]

SOUP: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "recipe for carrot soup"}]}
LOOP: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "why does my loop never end"}]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


class Caller:
    """Client of one key."""

    def __init__(self, served: Served | Reloading, path: Path, name: str, *rights: Any, **limits: Any) -> None:
        self.key, self.secret = create_key(path, name, rights=rights or USUAL_RIGHTS, **limits)
        self._url, self._headers = served.url, {"authorization": f"Bearer {self.secret}"}

    def __call__(self, method: str, route: str, body: Any = None) -> httpx.Response:
        sent = {} if body is None else {"json": body}
        return httpx.request(method, f"{self._url}{route}", headers=self._headers, **sent)


def events(path: Path) -> list[dict[str, Any]]:
    """Return the audit log beside the keys, whose chain must hold."""
    log = AuditLog.of_keys(path)
    assert log.verify().problem is None
    return [dict(event) for event in log.events()]


@pytest.mark.slow
def test_a_stranger_s_answer_is_answered_like_one_that_does_not_exist(serve: Callable[..., Served], path: Path) -> None:
    served = serve()
    mine, theirs = Caller(served, path, "mine"), Caller(served, path, "theirs")
    outcome = mine("POST", "/v1/chat/completions", SOUP).headers["x-semroute-outcome-id"]
    unknown = outcome[:-4] + ("0000" if outcome[-4:] != "0000" else "1111")
    refused = theirs("POST", "/v1/feedback", {"outcome_id": outcome, "quality": 0.0})
    missing = theirs("POST", "/v1/feedback", {"outcome_id": unknown, "quality": 0.0})
    assert refused.status_code == missing.status_code == 400
    assert refused.text.replace(outcome, "*") == missing.text.replace(unknown, "*")
    for beginning in ("last", outcome[:20], outcome[:2], "%"):
        assert mine("POST", "/v1/feedback", {"outcome_id": beginning, "quality": 1.0}).status_code == 400
    assert mine("POST", "/v1/feedback", {"outcome_id": outcome, "quality": 0.75}).status_code == 200
    served.router.close()
    assert [one.feedback for one in served.router.log.outcomes()] == [0.75]  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_name_that_is_given_again_does_not_take_over_the_answers(serve: Callable[..., Served], path: Path) -> None:
    served = serve()
    outcome = Caller(served, path, "team")("POST", "/v1/chat/completions", SOUP).headers["x-semroute-outcome-id"]
    assert main(["keys", "revoke", "team", "--file", str(path)]) == 0
    again = Caller(served, path, "team")
    assert again("POST", "/v1/feedback", {"outcome_id": outcome, "quality": 0.0}).status_code == 400


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "route", "right"),
    [
        ("POST", "/v1/chat/completions", "call"),
        ("POST", "/v1/responses", "call"),
        ("POST", "/v1/messages", "call"),
        ("POST", "/v1/messages/count_tokens", "call"),
        ("POST", "/v1/route", "call"),
        ("POST", "/v1/feedback", "feedback"),
        ("GET", "/metrics", "metrics"),
        ("GET", "/v1/keys", "keys"),
        ("POST", "/v1/keys/disable", "keys"),
        ("POST", "/v1/keys/enable", "keys"),
        ("POST", "/v1/reload", "reload"),
        ("GET", "/v1/trial", "trial"),
        ("PUT", "/v1/trial", "trial"),
        ("GET", "/v1/export", "export"),
    ],
)
def test_each_route_is_refused_without_its_right_and_says_which(
    serve: Callable[..., Served], path: Path, method: str, route: str, right: str
) -> None:
    served = serve()
    others = [one for one in ("call", "feedback", "metrics", "keys", "trial", "reload", "export") if one != right]
    without, able = Caller(served, path, "without", *others), Caller(served, path, "able", right)
    refused = without(method, route)
    assert refused.status_code == 403
    assert f"'without' has not the right '{right}'" in refused.text
    assert able(method, route).status_code not in (401, 403)
    assert httpx.request(method, f"{served.url}{route}").status_code == 401
    if right not in USUAL_RIGHTS:
        (denied,) = [event for event in events(path) if not event["allowed"]]
        assert denied["who"] == {"key": "without", "id": without.key.id}
        assert denied["from"] == "127.0.0.1"
        assert denied["request_id"] == refused.headers["x-request-id"]
        assert without.secret not in json.dumps(events(path))


@pytest.mark.slow
@pytest.mark.parametrize("route", ["/v1/keys", "/v1/trial", "/v1/export"])
def test_without_keys_nobody_administers(serve: Callable[..., Served], path: Path, route: str) -> None:
    refused = httpx.get(f"{serve().url}{route}")
    assert refused.status_code == 403
    assert "no keys are used here" in refused.text


@pytest.mark.slow
def test_a_key_is_disabled_and_enabled_over_http_and_listed_without_a_secret(
    serve: Callable[..., Served], path: Path
) -> None:
    served = serve()
    admin, team = Caller(served, path, "admin", "keys"), Caller(served, path, "team", budget_usd=5.0)
    usd = float(team("POST", "/v1/chat/completions", {**SOUP, "model": "small"}).headers["x-semroute-cost-usd"])
    assert admin("POST", "/v1/keys/disable", {"key": "team"}).json()["state"] == "disabled"
    assert team("POST", "/v1/chat/completions", SOUP).status_code == 401
    listed = admin("GET", "/v1/keys")
    rows = {row["name"]: row for row in listed.json()["keys"]}
    assert rows["team"]["spent_usd"] == pytest.approx(usd)
    assert rows["team"]["state"] == "disabled"
    assert rows["admin"]["rights"] == ["keys"]
    for key, secret in ((admin.key, admin.secret), (team.key, team.secret)):
        assert key.digest not in listed.text
        assert secret not in listed.text
    assert admin("POST", "/v1/keys/enable", {"key": team.key.id}).status_code == 200
    assert team("POST", "/v1/chat/completions", SOUP).status_code == 200
    assert admin("POST", "/v1/keys/disable", {"key": "teem"}).status_code == 400
    assert admin("POST", "/v1/keys/disable", {}).status_code == 400
    done = [(event["action"], event["details"]["key"], event.get("failed")) for event in events(path)]
    assert done == [
        ("keys.disable", "team", None),
        ("keys.enable", team.key.id, None),
        ("keys.disable", "teem", None),
        ("keys.disable", "teem", "InputError"),
    ]


@pytest.mark.slow
def test_nothing_is_done_where_the_audit_log_cannot_be_written(serve: Callable[..., Served], path: Path) -> None:
    served = serve()
    admin, _ = Caller(served, path, "admin", "keys"), Caller(served, path, "team")
    AuditLog.of_keys(path).path.mkdir()
    refused = admin("POST", "/v1/keys/disable", {"key": "team"})
    assert refused.status_code == 500
    assert {key.state for key in read_keys(path)} == {"active"}


@pytest.mark.slow
def test_a_reload_over_http_takes_the_new_files_or_says_that_it_cannot(
    reloading: Callable[..., Reloading], tmp_path: Path
) -> None:
    served, path = reloading(), tmp_path / "keys.json"
    admin = Caller(served, path, "admin", "reload", "call")
    assert admin("POST", "/v1/reload").json() == {"reloaded": True}
    served.config.write_text("deployments: 3\n")
    refused = admin("POST", "/v1/reload")
    assert refused.status_code == 400
    assert "the old ones go on serving" in refused.text
    assert admin("GET", "/v1/models").status_code == 200
    assert [(event["action"], event.get("failed")) for event in events(path)] == [
        ("reload", None),
        ("reload", None),
        ("reload", "InputError"),
    ]


@pytest.mark.slow
def test_the_share_of_a_trial_is_set_over_http(serve: Callable[..., Served], path: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("fallback: {models: [large]}\n")
    served = serve(trial={"policy": str(policy), "state": str(tmp_path / "trial.json")})
    admin = Caller(served, path, "admin", "trial")
    assert admin("GET", "/v1/trial").json() == {"policy": "policy.yaml", "share": 0.0}
    assert admin("PUT", "/v1/trial", {"share": 0.25}).json() == {"policy": "policy.yaml", "share": 0.25}
    assert admin("GET", "/v1/trial").json()["share"] == 0.25
    for wrong in (2, "all", True, None):
        assert admin("PUT", "/v1/trial", {"share": wrong}).status_code == 400
    assert events(path)[0]["details"] == {"share": 0.25}


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
def test_live_answers_are_compared_behind_the_requests_and_the_card_is_shown(
    serve: Callable[..., Served], path: Path, tmp_path: Path, streaming: bool
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("strategies: [rules]\nfallback: {models: [large]}\n")
    trial = {"policy": str(policy), "state": str(tmp_path / "trial.json"), "judge": "coder", "max_usd": 1.0}
    served = serve(trial=trial)
    texts = {"large": "Roast the carrots first.", "small": "Boil the carrots."}
    served.provider.always(lambda asked: answer(texts.get(asked.body["model"], "tie")))
    team, admin = Caller(served, path, "team"), Caller(served, path, "admin", "trial")
    answered = team("POST", "/v1/chat/completions", {**SOUP, "stream": streaming})
    assert answered.status_code == 200
    assert soon(lambda: admin("GET", "/v1/trial").json()["compared"]["tied"] == 1)
    card = admin("GET", "/v1/trial").json()["compared"]
    assert (card["won"], card["lost"], card["failed"], card["max_usd"]) == (0, 0, 0, 1.0)
    assert card["usd"] > 0
    assert "no worse in 100.0%" in card["sentence"]
    assert [one.body["model"] for one in served.provider.requests] == ["small", "large", "coder"]


@pytest.mark.slow
def test_an_export_is_bounded_resumed_and_without_a_provider_s_words(serve: Callable[..., Served], path: Path) -> None:
    served = serve(retries={"attempts": 1})
    team, admin = Caller(served, path, "team"), Caller(served, path, "admin", "export")
    for _ in range(3):
        assert team("POST", "/v1/chat/completions", SOUP).status_code == 200
    served.provider.always(fail(400, message="not with MY-SECRET-WORDS"))
    own = team("POST", "/v1/chat/completions", {**SOUP, "model": "small"})
    assert "MY-SECRET-WORDS" in own.text
    served.router.log.flush()  # type: ignore[union-attr]
    first = admin("GET", "/v1/export?limit=2")
    assert first.headers["content-type"] == "application/x-ndjson"
    rows = [json.loads(line) for line in first.text.splitlines()]
    assert len(rows) == 2
    rest = admin("GET", f"/v1/export?since={rows[-1]['at'].replace('+', '%2B')}")
    later = [json.loads(line) for line in rest.text.splitlines()]
    assert len({row["id"] for row in rows + later}) == 4
    assert later[-1]["error_kind"] == "RequestError"
    assert "MY-SECRET-WORDS" not in rest.text
    assert {row["metadata"]["key"] for row in later} == {"team"}
    for wrong in ("limit=0", "limit=x", "limit=100001", "since=yesterday"):
        assert admin("GET", f"/v1/export?{wrong}").status_code == 400
    assert [event["action"] for event in events(path)] == ["export", "export"]


@pytest.mark.slow
def test_the_report_has_the_spending_of_each_key_and_the_log_its_name(
    serve: Callable[..., Served], path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served = serve()
    usd: dict[str, float] = {}
    for name, count in (("busy", 3), ("calm", 1)):
        caller = Caller(served, path, name)
        answered = [caller("POST", "/v1/chat/completions", SOUP) for _ in range(count)]
        usd[f"{name} ({caller.key.id})"] = sum(float(one.headers["x-semroute-cost-usd"]) for one in answered)
    served.router.close()
    log = f"sqlite:///{tmp_path}/log.db"
    assert main(["report", "--log", log, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["keys"]
    assert {row["name"]: row["spent"]["usd"] for row in rows} == pytest.approx(usd)
    assert [row["queries"] for row in rows] == [3, 1]
    assert main(["report", "--log", log, "--html", str(tmp_path / "report.html")]) == 0
    assert "<h3>By key</h3>" in (tmp_path / "report.html").read_text()
    assert "busy (" in capsys.readouterr().out
    assert main(["log", "tail", "--log", log]) == 0
    assert capsys.readouterr().out.count("busy") == 3


@pytest.mark.slow
def test_what_a_provider_said_is_read_by_its_caller_and_stands_in_no_log_of_all(
    serve: Callable[..., Served], path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("strategies: [judge]\njudge: {model: large}\n")
    served = serve(retries={"attempts": 1}, trial={"policy": str(policy), "state": str(tmp_path / "trial.json")})
    served.provider.always(fail(400, message="not with MY-SECRET-WORDS"))
    refused = Caller(served, path, "team")("POST", "/v1/chat/completions", {**SOUP, "model": "small"})
    assert "MY-SECRET-WORDS" in refused.text
    Caller(served, path, "other")("POST", "/v1/chat/completions", SOUP)
    assert "MY-SECRET-WORDS" not in caplog.text


@pytest.mark.slow
def test_the_decision_alone_is_made_by_the_keys_metadata_models_and_rate(
    serve: Callable[..., Served], path: Path
) -> None:
    served = serve(rules=[{"name": "free", "when": {"metadata": {"plan": ["free"]}}, "use": ["small"]}])
    free = Caller(served, path, "free", metadata={"plan": "free"}, rpm=2)
    assert free("POST", "/v1/route", LOOP).json()["strategy"] == "rules"
    assert free("POST", "/v1/route", {"query": "why does my loop never end"}).json()["strategy"] == "rules"
    assert free("POST", "/v1/route", LOOP).status_code == 429
    bound = Caller(served, path, "bound", models=["small"])
    assert bound("POST", "/v1/route", LOOP).status_code == 403


@pytest.mark.slow
@pytest.mark.parametrize("route", ["/v1/chat/completions", "/v1/responses", "/v1/messages"])
@pytest.mark.parametrize("format", ["openai", "anthropic"])
def test_the_keys_metadata_decides_on_every_route_and_in_both_lanes(
    serve: Callable[..., Served], path: Path, route: str, format: str
) -> None:
    served = serve(format, rules=[{"name": "free", "when": {"metadata": {"plan": ["free"]}}, "use": ["small"]}])
    free = Caller(served, path, "free", metadata={"plan": "free"})
    text = "why does my loop never end"
    messages = [{"role": "user", "content": text}]
    bodies: dict[str, dict[str, Any]] = {
        "/v1/chat/completions": {"messages": messages, "metadata": {"plan": "paid"}},
        "/v1/responses": {"input": text, "metadata": {"plan": "paid"}},
        "/v1/messages": {"messages": messages, "metadata": {"user_id": "paid"}, "max_tokens": 50},
    }
    body = {"model": "auto", **bodies[route]}
    answered = free("POST", route, body)
    assert answered.status_code == 200, answered.text
    assert answered.headers["x-semroute-strategy"] == "rules"
    assert answered.headers["x-semroute-model"] == "small"


def test_the_audit_log_is_for_its_owner_alone_and_shows_a_line_that_was_changed(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "deep" / "audit.jsonl")
    for number in range(4):
        log.append(AuditEvent("reload", {"key": f"k{number}"}, "127.0.0.1"))
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600
    whole = log.verify()
    assert (whole.lines, whole.problem) == (4, None)
    lines = log.path.read_bytes().splitlines(keepends=True)
    for changed, good in (
        ([lines[0], lines[1].replace(b"k1", b"k9"), *lines[2:]], 2),
        ([lines[0], *lines[2:]], 1),
        ([lines[1], lines[0], *lines[2:]], 0),
        ([*lines[:2], b"junk\n", *lines[2:]], 2),
    ):
        log.path.write_bytes(b"".join(changed))
        found = log.verify()
        assert found.problem is not None
        assert found.lines == good
    log.path.write_bytes(b"".join(lines[:3]))
    assert log.verify().head != whole.head


def test_an_event_too_long_for_a_line_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="audit log cannot be written"):
        AuditLog(tmp_path / "audit.jsonl").append(AuditEvent("x", {"key": "k" * 70_000}, "127.0.0.1"))


def test_the_commands_keep_the_audit_log_and_verify_it(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "ada")
    assert main(["keys", "create", "console", "--file", str(path), "--right", "keys", "--right", "export"]) == 0
    secret = capsys.readouterr().out.strip()
    assert main(["keys", "disable", "console", "--file", str(path)]) == 0
    assert read_keys(path)[0].state == "disabled"
    assert main(["keys", "enable", "console", "--file", str(path)]) == 0
    assert main(["keys", "disable", "nobody", "--file", str(path)]) != 0
    assert read_keys(path)[0].rights == ("keys", "export")
    capsys.readouterr()
    assert main(["keys", "audit", "--file", str(path), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert secret.split("-", 2)[2] not in json.dumps(shown)
    assert [event["action"] for event in shown["events"]] == [
        "keys.create", "keys.disable", "keys.enable", "keys.disable", "keys.disable",
    ]  # fmt: skip
    assert {event["who"]["user"] for event in shown["events"]} == {"ada"}
    assert main(["keys", "audit", "--file", str(path)]) == 0
    assert "5 lines, unchanged" in "".join(capsys.readouterr())
    file = AuditLog.of_keys(path).path
    file.write_text(file.read_text().replace("console", "nothing", 1))
    assert main(["keys", "audit", "--file", str(path)]) == 1
    assert "was changed" in capsys.readouterr().err


def test_a_disabled_key_is_revoked_like_any_other_and_stays_so(path: Path) -> None:
    create_key(path, "team")
    disable_key(path, "team")
    assert main(["keys", "revoke", "team", "--file", str(path)]) == 0
    assert main(["keys", "enable", "team", "--file", str(path)]) != 0
    assert read_keys(path)[0].state == "revoked"


def test_keys_from_before_there_were_rights_keep_what_they_could_do(path: Path) -> None:
    create_key(path, "old")
    rows = json.loads(path.read_text())
    for name in ("rights", "disabled"):
        del rows["keys"][0][name]
    path.write_text(json.dumps(rows))
    assert read_keys(path)[0].rights == USUAL_RIGHTS
