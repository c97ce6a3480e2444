"""The commands on an API server, with the rights of a team's editor and no more. What the workflow does is played."""

import asyncio
import base64
import json
import tarfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from temporalio.client import Client
from typer.testing import CliRunner

from api import names
from api.cost import CostRecord
from api.messages import JobStart
from cli import session
from cli.app import app
from cli.doctor import service
from clients.kube import Kube, path
from sandbox.temporal_server import TemporalServer
from tests.bridge.conftest import REPOSITORY, Manifest

Json = dict[str, Any]


@dataclass
class Said:
    """How a command ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Awaitable[Said]]


@pytest.fixture
async def outlast(
    control_plane: Any, installed: None, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Run the program with the token of a ServiceAccount that has the role ``edit`` in the test's namespace."""
    kubectl = control_plane.kubectl
    await kubectl("-n", namespace, "create", "serviceaccount", "editor")
    await kubectl(
        "-n", namespace, "create", "rolebinding", "editor", "--clusterrole=edit", f"--serviceaccount={namespace}:editor"
    )
    token = (await kubectl("-n", namespace, "create", "token", "editor")).strip()
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "team",
        "clusters": [{
            "name": "c",
            "cluster": {"server": control_plane.url, "certificate-authority": str(control_plane.ca_file)},
        }],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "team", "context": {"cluster": "c", "user": "u", "namespace": namespace}}],
    }  # fmt: skip
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(config))

    monkeypatch.setattr(session.console, "width", 160)

    def invoke(arguments: tuple[str, ...]) -> Said:
        ended = CliRunner().invoke(app, list(arguments), env={"KUBECONFIG": str(file)})
        return Said(ended.exit_code, ended.stdout, ended.stderr)

    async def run(*arguments: str) -> Said:
        """Run it in a thread, because it has an event loop of its own."""
        return await asyncio.wait_for(asyncio.to_thread(invoke, arguments), 120)

    return run


@pytest.fixture
async def told(
    cluster: Kube, namespace: str, apply: Any, job: Manifest, vm: Manifest
) -> Callable[..., Awaitable[None]]:
    """Create the job with its VM, and write its status as its workflow does."""
    await apply(vm)
    await apply(job)

    async def write(**status: Any) -> None:
        where = path(names.API_VERSION, names.JOB_PLURAL, namespace, "train", "status")
        await cluster.patch(where, {"status": {"jobID": "0a1b2c3d", **status}})

    return write


def ended(kind: str, reason: str = "Done") -> Json:
    return {
        "type": kind,
        "status": "True",
        "reason": reason,
        "message": "",
        "lastTransitionTime": "2026-01-31T12:00:00Z",
    }


async def test_status_lists_and_shows_and_gives_json(outlast: Run, told: Any) -> None:
    await told(state="Running 1/1", jobStatuses=[{"name": "train-r0", "replica": 0, "phase": "Running"}])
    assert "Running 1/1" in (await outlast("status")).out
    assert "replica 0  Running" in (await outlast("status", "train")).out
    assert json.loads((await outlast("status", "train", "-o", "json")).out)["status"]["state"] == "Running 1/1"


async def test_what_is_not_there_has_its_own_exit_code(outlast: Run, namespace: str) -> None:
    said = await outlast("status", "nobody")
    assert (said.code, said.out) == (3, "")
    assert f"there is no SpotInstanceJob {namespace}/nobody" in said.err
    assert (await outlast("-n", "kube-system", "status")).code == 3  # no right to it


@pytest.mark.parametrize(("kind", "code"), [("Completed", 0), ("Failed", 1)])
async def test_wait_ends_with_the_job(outlast: Run, told: Any, kind: str, code: int) -> None:
    waiting = asyncio.create_task(outlast("wait", "train", "--timeout", "2m"))
    await told(state="Running 1/1")
    await told(state=kind, conditions=[ended(kind)])
    said = await waiting
    assert said.code == code
    assert kind in said.out + said.err


