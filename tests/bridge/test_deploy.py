"""The manifests and the image's lock."""

import json
import os
import re
import shutil
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from api import names
from sandbox.errors import SandboxError
from tests.activities.world import eventually
from tests.bridge.conftest import REPOSITORY
from tests.bridge.policies import AS_WORKER
from tests.bridge.test_worker_policy import OWNED, create_as_worker, job

DEPLOY = REPOSITORY / "deploy"
APPLY = ("apply", "--server-side", "--force-conflicts")
ALL_SECRETS = "outlast-worker-secrets"
KEYS = "outlast-payload-keys"
VERSION = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
PODS_BY_DRY_RUN = "outlast-worker-pod-dry-runs"


@pytest.mark.parametrize(
    "overlay",
    [
        "base", "overlays/sandbox", "overlays/before-1.30", "overlays/chosen-namespaces", "overlays/encrypted",
        "overlays/private-registry",
    ],
)  # fmt: skip
async def test_the_api_server_takes_every_manifest(control_plane: Any, installed: None, overlay: str) -> None:
    shares = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "stateful-migration"}}
    await control_plane.kubectl("apply", "-f", "-", stdin=json.dumps(shares))  # chosen-namespaces names it
    await control_plane.kubectl(*APPLY, "--dry-run=server", "-k", DEPLOY / overlay)


async def test_no_right_to_make_pods_is_granted_where_no_policy_holds_it(control_plane: Any) -> None:
    """Before Kubernetes 1.30 the worker does not ask whether its pods are admitted."""

    async def makers(overlay: str) -> list[str]:
        rendered = yaml.safe_load_all(await control_plane.kubectl("kustomize", DEPLOY / overlay))
        return [
            each["metadata"]["name"]
            for each in rendered
            for rule in each.get("rules", [])
            if "pods" in rule["resources"] and "create" in rule["verbs"]
        ]

    assert await makers("base") == [PODS_BY_DRY_RUN]
    assert await makers("overlays/before-1.30") == []
    rendered = str(await control_plane.kubectl("kustomize", DEPLOY / "overlays/before-1.30"))
    assert PODS_BY_DRY_RUN not in rendered
    assert "ValidatingAdmissionPolicy" not in rendered


def overlay_of_ones_own(directory: Path, base: str, components: list[str], namespace: str) -> Path:
    """Write an overlay as docs/security.md says, with one chosen namespace."""
    whole = yaml.safe_load_all((DEPLOY / "overlays/chosen-namespaces/namespaces.yaml").read_text())
    chosen = next(each for each in whole if each["roleRef"]["name"] == ALL_SECRETS)
    chosen["metadata"]["namespace"] = namespace
    (directory / "namespaces.yaml").write_text(yaml.safe_dump(chosen))
    kustomization = {
        "resources": [os.path.relpath(DEPLOY / base, directory), "namespaces.yaml"],
        "components": [os.path.relpath(DEPLOY / "components" / each, directory) for each in components],
    }
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return directory


def of_kind(rendered: str, kind: str) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all(rendered) if each["kind"] == kind]


def keys_of(owner: dict[str, Any]) -> list[str]:
    """Find the path of the payload keys in the container of its pods."""
    pod = owner["spec"]["template"]["spec"]
    volumes = {each["name"] for each in pod["volumes"] if each.get("secret", {}).get("secretName") == KEYS}
    return [each["mountPath"] for each in pod["containers"][0]["volumeMounts"] if each["name"] in volumes]


@pytest.mark.parametrize(
    "components",
    [
        ["encrypted", "chosen-namespaces"],
        ["chosen-namespaces", "encrypted", "before-1.30"],
        ["unversioned", "encrypted", "chosen-namespaces"],
    ],
)
async def test_the_api_server_takes_components_together(
    control_plane: Any, installed: None, namespace: str, tmp_path: Path, components: list[str]
) -> None:
    own = overlay_of_ones_own(tmp_path, "base", components, namespace)
    await control_plane.kubectl(*APPLY, "--dry-run=server", "-k", own)


