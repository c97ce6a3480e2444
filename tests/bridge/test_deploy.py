"""The manifests and the image's lock."""

import json
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sandbox.errors import SandboxError
from tests.activities.world import eventually
from tests.bridge.conftest import REPOSITORY
from tests.bridge.policies import AS_WORKER
from tests.bridge.test_worker_policy import OWNED, create_as_worker, job

DEPLOY = REPOSITORY / "deploy"
APPLY = ("apply", "--server-side", "--force-conflicts")
ALL_SECRETS = "outlast-worker-secrets"
KEYS = "outlast-payload-keys"
PODS_BY_DRY_RUN = "outlast-worker-pod-dry-runs"


@pytest.mark.parametrize(
    "overlay",
    [
        "base", "overlays/sandbox", "overlays/before-1.30", "overlays/chosen-namespaces", "overlays/encrypted",
        "overlays/worker-version", "overlays/private-registry",
    ],
)  # fmt: skip
async def test_the_api_server_takes_every_manifest(control_plane: Any, installed: None, overlay: str) -> None:
    shares = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "stateful-migration"}}
    await control_plane.kubectl("apply", "-f", "-", stdin=json.dumps(shares))  # chosen-namespaces names it
    await control_plane.kubectl(*APPLY, "--dry-run=server", "-k", DEPLOY / overlay)


async def test_no_right_to_make_pods_is_granted_where_no_policy_holds_it(control_plane: Any) -> None:
    """Before Kubernetes 1.30 the worker does without asking whether its pods are admitted."""

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
    """As docs/security.md tells to write it, with one chosen namespace."""
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


def deployments(rendered: str) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all(rendered) if each["kind"] == "Deployment"]


def keys_of(deployment: dict[str, Any]) -> list[str]:
    """Where its container finds the keys of payloads."""
    pod = deployment["spec"]["template"]["spec"]
    volumes = {each["name"] for each in pod["volumes"] if each.get("secret", {}).get("secretName") == KEYS}
    return [each["mountPath"] for each in pod["containers"][0]["volumeMounts"] if each["name"] in volumes]


@pytest.mark.parametrize(
    "components", [["encrypted", "chosen-namespaces"], ["chosen-namespaces", "encrypted", "before-1.30"]]
)
async def test_the_api_server_takes_components_together(
    control_plane: Any, installed: None, namespace: str, tmp_path: Path, components: list[str]
) -> None:
    own = overlay_of_ones_own(tmp_path, "base", components, namespace)
    await control_plane.kubectl(*APPLY, "--dry-run=server", "-k", own)


async def test_encryption_brings_no_right_to_all_secrets_back(control_plane: Any, tmp_path: Path) -> None:
    own = overlay_of_ones_own(tmp_path, "base", ["encrypted", "chosen-namespaces"], "default")
    rendered = await control_plane.kubectl("kustomize", own)
    bound = [each for each in yaml.safe_load_all(rendered) if each.get("roleRef", {}).get("name") == ALL_SECRETS]
    assert [each["kind"] for each in bound] == ["RoleBinding"]
    assert [keys_of(each) for each in deployments(rendered)] == [["/etc/outlast-keys"]] * 2


async def test_a_version_of_the_worker_finds_the_keys_where_its_comment_is_followed(
    control_plane: Any, tmp_path: Path
) -> None:
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    file = tmp_path / "deploy" / "overlays" / "worker-version" / "kustomization.yaml"
    file.write_text(file.read_text().replace("# components: [", "components: ["))
    (worker,) = deployments(await control_plane.kubectl("kustomize", file.parent))
    assert keys_of(worker) == ["/etc/outlast-keys"]


@pytest.fixture
async def chosen(control_plane: Any, installed: None, namespace: str, tmp_path: Path) -> AsyncIterator[str]:
    """The one namespace that was chosen where Outlast was installed for all, by the commands of docs/security.md."""
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


async def test_where_it_was_installed_for_all_the_right_to_all_secrets_goes(control_plane: Any, chosen: str) -> None:
    async def gone() -> bool:
        return not await may_get_secrets(control_plane, "-A")

    await eventually("the right is gone", gone)
    assert await may_get_secrets(control_plane, "-n", chosen)


async def test_jobs_are_made_in_chosen_namespaces(control_plane: Any, chosen: str) -> None:
    await create_as_worker(control_plane, chosen, job(**OWNED))


async def test_jobs_are_made_in_no_other_namespace(control_plane: Any, chosen: str) -> None:
    async def refused() -> bool:
        try:
            await create_as_worker(control_plane, "default", job(**OWNED))
        except SandboxError as error:
            return "the namespace default is not among those that were chosen" in str(error)
        return False

    await eventually("it is refused", refused)


def overlay_with(directory: Path, base: str, component: str) -> Path:
    """As `kustomize edit add component` makes it of a base."""
    kustomization = {
        "resources": [os.path.relpath(DEPLOY / base, directory)],
        "components": [os.path.relpath(DEPLOY / "components" / component, directory)],
    }
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return directory


@pytest.fixture
async def private_registry(control_plane: Any, installed: None, tmp_path: Path) -> AsyncIterator[None]:
    """Installed as step 6 of the README says."""
    await control_plane.kubectl(*APPLY, "-k", overlay_with(tmp_path, "overlays/sandbox", "private-registry"))
    yield
    await control_plane.kubectl(*APPLY, "-k", DEPLOY / "overlays/sandbox")


PULL_SECRETS = "jsonpath={.spec.imagePullSecrets[*].name}"


async def pulls_by(control_plane: Any, account: str) -> str:
    """The pull Secrets that the API server gives to a pod of this account."""
    spec = {"serviceAccountName": account, "containers": [{"name": "c", "image": "outlast"}]}
    made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}, "spec": spec}
    where = ("-n", "outlast-system", "--dry-run=server")
    return str(await control_plane.kubectl("create", *where, "-o", PULL_SECRETS, "-f", "-", stdin=json.dumps(made)))


ACCOUNTS = ["outlast-worker", "outlast-bridge", "outlast-agent"]


@pytest.mark.parametrize("account", ACCOUNTS)
async def test_every_pod_of_outlast_pulls_from_a_private_registry(
    control_plane: Any, private_registry: None, account: str
) -> None:
    assert await pulls_by(control_plane, account) == "outlast-pull"


@pytest.mark.parametrize("account", ACCOUNTS)
async def test_without_a_private_registry_no_pod_names_a_secret(
    control_plane: Any, installed: None, account: str
) -> None:
    """A kubelet would warn of one that does not exist, in an Event for each pod, again and again."""
    assert await pulls_by(control_plane, account) == ""


async def test_the_sandbox_gets_no_deployments(control_plane: Any) -> None:
    rendered = await control_plane.kubectl("kustomize", DEPLOY / "overlays/sandbox")
    kinds = {each["kind"] for each in yaml.safe_load_all(rendered)}
    assert "DaemonSet" in kinds
    assert not kinds & {"Deployment", "ConfigMap"}


async def test_every_pod_runs_with_as_little_as_it_needs(control_plane: Any) -> None:
    rendered = await control_plane.kubectl("kustomize", DEPLOY / "base")
    pods = [
        each["spec"]["template"]["spec"] for each in yaml.safe_load_all(rendered) if "template" in each.get("spec", {})
    ]
    assert len(pods) == 3
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"]
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["image"] == "outlast:0.1.0"
            assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("manifest", ["bridge.yaml", "worker/worker.yaml"])
def test_what_others_do_ends_no_process(manifest: str) -> None:
    """Liveness asks for the process's own health, and readiness alone for that of others."""
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