async def test_wait_gives_up_in_time(outlast: Run, told: Any) -> None:
    await told(state="Looking for a GPU")
    said = await outlast("wait", "train", "--timeout", "1s")
    assert said.code == 4
    assert "has not ended in time: Looking for a GPU" in said.err


async def test_a_request_is_answered(outlast: Run, told: Any, cluster: Kube, namespace: str) -> None:
    asking = asyncio.create_task(outlast("checkpoint", "train"))
    where = path(names.API_VERSION, names.JOB_PLURAL, namespace, "train")
    while True:  # as the bridge hears of it
        annotations = (await cluster.get(where))["metadata"].get("annotations") or {}
        if value := annotations.get(names.ANNOTATION_REQUEST):
            break
        assert not asking.done(), asking.result()
        await asyncio.sleep(0.05)
    assert value.startswith("checkpoint-now ")
    await told(request={"value": value, "state": "Accepted", "message": "waits for its dump"})
    await told(request={"value": value, "state": "Done", "message": "checkpoint 7 at step 1200"})
    said = await asking
    assert (said.code, said.out.splitlines()[-1]) == (0, "checkpoint 7 at step 1200")


async def test_edits_reach_the_spec(outlast: Run, told: Any, cluster: Kube, namespace: str) -> None:
    where = path(names.API_VERSION, names.JOB_PLURAL, namespace, "train")
    assert (await outlast("suspend", "train")).code == 0
    assert (await cluster.get(where))["spec"]["suspend"] is True
    assert (await outlast("resume", "train")).code == 0
    assert (await cluster.get(where))["spec"]["suspend"] is False
    assert (await outlast("scale", "train", "3")).code == 0
    assert (await cluster.get(where))["spec"]["replicas"] == 3
    assert (await outlast("scale", "train", "99")).code == 2


async def test_costs_of_jobs_that_are_gone_are_kept(outlast: Run, told: Any, cluster: Kube, namespace: str) -> None:
    record = CostRecord(
        job="old", job_id="ffffffff", ended="Completed", ended_at=datetime(2026, 1, 30, tzinfo=UTC), usd=2.5,
        on_demand_usd=10, vm_hours=5, gpu_hours=5,
    )  # fmt: skip
    data = {"ffffffff": record.model_dump_json(by_alias=True), "broken": "no JSON"}
    meta = {"name": names.costs_name(record.ended_at), "labels": {names.LABEL_COSTS: "true"}}
    await cluster.create(path("v1", "configmaps", namespace), {"metadata": meta, "data": data})
    await told(cost={"usd": 1.5, "onDemandUsd": 6, "vmHours": 3, "gpuHours": 3})
    rows = json.loads((await outlast("cost", "-o", "json")).out)
    assert [(row["job"], row["usd"]) for row in rows] == [("old", 2.5), ("train", 1.5)]
    assert "$4.00" in (await outlast("cost")).out
    assert "old" not in (await outlast("cost", "--since", "7d")).out
    assert (await outlast("cost", "--since", "yesterday")).code == 2


async def test_logs_that_were_saved_are_printed(outlast: Run, told: Any, cluster: Kube, namespace: str) -> None:
    text = "=== 0a1b2c3d replica 0 incarnation 0 ===\nstep=1\n"
    await cluster.create(path("v1", "configmaps", namespace), {"metadata": {"name": "kept"}, "data": {"log": text}})
    entry = {"name": "train-r0", "replica": 0, "phase": "Succeeded", "log": f"configmap/{namespace}/kept"}
    await told(jobStatuses=[entry], conditions=[ended("Completed")])
    assert (await outlast("logs", "train")).out == text
    assert (await outlast("logs", "train", "-r", "5")).code == 3