async def test_worker_and_bridge_outlast_a_node(control_plane: Any) -> None:
    rendered = await control_plane.kubectl("kustomize", DEPLOY / "base")
    budgets = [each["spec"]["selector"]["matchLabels"] for each in of_kind(rendered, "PodDisruptionBudget")]
    (priority,) = of_kind(rendered, "PriorityClass")
    found = of_kind(rendered, "Deployment")
    assert len(found) == len(budgets) == 2
    for deployment in found:
        template = deployment["spec"]["template"]
        labels, pod = template["metadata"]["labels"], template["spec"]
        assert deployment["spec"]["replicas"] == 2
        assert pod["priorityClassName"] == priority["metadata"]["name"]
        assert {each["tolerationSeconds"] for each in pod["tolerations"]} == {30}
        (term,) = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        bought = {"key": names.LABEL_MANAGED_BY, "operator": "NotIn", "values": [names.MANAGED_BY]}
        assert term["matchExpressions"] == [bought]
        for spread in pod["topologySpreadConstraints"]:
            assert spread["labelSelector"]["matchLabels"].items() <= labels.items()
        # One budget. A worker's belongs to its release, so a release that cannot start blocks no drain of the one
        # before.
        (budget,) = [each for each in budgets if each.items() <= labels.items()]
        version = "app.kubernetes.io/version"
        assert (version in budget) == (labels["app.kubernetes.io/component"] == "worker")


async def test_nobody_else_pushes_pods_out_by_our_priority(control_plane: Any, installed: None, namespace: str) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "pushy", "namespace": namespace},
        "spec": {"priorityClassName": "outlast", "containers": [{"name": "main", "image": "busybox"}]},
    }
    with pytest.raises(SandboxError, match="PriorityClass outlast is for Outlast's own pods"):
        await control_plane.kubectl("apply", "-f", "-", stdin=json.dumps(pod))


async def test_a_field_that_old_clusters_do_not_know_is_left_out_there(control_plane: Any) -> None:
    rendered = await control_plane.kubectl("kustomize", DEPLOY / "overlays/before-1.30")
    budgets = of_kind(rendered, "PodDisruptionBudget")
    assert [each["spec"].keys() & {"unhealthyPodEvictionPolicy"} for each in budgets] == [set(), set()]


async def test_encryption_brings_no_right_to_all_secrets_back(control_plane: Any, tmp_path: Path) -> None:
    own = overlay_of_ones_own(tmp_path, "base", ["encrypted", "chosen-namespaces"], "default")
    rendered = await control_plane.kubectl("kustomize", own)
    bound = [each for each in yaml.safe_load_all(rendered) if each.get("roleRef", {}).get("name") == ALL_SECRETS]
    assert [each["kind"] for each in bound] == ["RoleBinding"]
    pods = [each for kind in ("Deployment", "Job") for each in of_kind(rendered, kind)]
    assert [keys_of(each) for each in pods] == [["/etc/outlast-keys"]] * 3


@pytest.fixture
async def chosen(control_plane: Any, installed: None, namespace: str, tmp_path: Path) -> AsyncIterator[str]:
    """Choose one namespace after an installation for all, by the commands of docs/security.md."""
    own = overlay_of_ones_own(tmp_path, "overlays/sandbox", ["chosen-namespaces"], namespace)
    await control_plane.kubectl(*APPLY, "-k", own)
    await control_plane.kubectl("delete", "clusterrolebinding", ALL_SECRETS)
    yield namespace
    await control_plane.kubectl(*APPLY, "-k", DEPLOY / "overlays/sandbox")


async def may_get_secrets(control_plane: Any, *where: str) -> bool:
    try:
        said = await control_plane.kubectl("auth", "can-i", "get", "secrets", *where, AS_WORKER)
    except SandboxError:  # as kubectl says no
        return False
    return str(said).strip() == "yes"


async def test_in_chosen_namespaces_alone_secrets_are_read_and_jobs_made(control_plane: Any, chosen: str) -> None:
    async def gone() -> bool:
        return not await may_get_secrets(control_plane, "-A")

    await eventually("the right to all Secrets is gone", gone)
    assert await may_get_secrets(control_plane, "-n", chosen)
    await create_as_worker(control_plane, chosen, job(**OWNED))

    async def refused() -> bool:
        try:
            await create_as_worker(control_plane, "default", job(**OWNED))
        except SandboxError as error:
            return "the namespace default is not among those that were chosen" in str(error)
        return False

    await eventually("it is refused", refused)


def overlay_with(directory: Path, base: str, component: str) -> Path:
    """Write an overlay as `kustomize edit add component` makes it of a base."""
    kustomization = {
        "resources": [os.path.relpath(DEPLOY / base, directory)],
        "components": [os.path.relpath(DEPLOY / "components" / component, directory)],
    }
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return directory


