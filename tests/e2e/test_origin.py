"""Manifests written for the original operator run unchanged, but for addresses, what the emulated cloud lacks, and that
their trainings go on until both replicas have been seen to train.
"""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.demo.observer import condition
from sandbox.errors import SandboxError
from tests.e2e.rig import CREDENTIALS, Rig, Running

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(900)]

Json = dict[str, Any]

MANIFESTS = Path(__file__).parents[1] / "manifests" / "origin"
SHARED_NAMESPACE = "stateful-migration"
REPOSITORIES = {
    "plain.yaml": "gcr.io/team-project/resnet-checkpoints",
    "gpu-request-only.yaml": "docker.io/someone/bert-checkpoints",
    "cdi-device.yaml": "registry.example.com:5000/llm",
    "later/cdi.yaml": "docker.io/someone/gpu-checkpoints",
}
PLACES = {
    "asia-northeast3-c": "us-central1-f",
    "projects/team-images/global/images/image-ubuntu-2404-gpu-580-v6": "ubuntu-os-cloud/ubuntu-2404-lts-amd64",
}
"""A zone and an image of the later revisions' manifest, and what the emulated cloud has instead."""


SCRIPT = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "train-script"}, "data": {"train.py": ""}}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cluster(rig: Rig) -> AsyncIterator[Json]:
    """Set up what such manifests expect of their cluster. Return the Secret with a service account's key that Google's
    libraries can really use, at a token endpoint of the test's.
    """
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()

    async def token(_: web.Request) -> web.Response:
        return web.json_response({"access_token": "e2e", "expires_in": 3600, "token_type": "Bearer"})

    app = web.Application()
    app.add_routes([web.post("/token", token)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    account = {
        "type": "service_account",
        "project_id": "team-project",
        "private_key": pem,
        "client_email": "outlast@team-project.iam.gserviceaccount.com",
        "token_uri": f"http://127.0.0.1:{runner.addresses[0][1]}/token",
    }
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "gcp-credentials"},
        "stringData": {"credentials.json": json.dumps(account)},
    }
    await rig.kubectl("create", "namespace", SHARED_NAMESPACE)
    await rig.apply(SHARED_NAMESPACE, CREDENTIALS, secret)
    await rig.apply("kube-system", _bootstrap_token("abcdef", "0123456789abcdef"))
    runtime = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "handler": "nvidia-cdi"}
    await rig.apply("default", runtime | {"metadata": {"name": "nvidia-cdi"}})
    yield secret
    await rig.kubectl("delete", "namespace", SHARED_NAMESPACE, "--wait=false")
    await runner.cleanup()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def ran(rig: Rig, cluster: Json) -> dict[str, str]:
    """Run all of them side by side until nothing is left of them, and return what went wrong with each, or nothing."""

    async def run(name: str) -> str:
        try:
            await _run(rig, cluster, name)
        except (AssertionError, SandboxError) as error:
            return str(error)
        return ""

    found = await asyncio.gather(*map(run, REPOSITORIES))
    return dict(zip(REPOSITORIES, found, strict=True))


async def _run(rig: Rig, cluster: Json, name: str) -> None:
    namespace = await rig.namespace()
    documents = _documents(rig, name)
    job = next(each for each in documents if each["kind"] == "SpotInstanceJob")
    # The others' are in the shared namespace: by name, or because the checkpoint operator looks there.
    beside = [cluster, CREDENTIALS] if name == "plain.yaml" else []
    if name == "later/cdi.yaml":
        beside = [SCRIPT]
        await rig.apply("default", _shared(cluster))
        registry = job["spec"]["checkpointConfig"]["checkpointRepoCredentialRef"]
        await rig.apply(SHARED_NAMESPACE, _shared(CREDENTIALS, name=registry["name"]))
    for container in job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]:
        rig.keep_going(container)
    await rig.apply(namespace, *documents, *beside)
    running = Running(rig, namespace, job["metadata"]["name"])
    if name == "gpu-request-only.yaml":  # the one whose Secrets are all in the shared namespace
        await _share(rig, running)
    await running.trains(0, 1)
    await running.completed()
    await rig.delete(namespace, *documents)
    await running.nothing_left()
    await rig.kubectl("delete", "namespace", namespace, "--wait=false")


def _shared(secret: Json, **metadata: str) -> Json:
    """Make a Secret that jobs of every namespace may name."""
    annotations = {"training.dcnlab.com/shared-with": "*"}
    return secret | {"metadata": secret["metadata"] | {"annotations": annotations} | metadata}


async def _share(rig: Rig, running: Running) -> None:
    """Run the command that the condition names, as it is."""
    command = re.compile(r"kubectl (annotate secret .*=\S+) \(")

    def told() -> str:
        found = command.search((condition(running.object, "Accepted") or {}).get("message", ""))
        return found[1] if found else ""

    await rig.until(lambda: bool(told()), 60, "a condition with the command that shares the Secrets")
    await rig.kubectl(*shlex.split(told()))


@pytest.mark.parametrize("name", REPOSITORIES)
async def test_manifests_of_the_origin_run(ran: dict[str, str], name: str) -> None:
    assert ran[name] == ""


async def test_image_that_cannot_run_kubeadm_is_told(rig: Rig, namespace: str) -> None:
    await rig.apply(namespace, *_documents(rig, "no-registry-host.yaml"))
    job = Running(rig, namespace, "simple")

    def told() -> bool:
        messages = [each.get("message", "") for each in job.status.get("conditions") or [] if each["status"] != "True"]
        return any("Container-Optimized" in message for message in messages)

    await rig.until(told, 60, "a condition that says that Container-Optimized OS cannot run kubeadm")
    assert not [vm for vm in rig.observer.vms if job.id in vm["name"]]
    assert condition(job.object, "Accepted")


async def test_placeholder_for_the_hash_of_the_ca_is_told(rig: Rig, cluster: Json, namespace: str) -> None:
    await rig.apply(namespace, *_documents(rig, "sample-vm.yaml"), cluster)
    job = Running(rig, namespace, "spotinstancejob-sample")

    def told() -> bool:
        accepted = condition(job.object, "Accepted")
        return accepted.get("status") == "False" and "kubeadmJoinConfig.caCertHash" in accepted.get("message", "")

    await rig.until(told, 60, "a condition that says that the hash is a placeholder")
    assert "leave it out" in condition(job.object, "Accepted")["message"]
    assert not [vm for vm in rig.observer.vms if job.id in vm["name"]]


def _documents(rig: Rig, name: str) -> list[Json]:
    """Read a file's documents. Only addresses are changed to those of this cluster."""
    text = (MANIFESTS / name).read_text()
    zeros = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    text = text.replace(zeros, rig.addresses["CA_CERT_HASH"])
    text = text.replace("203.0.113.10:6443", rig.addresses["CONTROL_PLANE_ENDPOINT"])
    for theirs, ours in PLACES.items():
        text = text.replace(theirs, ours)
    if repository := REPOSITORIES.get(name):
        path = repository.partition("/")[2]
        field = "checkpointImageRepo: "
        text = text.replace(f"{field}{repository}", f"{field}{rig.addresses['REGISTRY']}/{path}")
    return [each for each in yaml.safe_load_all(text) if each]


def _bootstrap_token(identifier: str, secret: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": f"bootstrap-token-{identifier}"},
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "token-id": identifier,
            "token-secret": secret,
            "usage-bootstrap-authentication": "true",
            "usage-bootstrap-signing": "true",
            "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
        },
    }
