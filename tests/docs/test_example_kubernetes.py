"""The Kubernetes example is valid, safe, and agrees with the host's own settings."""

import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from connector_core.plugins import installed_plugins, load_plugins
from connector_core.secrets import SecretSource
from connector_core.settings import CONFIG_VARIABLE, ENV_PREFIX, Settings, load_settings
from tests.support.environments import ROOT

kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="ships the schemas of the Kubernetes API")

FOLDER = ROOT / "examples" / "kubernetes"
OLDEST = "1.29"  # the README promises it
VOLUMES_OF_THE_RESTRICTED_PROFILE = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip
DEPLOYED = load_settings(file=FOLDER / "connector-host.toml")


def read(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text())


def seconds(duration: str) -> float:
    found = re.fullmatch(r"(\d+)([sm])", duration)
    assert found, f"{duration!r} is no duration that this test reads"
    return int(found[1]) * {"s": 1, "m": 60}[found[2]]


def size(quantity: str) -> int:
    found = re.fullmatch(r"(\d+)([MG])i", quantity)
    assert found, f"{quantity!r} is no quantity that this test reads"
    return int(found[1]) * {"M": 2**20, "G": 2**30}[found[2]]


KUSTOMIZATION = read("kustomization.yaml")
MANIFESTS: dict[str, Any] = {name: read(name) for name in KUSTOMIZATION["resources"]}
DEPLOYMENT = MANIFESTS["deployment.yaml"]
SERVICE = MANIFESTS["service.yaml"]
POD = DEPLOYMENT["spec"]["template"]
SPEC = POD["spec"]
(CONTAINER,) = SPEC["containers"]
PORTS = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
ENGINE = read("engine-config.yaml")
CONNECTOR_SERVICE = ENGINE["plugins"]["connector-service"]


def deployments_of_the_engine() -> list[Any]:
    """Return the host as the engine's default deployment, and as the named one of the README."""
    (block,) = re.findall(r"```yaml\n(.*?)```", (FOLDER / "README.md").read_text(), flags=re.DOTALL)
    (named,) = yaml.safe_load(block)["plugins"]["connector-service"]["connectors"].values()
    return [CONNECTOR_SERVICE["defaultConnector"], named]


def dockerfile() -> list[tuple[str, str]]:
    text = re.sub(r"(?m)^\s*#.*\n", "", (FOLDER / "Dockerfile").read_text()).replace("\\\n", " ")
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in text.splitlines() if line.strip()]


def final_stage() -> list[tuple[str, str]]:
    lines = dockerfile()
    start = max(i for i, (instruction, _) in enumerate(lines) if instruction == "FROM")
    return lines[start:]


def image_environment() -> dict[str, str]:
    pairs = [pair for instruction, value in final_stage() if instruction == "ENV" for pair in shlex.split(value)]
    return dict(pair.split("=", 1) for pair in pairs)


# Schemas


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
@pytest.mark.parametrize("name", MANIFESTS)
def test_each_manifest_holds_to_the_schema_of_the_kubernetes_api(name: str, version: str) -> None:
    kubernetes_validate.validate(MANIFESTS[name], version, strict=True)


def test_the_schemas_refuse_a_misspelt_field() -> None:
    misspelt = json.loads(json.dumps(DEPLOYMENT))
    misspelt["spec"]["template"]["spec"]["terminationGracePeriod"] = 45
    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGracePeriod"):
        kubernetes_validate.validate(misspelt, OLDEST, strict=True)


def test_every_manifest_of_the_folder_is_applied() -> None:
    kinds = {path.name: read(path.name).get("kind") for path in FOLDER.glob("*.yaml")}
    assert set(MANIFESTS) == {name for name, kind in kinds.items() if kind not in {None, "Kustomization"}}


def test_everything_is_in_one_namespace() -> None:
    generated = [one["namespace"] for one in KUSTOMIZATION["configMapGenerator"]]
    assert {*generated, *(manifest["metadata"]["namespace"] for manifest in MANIFESTS.values())} == {"flyte"}