@pytest.fixture
async def private_registry(control_plane: Any, installed: None, tmp_path: Path) -> AsyncIterator[None]:
    """Install a private registry as step 6 of the README says."""
    await control_plane.kubectl(*APPLY, "-k", overlay_with(tmp_path, "overlays/sandbox", "private-registry"))
    yield
    await control_plane.kubectl(*APPLY, "-k", DEPLOY / "overlays/sandbox")


PULL_SECRETS = "jsonpath={.spec.imagePullSecrets[*].name}"


async def pulls_by(control_plane: Any, account: str) -> str:
    """List the pull Secrets that the API server gives to a pod of this account."""
    spec = {"serviceAccountName": account, "containers": [{"name": "c", "image": "outlast"}]}
    made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}, "spec": spec}
    where = ("-n", "outlast-system", "--dry-run=server")
    return str(await control_plane.kubectl("create", *where, "-o", PULL_SECRETS, "-f", "-", stdin=json.dumps(made)))


ACCOUNTS = ["outlast-worker", "outlast-bridge", "outlast-setup", "outlast-agent"]


async def test_every_pod_of_outlast_pulls_from_a_private_registry(control_plane: Any, private_registry: None) -> None:
    assert {each: await pulls_by(control_plane, each) for each in ACCOUNTS} == dict.fromkeys(ACCOUNTS, "outlast-pull")


async def test_without_a_private_registry_no_pod_names_a_secret(control_plane: Any, installed: None) -> None:
    """A kubelet would warn of one that does not exist, in an Event for each pod, again and again."""
    assert {each: await pulls_by(control_plane, each) for each in ACCOUNTS} == dict.fromkeys(ACCOUNTS, "")


async def test_the_sandbox_gets_no_deployments(control_plane: Any) -> None:
    rendered = await control_plane.kubectl("kustomize", DEPLOY / "overlays/sandbox")
    kinds = {each["kind"] for each in yaml.safe_load_all(rendered)}
    assert "DaemonSet" in kinds
    assert not kinds & {"Deployment", "Job", "ConfigMap"}


async def test_every_pod_runs_with_as_little_as_it_needs(control_plane: Any) -> None:
    rendered = await control_plane.kubectl("kustomize", DEPLOY / "base")
    pods = [
        each["spec"]["template"]["spec"] for each in yaml.safe_load_all(rendered) if "template" in each.get("spec", {})
    ]
    assert len(pods) == 4
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"]
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["image"] == f"outlast:{VERSION}"
            assert container["resources"]["limits"]["memory"]


def environment_of(owner: dict[str, Any]) -> dict[str, str]:
    (container,) = owner["spec"]["template"]["spec"]["containers"]
    return {each["name"]: each.get("value", "") for each in container.get("env", [])}


async def test_a_release_is_a_worker_and_a_setup_of_its_own(control_plane: Any) -> None:
    """All of its version comes from one line in deploy/base/worker/kustomization.yaml."""
    assert (DEPLOY / "base/worker/kustomization.yaml").read_text().count(VERSION) == 1
    rendered = await control_plane.kubectl("kustomize", DEPLOY / "base")
    worker = next(each for each in of_kind(rendered, "Deployment") if "worker" in each["metadata"]["name"])
    (setup,) = of_kind(rendered, "Job")
    assert (worker["metadata"]["name"], setup["metadata"]["name"]) == (
        f"outlast-worker-{VERSION}", f"outlast-setup-{VERSION}",
    )  # fmt: skip
    assert worker["spec"]["selector"]["matchLabels"]["app.kubernetes.io/version"] == VERSION
    for each in (worker, setup):
        assert each["metadata"]["labels"]["app.kubernetes.io/version"] == VERSION
        assert each["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/version"] == VERSION
        assert environment_of(each)["TEMPORAL_DEPLOYMENT_NAME"] == "outlast"
        assert environment_of(each)["TEMPORAL_WORKER_BUILD_ID"] == VERSION
    assert environment_of(worker)["OUTLAST_WORKER_DEPLOYMENT"] == worker["metadata"]["name"]


async def test_the_next_release_leaves_the_worker_of_the_last_one(control_plane: Any, tmp_path: Path) -> None:
    """`kubectl apply` changes what it names and deletes nothing, so no name may be the same."""

    async def names(directory: Path) -> set[str]:
        rendered = await control_plane.kubectl("kustomize", directory)
        return {
            each["metadata"]["name"]
            for kind in ("Deployment", "Job")
            for each in of_kind(rendered, kind)
            if each["metadata"]["labels"]["app.kubernetes.io/component"] != "bridge"
        }

    shutil.copytree(DEPLOY, tmp_path / "deploy")
    line = tmp_path / "deploy/base/worker/kustomization.yaml"
    line.write_text(line.read_text().replace(f"nameSuffix: -{VERSION}", "nameSuffix: -99.0.0"))
    assert await names(DEPLOY / "base") & await names(tmp_path / "deploy/base") == set()
    rendered = await control_plane.kubectl("kustomize", tmp_path / "deploy/base")
    assert "outlast:99.0.0" in rendered
    assert VERSION not in {each.rpartition(":")[2] for each in re.findall(r"image: (\S+)", rendered)}