async def test_a_plan_stores_nothing_and_says_what_is_refused(
    outlast: Run, cluster: Kube, namespace: str, job: Manifest, vm: Manifest, tmp_path: Path
) -> None:
    # The role edit may not write SpotInstanceVMs: whoever writes one is root on its machines.
    await cluster.create(path(names.API_VERSION, names.VM_PLURAL, namespace), vm)
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(job))
    said = await outlast("plan", "-f", str(file))
    assert said.code == 0, said.out + said.err
    for part in ("2 replicas", "n1-standard-4", "us-central1-a", "0.19", "0.38"):
        assert part in said.out, part
    assert await cluster.find(path(names.API_VERSION, names.JOB_PLURAL, namespace, "train")) is None
    file.write_text(yaml.safe_dump({**job, "spec": {**job["spec"], "replicas": 99}}))
    refused = await outlast("plan", "-f", str(file))
    assert refused.code == 1
    assert "spec.replicas" in refused.out
    file.write_text("a: [")
    assert (await outlast("plan", "-f", str(file))).code == 2


async def test_a_timeline_becomes_a_page(outlast: Run, told: Any, tmp_path: Path) -> None:
    await told(
        state="Running 1/1",
        history=[{"replica": 0, "incarnation": 0, "node": "vm-a", "startedAt": "2026-01-31T12:00:00Z"}],
        conditions=[ended("Accepted")],
    )
    said = await outlast("timeline", "train")
    assert "replica 0, incarnation 0 on vm-a from the beginning" in said.out
    assert "Accepted=True" in said.out
    file = tmp_path / "train.html"
    assert (await outlast("timeline", "train", "--html", str(file))).code == 0
    assert "<svg" in file.read_text()


async def test_a_doctor_says_what_is_missing(outlast: Run, control_plane: Any) -> None:
    async def as_admin(*options: str) -> str:
        return (await outlast("--kubeconfig", str(control_plane.kubeconfig), "doctor", *options)).out

    said = await outlast("--kubeconfig", str(control_plane.kubeconfig), "doctor")
    assert said.code == 1  # nothing runs here
    found = {each["part"]: each for each in json.loads(await as_admin("-o", "json"))}
    for part in ("Kubernetes", "CRD spotinstancejobs.training.training.dcnlab.com", "policies", "role outlast-worker"):
        assert found[part]["well"], found[part]
    for part in ("worker", "bridge", "settings"):
        assert not found[part]["well"], found[part]
    assert found["Temporal"]["told"].startswith("not asked")
    assert "→" in said.out
    kubectl = control_plane.kubectl
    await kubectl("delete", "clusterrolebinding", "outlast-agent")
    await kubectl("delete", "validatingadmissionpolicybinding", "outlast-agent")
    try:
        found = {each["part"]: each for each in json.loads(await as_admin("-o", "json"))}
    finally:
        await kubectl("apply", "--server-side", "--force-conflicts", "-k", REPOSITORY / "deploy/overlays/sandbox")
    assert found["role outlast-agent"]["told"] == "is not bound"
    assert found["policies"]["told"] == "lack outlast-agent"
    assert "kubectl apply" in found["policies"]["remedy"]


async def test_a_doctor_looks_at_each_machine(outlast: Run, control_plane: Any, cluster: Kube) -> None:
    """An old kubelet, one whose agent is missing, and a runtime that makes no checkpoints."""
    labels = {names.LABEL_MANAGED_BY: names.MANAGED_BY}
    where = path("v1", "nodes")
    info = {"kubeletVersion": "v1.29.3", "containerRuntimeVersion": "containerd://1.7.28"} | dict.fromkeys(
        ("machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "kubeProxyVersion", "operatingSystem",
         "architecture"), ""
    )  # fmt: skip
    await cluster.create(where, {"metadata": {"name": "bought-1", "labels": labels}})
    await cluster.patch(f"{where}/bought-1/status", {"status": {"nodeInfo": info}})
    try:
        said = await outlast("--kubeconfig", str(control_plane.kubeconfig), "doctor", "-o", "json")
    finally:
        await cluster.delete(f"{where}/bought-1")
    found = {each["part"]: each for each in json.loads(said.out)}
    assert found["agent on bought-1"]["told"] == "is missing"
    told = found["checkpoints on bought-1"]["told"]
    assert "ContainerCheckpoint is off by default" in told
    assert "containerd makes none before 2.0" in told