# Agreement with the host


def test_ports_are_those_of_the_host() -> None:
    assert {"grpc": DEPLOYED.port, "http": DEPLOYED.http_port} == PORTS
    assert {port["name"]: port["port"] for port in SERVICE["spec"]["ports"]} == PORTS
    assert all(port["targetPort"] == port["name"] for port in SERVICE["spec"]["ports"])
    assert POD["metadata"]["annotations"]["prometheus.io/port"] == str(PORTS["http"])
    assert [value.split() for instruction, value in final_stage() if instruction == "EXPOSE"] == [
        [str(port) for port in PORTS.values()]
    ]


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_probes_ask_the_health_service_on_the_grpc_port(probe: str) -> None:
    assert CONTAINER[probe]["grpc"] == {"port": PORTS["grpc"]}


def test_the_startup_probe_outlasts_the_start_of_slow_connectors() -> None:
    probe = CONTAINER["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 2 * DEPLOYED.start_timeout


def test_the_kubelet_waits_until_the_host_has_drained_and_closed_its_connectors() -> None:
    # After the grace the host allows itself 5 s for the connectors' `close()`, and 5 s for its threads.
    assert SPEC["terminationGracePeriodSeconds"] > DEPLOYED.grace + 10


def test_a_pod_that_misses_a_plugin_never_becomes_ready() -> None:
    assert DEPLOYED.strict


def test_the_settings_file_is_mounted_where_the_host_is_told_to_look() -> None:
    (generated,) = KUSTOMIZATION["configMapGenerator"]
    (volume,) = [v["name"] for v in SPEC["volumes"] if v.get("configMap", {}).get("name") == generated["name"]]
    (mount,) = [m["mountPath"] for m in CONTAINER["volumeMounts"] if m["name"] == volume]
    assert generated["files"] == ["connector-host.toml"]
    assert {e["name"]: e["value"] for e in CONTAINER["env"]} == {CONFIG_VARIABLE: f"{mount}/connector-host.toml"}


def test_secrets_are_mounted_where_get_secret_looks(tmp_path: Path) -> None:
    secrets = {v["name"]: v["secret"] for v in SPEC["volumes"] if "secret" in v}
    mounts = {m["name"]: Path(m["mountPath"]) for m in CONTAINER["volumeMounts"]}
    assert secrets
    for name, secret in secrets.items():
        group = mounts[name].name
        assert mounts[name].parent == DEPLOYED.secrets.folder
        assert group == group.lower()
        assert secret["secretName"] == f"{DEPLOYMENT['metadata']['name']}-{group}"
        (tmp_path / group).mkdir()
        (tmp_path / group / "token").write_text("s3cret\n")
        assert SecretSource(folder=tmp_path).get("TOKEN", group.upper()).get_secret_value() == "s3cret"


def test_secrets_are_readable_to_the_host_and_not_to_everybody() -> None:
    modes = [v["secret"]["defaultMode"] for v in SPEC["volumes"] if "secret" in v]
    assert modes == [0o440] * len(modes)
    assert SPEC["securityContext"]["fsGroup"] == SPEC["securityContext"]["runAsGroup"]


# What one pod may take


def test_all_queries_together_fit_into_a_pod() -> None:
    duckdb = pytest.importorskip("connector_plugin_duckdb.config", reason="the image has the DuckDB plugin")
    config = duckdb.load_config(DEPLOYED.plugins["duckdb"])
    memory = size(CONTAINER["resources"]["limits"]["memory"])
    (disk,) = [size(v["emptyDir"]["sizeLimit"]) for v in SPEC["volumes"] if "emptyDir" in v]
    room_for_the_host = 512 * 2**20
    process = config.memory_limit * 5 // 4 + 256 * 2**20
    assert config.max_concurrent * process + room_for_the_host <= memory
    assert config.max_concurrent * config.disk_limit <= disk


def test_the_storage_keys_that_are_commented_out_are_valid_and_their_secret_is_mounted() -> None:
    duckdb = pytest.importorskip("connector_plugin_duckdb.config", reason="the image has the DuckDB plugin")
    text = (FOLDER / "connector-host.toml").read_text()
    block = text[text.index("# [plugins.duckdb.storage_options.s3]") :].replace("# ", "")
    section = tomllib.loads(block)["plugins"]["duckdb"]
    options = duckdb.load_config(section).storage_options["s3"]
    groups = {value["group"] for value in options.values() if isinstance(value, dict)}
    assert {f"{DEPLOYED.secrets.folder}/{group}" for group in groups} <= {
        m["mountPath"] for m in CONTAINER["volumeMounts"]
    }


# Reachability


def test_selectors_match_the_labels_of_the_pods() -> None:
    labels = POD["metadata"]["labels"].items()
    selectors = [
        DEPLOYMENT["spec"]["selector"]["matchLabels"],
        SERVICE["spec"]["selector"],
        MANIFESTS["pdb.yaml"]["spec"]["selector"]["matchLabels"],
        MANIFESTS["networkpolicy.yaml"]["spec"]["podSelector"]["matchLabels"],
        *(one["labelSelector"]["matchLabels"] for one in SPEC["topologySpreadConstraints"]),
    ]
    assert all(selector and selector.items() <= labels for selector in selectors)


def test_the_service_is_headless() -> None:
    assert SERVICE["spec"]["clusterIP"] == "None"


def test_a_drained_node_never_takes_the_last_replicas() -> None:
    assert DEPLOYMENT["spec"]["replicas"] > MANIFESTS["pdb.yaml"]["spec"]["maxUnavailable"]


def test_each_port_is_open_to_its_own_callers_only() -> None:
    spec = MANIFESTS["networkpolicy.yaml"]["spec"]
    assert spec["policyTypes"] == ["Ingress"]
    assert [port["port"] for rule in spec["ingress"] for port in rule["ports"]] == list(PORTS)
    assert all(rule["from"] and all(any(peer.values()) for peer in rule["from"]) for rule in spec["ingress"])


# Rights


def test_the_pod_holds_to_the_restricted_profile() -> None:
    assert SPEC["securityContext"]["runAsNonRoot"] is True
    assert SPEC["securityContext"]["runAsUser"] > 0
    assert SPEC["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & SPEC.keys()
    assert all(set(volume) - {"name"} <= VOLUMES_OF_THE_RESTRICTED_PROFILE for volume in SPEC["volumes"])
    assert all("hostPort" not in port for port in CONTAINER["ports"])
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_only_tmp_is_writable() -> None:
    writable = {v["name"] for v in SPEC["volumes"] if "emptyDir" in v}
    assert [m["mountPath"] for m in CONTAINER["volumeMounts"] if m["name"] in writable] == ["/tmp"]
    assert all(m.get("readOnly") is True for m in CONTAINER["volumeMounts"] if m["name"] not in writable)


# The image


def test_the_image_listens_on_all_addresses() -> None:
    host = image_environment()[f"{ENV_PREFIX}HOST"]
    assert Settings(host=host).host == "0.0.0.0"
    assert DEPLOYED.host == "127.0.0.1", "the file is no place for it: the image has to be reachable without one"


def test_the_image_runs_as_the_user_of_the_pod_given_as_a_number() -> None:
    context = SPEC["securityContext"]
    users = [value for instruction, value in final_stage() if instruction == "USER"]
    assert users == [f"{context['runAsUser']}:{context['runAsGroup']}"]


def test_the_host_is_process_1() -> None:
    commands = {instruction: json.loads(value) for instruction, value in final_stage() if value.startswith("[")}
    assert commands == {"ENTRYPOINT": ["connector-host"], "CMD": ["serve"]}
    assert "command" not in CONTAINER
    assert "args" not in CONTAINER


def test_what_the_image_installs_is_in_the_checkout() -> None:
    copied = [value.split()[:-1] for instruction, value in dockerfile() if instruction == "COPY" and "--" not in value]
    assert [source for sources in copied for source in sources if not (ROOT / source).exists()] == []
    (install,) = [shlex.split(value) for _, value in dockerfile() if "pip install" in value]
    local = [word.split("[")[0] for word in install if word.startswith("./")]
    assert local
    assert [plugin for plugin in local if not (ROOT / plugin / "pyproject.toml").is_file()] == []


def test_the_deployment_runs_the_image_that_the_kustomization_names() -> None:
    assert [image["name"] for image in KUSTOMIZATION["images"]] == [CONTAINER["image"]]


# The engine's side


@pytest.mark.parametrize("deployment", deployments_of_the_engine(), ids=["default", "named"])
def test_the_engine_calls_every_pod_of_the_service(deployment: dict[str, Any]) -> None:
    meta = SERVICE["metadata"]
    assert deployment["endpoint"] == f"dns:///{meta['name']}.{meta['namespace']}.svc.cluster.local:{PORTS['grpc']}"
    assert deployment["insecure"] is True
    assert json.loads(deployment["defaultServiceConfig"]) == {"loadBalancingConfig": [{"round_robin": {}}]}


@pytest.mark.parametrize("deployment", deployments_of_the_engine(), ids=["default", "named"])
def test_the_engine_has_a_deadline_for_every_call_and_the_host_allows_as_much(deployment: dict[str, Any]) -> None:
    own = DEPLOYED.deadlines
    limits = {"CreateTask": own.create, "GetTask": own.get, "DeleteTask": own.delete, "ExecuteTaskSync": own.do}
    # A list of single keys: as a map, the engine's reader would turn the names into lower case and not find them.
    assert all(isinstance(one, dict) and len(one) == 1 for one in deployment["timeouts"])
    given = {call: seconds(value) for one in deployment["timeouts"] for call, value in one.items()}
    assert given.keys() == limits.keys()
    assert all(0 < given[call] <= limits[call] for call in given)
    assert seconds(deployment["defaultTimeout"]) > 0


def test_the_engine_has_the_plugin_that_is_configured_and_only_one_of_its_two_names() -> None:
    plugins = ENGINE["tasks"]["task-plugins"]
    assert list(ENGINE["plugins"]) == ["connector-service"]
    assert set(ENGINE["plugins"]) <= set(plugins["enabled-plugins"])
    assert set(plugins["default-for-task-types"].values()) <= set(plugins["enabled-plugins"])


def test_the_engine_keeps_the_routes_of_all_task_types_of_the_image() -> None:
    """Types that it learns from a poll alone are un-routed when a poll fails, and lose their running tasks."""
    (install,) = [shlex.split(value) for _, value in dockerfile() if "pip install" in value]
    installed = {Path(word.split("[")[0]).name for word in install if word.startswith("./")}
    result = load_plugins([source for source in installed_plugins() if source.identity.name in installed])
    served = {category.name for plugin in result.loaded for one in plugin.descriptions for category in one.categories}
    assert served
    assert sorted(served) == CONNECTOR_SERVICE["supportedTaskTypes"]
    assert "connectorForTaskTypes" not in CONNECTOR_SERVICE


def test_the_tag_that_is_built_is_the_tag_that_is_deployed() -> None:
    built = re.findall(r"docker build .* -t (\S+) ", (FOLDER / "README.md").read_text())
    (image,) = KUSTOMIZATION["images"]
    assert built == [f"{image['name']}:{image['newTag']}"]


def test_the_readme_explains_every_file() -> None:
    text = (FOLDER / "README.md").read_text()
    assert [path.name for path in FOLDER.iterdir() if f"| `{path.name}` |" not in text] == ["README.md"]
