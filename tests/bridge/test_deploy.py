"""The manifests and the image's lock."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from sandbox.errors import SandboxError
from tests.activities.world import eventually
from tests.bridge.conftest import REPOSITORY

DEPLOY = REPOSITORY / "deploy"


@pytest.mark.parametrize(
    "overlay", ["base", "overlays/sandbox", "overlays/before-1.30", "overlays/encrypted", "overlays/worker-version"]
)
async def test_the_api_server_takes_every_manifest(control_plane: Any, installed: None, overlay: str) -> None:
    await control_plane.kubectl(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "-k", DEPLOY / overlay
    )


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