async def test_a_bundle_has_what_the_owner_may_read_and_no_secret(
    outlast: Run, told: Any, cluster: Kube, namespace: str, tmp_path: Path
) -> None:
    secret = "hunter2-and-more"
    container = {"name": "train", "image": "busybox", "env": [{"name": "WANDB_API_KEY", "value": secret}]}
    template = {"spec": {"template": {"spec": {"containers": [container]}}}}
    note = {"example.com/note": f"log in with password={secret}"}
    hostile = {"metadata": {"annotations": note}, "spec": {"jobTemplate": template}}
    await cluster.patch(path(names.API_VERSION, names.JOB_PLURAL, namespace, "train"), hostile)
    await told(state="Running 1/1", message=f"the training says {secret}")
    await cluster.create(path("v1", "secrets", namespace), {"metadata": {"name": "s"}, "stringData": {"k": secret}})
    file = tmp_path / "train.tar.gz"
    said = await outlast("support-bundle", "train", "--output", str(file))
    assert said.code == 0, said.err
    assert "could not be had" in said.out  # Outlast's own logs, among others
    assert file.stat().st_mode & 0o077 == 0
    with tarfile.open(file) as archive:
        found = {each.name: archive.extractfile(each).read().decode() for each in archive}  # type: ignore[union-attr]
    assert {"train/README.txt", "train/job.yaml", "train/vm.yaml", "train/doctor.json"} <= found.keys()
    assert yaml.safe_load(found["train/job.yaml"])["status"]["state"] == "Running 1/1"
    assert "pods of outlast-system" in found["train/README.txt"]
    assert secret not in "".join(found.values())
    assert base64.b64encode(secret.encode()).decode() not in "".join(found.values())


async def test_a_bundle_of_an_operator_has_settings_and_histories(
    outlast: Run, told: Any, control_plane: Any, cluster: Kube, namespace: str, temporal: TemporalServer,
    recording: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    secret, message = "hunter2-and-more", {"env": [{"name": "HF_TOKEN", "value": "hunter2-and-more"}]}
    await told()
    start = JobStart(namespace=namespace, name="train", uid="u", cluster_id="c", job_id="0a1b2c3d")
    running = await recording.start_workflow(
        names.JOB_WORKFLOW, start, id=f"{namespace}/train", task_queue=names.TASK_QUEUE
    )
    await running.signal("edited", message)
    settings = path("v1", "configmaps", "outlast-system")
    data = {"TEMPORAL_API_KEY": secret, "TEMPORAL_ADDRESS": "t:1"}
    await cluster.create(settings, {"metadata": {"name": "outlast-settings"}, "data": data})
    monkeypatch.setenv("TEMPORAL_ADDRESS", temporal.address)
    monkeypatch.setattr(service, "DIAGNOSIS", timedelta(seconds=1))  # nobody answers here
    file = tmp_path / "b.tgz"
    said = await outlast(
        "--kubeconfig", str(control_plane.kubeconfig), "-n", namespace, "support-bundle", "train", "-o", str(file)
    )
    await cluster.delete(f"{settings}/outlast-settings")
    await running.terminate()
    assert said.code == 0, said.err
    with tarfile.open(file) as archive:
        found = {each.name: archive.extractfile(each).read().decode() for each in archive}  # type: ignore[union-attr]
    assert yaml.safe_load(found["b/system/settings.yaml"])["data"]["TEMPORAL_ADDRESS"] == "t:1"
    events = json.loads(found[f"b/histories/{namespace}-train-0.json"])["events"]
    told_of = [each.get("workflowExecutionSignaledEventAttributes") for each in events]
    payload = next(each for each in told_of if each)
    heard = base64.b64decode(payload["input"]["payloads"][0]["data"]).decode()
    assert json.loads(heard) == {"env": [{"name": "HF_TOKEN", "value": "[redacted]"}]}
    assert secret not in "".join(found.values())


async def test_a_cluster_that_is_not_there_is_told_of(outlast: Run, tmp_path: Path) -> None:
    said = await outlast("--kubeconfig", str(tmp_path / "none"), "status")
    assert said.code == 1
    assert "set KUBECONFIG" in said.err