async def test_releases_are_applied_one_after_the_other_and_again(
    control_plane: Any, installed: None, tmp_path: Path
) -> None:
    """Jobs cannot be changed, so the same release's has to be the same, and another release's another."""
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    line = tmp_path / "deploy/base/worker/kustomization.yaml"
    text = line.read_text()
    ours = "app.kubernetes.io/component in (worker, setup)"
    try:
        for version in ("98.0.0", "99.0.0", "98.0.0", "99.0.0"):
            line.write_text(text.replace(f"nameSuffix: -{VERSION}", f"nameSuffix: -{version}"))
            await control_plane.kubectl(*APPLY, "-k", tmp_path / "deploy/base", "--selector", ours)
        get = ("get", "deployments,jobs", "-n", "outlast-system", "-l", ours, "-o", "name")
        assert set(str(await control_plane.kubectl(*get)).split()) == {
            f"{kind}-{version}"
            for kind in ("deployment.apps/outlast-worker", "job.batch/outlast-setup")
            for version in ("98.0.0", "99.0.0")
        }
    finally:
        await control_plane.kubectl("delete", "deployments,jobs", "-n", "outlast-system", "-l", ours)


async def test_a_registry_with_a_port_keeps_the_tag_of_the_release(control_plane: Any, tmp_path: Path) -> None:
    own = overlay_with(tmp_path, "base", "private-registry")
    file = own / "kustomization.yaml"
    images = {"images": [{"name": "outlast", "newName": "registry.example:5000/outlast"}]}
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | images))
    rendered = await control_plane.kubectl("kustomize", own)
    assert rendered.count(f"image: registry.example:5000/outlast:{VERSION}") == 4


async def test_without_versions_the_worker_is_given_none(control_plane: Any, tmp_path: Path) -> None:
    rendered = await control_plane.kubectl("kustomize", overlay_with(tmp_path, "base", "unversioned"))
    for each in [*of_kind(rendered, "Deployment"), *of_kind(rendered, "Job")]:
        assert not environment_of(each).keys() & {"TEMPORAL_DEPLOYMENT_NAME", "TEMPORAL_WORKER_BUILD_ID"}


@pytest.mark.parametrize("manifest", ["bridge.yaml", "worker/worker.yaml"])
def test_what_others_do_ends_no_process(manifest: str) -> None:
    """Liveness depends on the process's own health, and only readiness on that of others."""
    (container,) = yaml.safe_load((DEPLOY / "base" / manifest).read_text())["spec"]["template"]["spec"]["containers"]
    paths = {kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
    assert paths == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}
    (health,) = [each["value"] for each in container["env"] if each["name"] == "OUTLAST_HEALTH_ADDRESS"]
    assert {"name": "health", "containerPort": int(health.rpartition(":")[2])} in container["ports"]


async def test_the_worker_claims_devices_where_outlast_is_installed_and_nowhere_else(control_plane: Any) -> None:
    for manifest in ("namespace.yaml", "worker-rbac.yaml"):
        await control_plane.kubectl("apply", "-f", DEPLOY / "base" / manifest)

    async def may(verb: str, namespace: str) -> bool:
        worker = "--as=system:serviceaccount:outlast-system:outlast-worker"
        asked = ("auth", "can-i", verb, "leases.coordination.k8s.io", worker, "--namespace", namespace)
        try:
            return str(await control_plane.kubectl(*asked)).strip() == "yes"
        except SandboxError:  # as kubectl says no
            return False

    async def all_of_it() -> bool:
        return all([await may(verb, "outlast-system") for verb in ("get", "create", "patch")])

    await eventually("the role", all_of_it)
    assert not await may("create", "default")


def test_the_image_installs_the_versions_that_were_tested() -> None:
    tested = pins(REPOSITORY / "requirements.lock")
    assert pins(DEPLOY / "requirements.lock").items() <= tested.items()


def pins(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", lock.read_text(), re.MULTILINE))
