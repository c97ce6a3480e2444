"""No string that anybody writes leads anywhere: each field of both CRDs, and each string that an activity takes.

The fields come from the schemas and the activities from their signatures, so later ones are tested too. Servers in
between write down what the API server, the cloud, the registry and the bucket are asked.
"""

import base64
import contextlib
import json
import re
from collections.abc import AsyncIterator, Iterator
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import asyncssh
import pytest
import yaml
from aiohttp import ClientError
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import ValidationError
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from activities import signatures as act
from activities.cloud_errors import CloudError
from activities.compute import activities as compute_module
from activities.join import activities as join_module
from activities.join.ssh import Unreachable
from activities.join.tokens import Tokens
from activities.network.networks import ALLOWED
from activities.signatures import ALL
from api import names
from api.cost import CostRecord
from api.crd import KINDS, Kind, schema
from api.market import Candidate
from api.messages import VmStart
from api.names import is_segment
from api.report import JobReport
from api.spot_instance_job import TEMPLATE_REF, VM_REF, SpotInstanceJobSpec, SpotInstanceJobStatus
from api.spot_instance_vm import ProvisionedInstance, SpotInstanceVMSpec
from api.sweep import Stuck
from api.views import RestorePoint
from clients.kube import Kube, KubeError, connect
from sandbox.temporal_server import TemporalServer
from tests.activities.rights import TwoFaced, acting
from tests.activities.wiretap import ApiWiretap, Request, Wiretap, bucket, gce, registry
from tests.activities.world import JOB_ID, World, run
from tests.hostile import HOSTILE
from worker.registration import activities as all_activities
from worker.settings import from_environment

OBJECTS = Path(__file__).parents[1] / "crds" / "first" / "objects.yaml"
TRAVERSAL, *OTHERS = HOSTILE
AT_A_TIME = 2
"""How many of the other hostile values each string gets, in turn."""
EXPECTED = (ApplicationError, KubeError, CloudError, ConnectionError, ClientError, Unreachable, TimeoutError, RPCError)
"""What an activity may end with: errors that a workflow understands. A bug is none of these."""
DEFINITION = "__temporal_activity_definition"
Path_ = tuple[str | int, ...]


# --- what is written, and where


def strings(found: Any, at: Path_ = ()) -> Iterator[Path_]:
    """List each string of a document."""
    if isinstance(found, dict):
        for key, value in found.items():
            yield from strings(value, (*at, key))
    elif isinstance(found, list):
        for number, value in enumerate(found):
            yield from strings(value, (*at, number))
    elif isinstance(found, str):
        yield at


def string_fields(schema: Any, at: Path_ = ()) -> Iterator[Path_]:
    """List each field of a schema that takes any kind of string; of lists the first entry."""
    short = "pattern" in schema and "type" not in schema  # a name alone, or an object with a name
    string = schema.get("type") == "string" and schema.get("format") != "date-time"
    if short or (string and "enum" not in schema):
        yield at
    for name, inner in schema.get("properties", {}).items():
        yield from string_fields(inner, (*at, name))
    if "items" in schema:
        yield from string_fields(schema["items"], (*at, 0))


def example(schema: Any, given: Any = None) -> Any:
    """Make a document that has every field: as ``given``, or its default, or anything of its type."""
    if schema.get("type") == "object" and "properties" in schema:
        known = given or {}
        return {**known, **{key: example(each, known.get(key)) for key, each in schema["properties"].items()}}
    if schema.get("type") == "array":
        return [example(schema["items"], each) for each in given or [None]]
    if given is not None:
        return given
    samples = {"string": "x", "integer": 1, "number": 1, "boolean": True, "object": {}}
    return schema.get("default", schema.get("enum", [samples.get(schema.get("type"))])[0])


def put(document: Any, at: Path_, value: Any) -> Any:
    """Copy a document with this value at this place."""
    changed = deepcopy(document)
    if at[0] == TEMPLATE_REF:  # it replaces the other one
        changed[TEMPLATE_REF] = changed.pop(VM_REF)
    node = changed
    for step in at[:-1]:
        node = node[step]
    node[at[-1]] = value
    return changed


def hostile_values(number: int) -> list[str]:
    """Return the value that leads into another namespace, and some of the others in turn."""
    return [TRAVERSAL, *(OTHERS[(number * AT_A_TIME + each) % len(OTHERS)] for each in range(AT_A_TIME))]


def documents(namespace: str, registry: str = "https://gcr.io", endpoint: str = "https://minio") -> tuple[Any, Any]:
    """Make specs of a SpotInstanceJob and a SpotInstanceVM that fill every field."""
    given = {each["kind"]: each["spec"] for each in yaml.safe_load_all(OBJECTS.read_text())}
    job, vm = given["SpotInstanceJob"], given["SpotInstanceVM"]
    job |= {"spotInstanceVMRef": {"name": "spot"}, "outputs": ["/out"], "keepFailedFor": "1h"}
    job |= {"startDeadline": "2h", "stallTimeout": "1h"}
    job["gcpCredentialsSecretRef"] = {"name": "gcp", "namespace": namespace}
    config = job["checkpointConfig"]
    config["checkpointImageRepo"] = f"{registry.partition('://')[2]}/team/repo"
    config["checkpointRepoCredentialRef"] = {"name": "registry", "namespace": namespace}
    storage = {"type": "s3", "bucket": "bucket", "endpoint": endpoint, "region": "us-east-1"}
    config["checkpointStorage"] |= {**storage, "credentialsSecretRef": {"name": "s3"}}
    vm["gcp"] |= {"zones": ["us-central1-b"], "preemptionNoticeDuration": "120s"}
    vm["gcp"]["alternatives"] = [
        {
            "zone": "us-central1-c",
            "machineType": "n1-standard-8",
            "gpu": vm["gpu"],
            "diskSizeGB": 100,
            "diskType": "pd-ssd",
        }
    ]
    vm["onDemandFallback"] = {"after": "1h", "maxReplicas": 1, "pricePerHour": "1.5"}
    vm["sshKeySecretRef"] = vm["kubeadmJoinConfig"]["tokenSecretRef"] = {"name": "ssh"}
    vm["kubeadmJoinConfig"]["criSocket"] = "unix:///run/containerd/containerd.sock"
    job, vm = (
        example(schema(kind)["properties"]["spec"], each) for kind, each in zip(KINDS[:2], (job, vm), strict=True)
    )
    del job["gang"]  # it names nothing, and lets a job have no images
    del job[TEMPLATE_REF]
    return job, vm


# --- the world that is listened to


class Stage:
    """A job and a VM that fill every field, all activities as the worker has them, and the servers that listen."""

    def __init__(self, world: World, taps: dict[str, Wiretap], kube: Kube, client: Client, key_file: Path) -> None:
        self.world, self.taps, self.kube = world, taps, kube
        api = taps["api"]
        assert isinstance(api, ApiWiretap)
        self._api = api
        environment = {"OUTLAST_GCE_ENDPOINT": taps["gce"].url, "OUTLAST_SSH_KEY_FILE": str(key_file)}
        environment |= {ALLOWED: "127.0.0.0/8"}
        settings = from_environment({**environment, "OUTLAST_NAMESPACE": world.job.namespace})
        methods = all_activities(client, kube, settings)
        self.activities = {getattr(method, DEFINITION).name: method for method in methods}
        self.job, self.vm = documents(world.job.namespace, taps["registry"].url, taps["bucket"].url)

    def show(self, *, job: Any = None, vm: Any = None, vm_status: Any = None) -> None:
        """Show objects as if they had been stored like this."""
        self._api.shown = {
            self.world.job_path: {"spec": self.job if job is None else job},
            self.world.vm_path: {"spec": self.vm if vm is None else vm, "status": vm_status or {}},
        }

    def requests(self) -> dict[str, Any]:
        """Make a benign input for each activity."""
        job, spec = self.world.job, SpotInstanceJobSpec.model_validate(self.job)
        vm_spec, config = SpotInstanceVMSpec.model_validate(self.vm), spec.checkpoint_config
        name, now = names.vm_name(f"{JOB_ID}-r0-v1", 1), datetime.now(UTC)
        cloud, storage = spec.gcp_credentials_secret_ref, config.checkpoint_storage
        candidate = Candidate(zone=vm_spec.gcp.zone, machine_type=vm_spec.gcp.machine_type, gpu=vm_spec.gpu)
        project, where = vm_spec.gcp.project, job.namespace
        vm = act.VmRef(project=project, zone=candidate.zone, name=name, namespace=where, credentials=cloud)
        join = act.StartJoin(
            vm=vm, spec=vm_spec, address="127.0.0.1", job_id=JOB_ID, cluster_id="c", provider_id=f"gce://p/z/{name}",
            namespace=where, ssh_key=vm_spec.ssh_key_secret_ref, workflow=f"{where}/{job.name}",
        )  # fmt: skip
        start = VmStart(
            key=f"{JOB_ID}-r0-v1", cluster_id="c", job_id=JOB_ID, replica=0, namespace=where, job_name=job.name,
            job_uid=job.uid, vm_name="spot", spec=vm_spec, credentials=cloud, ssh_key=vm_spec.ssh_key_secret_ref,
            found=[f"{candidate.zone}/{name}"],
        )  # fmt: skip
        ref, node = act.ReplicaRef(job=job, replica=0, incarnation=1), act.NodeRef(name=name)
        image = f"{config.checkpoint_image_repo}:{JOB_ID}-p000000000001-1"
        point = RestorePoint(images={"train": image}, progress=1, created_at=now)
        report = JobReport(
            namespace=where, name=job.name, uid=job.uid, job_id=JOB_ID, cluster_id="c", spec_sha256="0",
            spot_instance_vm="spot", ended="Completed", written_at=now,
        )  # fmt: skip
        sweep = act.SweepRequest(cluster_id="c", namespace=where)
        stuck = Stuck(
            workflow_id=f"{where}/{job.name}",
            workflow_type=names.JOB_WORKFLOW,
            problem="x",
            namespace=where,
            job_name=job.name,
        )
        containers, asked = ["train", "side"], {"job": job, "config": config, "cloud_credentials": cloud}
        secret_refs = [each for each in (cloud, config.checkpoint_repo_credential_ref) if each]
        incarnation = act.CreateReplica(
            job=job,
            job_template=spec.job_template,
            replica=0,
            incarnation=1,
            nodes=[name],
            bought=True,
            restore=point,
            image_pull=config.checkpoint_repo_credential_ref,
            storage=storage,
            checkpoint_image_repo=config.checkpoint_image_repo,
            cloud_credentials=cloud,
        )
        return {
            "load_job": act.LoadJob(**job.model_dump()),
            "patch_spec": act.PatchSpec(job=job, replicas=2),
            "take_stock": job,
            "release_finalizers": act.ReleaseFinalizers(job=job, vm_name="spot", secrets=secret_refs),
            "preflight": act.PreflightRequest(job=job, spec=spec, vm_spec=vm_spec, candidates=[candidate]),
            "check_machines": act.PreflightRequest(job=job, spec=spec, vm_spec=vm_spec, candidates=[candidate]),
            "diagnose": act.Diagnose(
                vms=[
                    act.DiagnosedVm(
                        namespace=where, name="spot", spec=vm_spec, credentials=cloud, candidates=[candidate]
                    )
                ]
            ),
            "report": act.Report(
                job=job,
                events=[act.JobEvent(reason="Tried", message="said", at=now)],
                status=SpotInstanceJobStatus(workflow_id="w", job_id=JOB_ID),
            ),
            "record_cost": act.RecordCost(
                namespace=where,
                record=CostRecord(
                    job=job.name,
                    job_id=JOB_ID,
                    ended="Completed",
                    ended_at=now,
                    usd=1,
                    on_demand_usd=3,
                    vm_hours=1,
                    gpu_hours=1,
                ),
            ),
            "write_vm_entry": act.WriteVmEntry(
                namespace=where, vm_name="spot", name=name, entry=ProvisionedInstance(name=name, zone=candidate.zone)
            ),
            "find_capacity": act.FindCapacity(job=job, job_template=spec.job_template, avoid=[name]),
            "find_strangers": act.FindStrangers(job=job, job_template=spec.job_template, node=name),
            "create_replica": incarnation,
            "check_pod": act.CheckPod(incarnation=incarnation),
            "observe_replica": ref,
            "look_at_vm": act.LookAtVm(vm=vm, node=act.NodeRef(name="node-1"), job=job),
            "look_at_replicas": act.LookAtReplicas(job=job, replicas=[(0, 0)], nodes=["node-1"]),
            "read_start": ref,
            "find_cause": act.FindCause(
                job=job, job_template=spec.job_template, reason="ImagePullBackOff", restore=point
            ),
            "stop_replica": act.StopReplica(ref=ref.model_copy(update={"incarnation": 9}), delete_job=True),
            "set_budget": act.SetBudget(job=job, exists=True),
            "save_logs": act.SaveLogs(ref=ref, storage=storage, cloud=cloud),
            "shorten_logs": act.ShortenLogs(job=job, replicas=[0], storage=storage, cloud=cloud),
            "write_report": act.WriteReport(report=report, storage=storage, cloud=cloud),
            "read_progress": act.ReadProgress(ref=ref, log_pattern=r"step=(\d+)"),
            "save_outputs": act.SaveOutputs(
                ref=ref,
                paths=["/out"],
                storage=storage,
                cloud=cloud,
                vm=vm,
                ssh_user="outlast",
                ssh_key=vm_spec.ssh_key_secret_ref,
            ),
            "create_checkpoint": act.CreateCheckpoint(
                job=job, number=1, replica=0, incarnation=1, config=config, lineage_seconds=1, unix=1
            ),
            "observe_checkpoint": act.CheckpointRef(job=job, number=1),
            "delete_checkpoint": act.CheckpointRef(job=job, number=2),
            "find_image": act.FindImage(**asked, containers=containers, which="Ours"),
            "pin_images": act.PinImages(**asked, point=point),
            "tidy_checkpoints": act.TidyCheckpoints(**asked, pin=[point], backups=[3], images=[[image]]),
            "delete_images": act.DeleteImages(**asked, images=[image]),
            "find_stored": act.FindStored(job=job, storage=storage, cloud=cloud, restore_from="team-a/run"),
            "create_vm": act.CreateVm(
                vm=vm, spec=vm_spec, candidate=candidate, ssh_public_key_of=vm_spec.ssh_key_secret_ref
            ),
            "observe_create": act.ObserveCreate(vm=vm, operation="operation-1"),
            "observe_vm": vm,
            "delete_vm": vm,
            "read_price": act.ReadPrice(project=project, candidate=candidate, namespace=where, credentials=cloud),
            "find_preempted": act.FindPreempted(
                project=project, zones=[candidate.zone], since=now, namespace=where, credentials=cloud
            ),
            "watch_preempted": act.WatchPreempted(
                project=project,
                zones=[candidate.zone],
                since=now,
                askers=[act.Asker(namespace=where, credentials=cloud)],
                every=0.1,
                seconds=0.5,
            ),
            "start_join": join,
            "observe_join": join,
            "revoke_token": act.TokenRef(token_id="abcdef"),
            "answer_certificates": act.AnswerCertificates(job=job, vm=vm),
            "observe_node": node,
            "prepare_node": act.PrepareNode(node=node, labels={"training.dcnlab.com/job": JOB_ID}, annotations={}),
            "cordon_and_drain": node,
            "delete_node": act.NodeRef(name="none", uid="none"),
            "ensure_vm": start,
            "adopt_orphan": start,
            "check_owner": act.CheckOwner(job=job),
            "find_orphans": sweep,
            "find_orphaned_objects": sweep,
            "find_orphaned_claims": sweep,
            "find_orphaned_holds": sweep,
            "find_orphaned_images": sweep,
            "find_stuck": sweep,
            "tell_stuck": act.TellStuck(stuck=[stuck], well_again=[stuck], at=now),
            "remove_taint": act.OrphanedTaint(node=act.NodeRef(name=name, uid="none"), taint="a", value="b"),
            "remove_claim": act.OrphanedClaim(name="none", version="1"),
            "sound_alarm": act.SweepAlarm(namespace=where, message="told", at=now),
        }

    async def tried(self, name: str, request: Any, bounds: "Bounds") -> list[str]:
        """Run an activity with a hostile input, and return what is wrong with what it did."""
        try:
            heard = await self.call(name, request)
        except Exception as error:
            return [f"ends with {type(error).__name__}: {error}"]
        return list(bounds.broken_by(heard))

    async def call(self, name: str, request: Any) -> list[tuple[str, Request]]:
        """Run an activity, and return whom it asked for what."""
        for tap in self.taps.values():
            tap.heard()
        with contextlib.suppress(*EXPECTED):
            await run(self.activities[name], request)
        if name == "start_join":  # the machine does not answer, so this finds what would be sent to it
            with acting(), contextlib.suppress(*EXPECTED):
                await Tokens(self.kube).discovery(request)
        return [(who, request) for who, tap in self.taps.items() for request in tap.heard()]


@pytest.fixture
async def stage(
    world: World, control_plane: Any, worker: Path, temporal: TemporalServer, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Stage]:  # fmt: skip
    monkeypatch.setattr(join_module, "WATCH_SECONDS", 0)
    monkeypatch.setattr(compute_module, "OBSERVE_SECONDS", 0)
    key_file = tmp_path / "id_ed25519"
    ssh_key = asyncssh.generate_private_key("ssh-ed25519")
    ssh_key.write_private_key(key_file)
    api = ApiWiretap(control_plane.url, control_plane.ca_file)
    client = await Client.connect(temporal.address, data_converter=pydantic_data_converter)
    async with (
        api.listening(),
        Wiretap(gce).listening() as cloud,
        Wiretap(registry).listening() as images,
        Wiretap(bucket).listening() as storage,
    ):
        taps: dict[str, Wiretap] = {"api": api, "gce": cloud, "registry": images, "bucket": storage}
        admin = await connect(str(control_plane.kubeconfig))
        as_worker = await connect(str(api.kubeconfig(worker, tmp_path / "tapped")))
        async with TwoFaced(admin, as_worker) as kube:
            await furnish(World(kube, world.job), ssh_key.export_private_key().decode())
            yield Stage(World(kube, world.job), taps, kube, client, key_file)


async def furnish(world: World, ssh_key: str) -> None:
    """Make the Secrets that the job names, a pod of it that runs, and its node."""
    key = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    account = {"client_email": "a@b", "private_key": key.decode(), "private_key_id": "1", "token_uri": "http://x", "type": "service_account"}  # fmt: skip # noqa: E501
    await world.secret("gcp", **{"credentials.json": json.dumps(account)})
    await world.secret("registry", username="u", password="p")
    await make(world, "secrets", "s3", data={"AWS_ACCESS_KEY_ID": b64("a"), "AWS_SECRET_ACCESS_KEY": b64("b")})
    await make(world, "secrets", "ssh", data={"ssh-privatekey": b64(ssh_key), "token": b64("t")})
    name = names.vm_name(f"{JOB_ID}-r0-v1", 1)
    labels = {names.LABEL_JOB: JOB_ID, names.LABEL_REPLICA: "0", names.LABEL_INCARNATION: "1"}
    containers = [{"name": each, "image": "x"} for each in ("train", "side")]
    await make(world, "pods", "runs", labels=labels, spec={"nodeName": name, "containers": containers})
    await world.kube.patch(f"{world.path('v1', 'pods', 'runs')}/status", {"status": {"phase": "Running"}})


async def make(world: World, plural: str, name: str, labels: Any = None, **body: Any) -> None:
    await world.kube.create(world.path("v1", plural), {"metadata": {"name": name, "labels": labels or {}}, **body})


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


# --- what is looked at


class Bounds:
    """The bounds of requests: the job's own namespace, and what the activity asks for with a benign input."""

    def __init__(self, namespace: str, benign: list[tuple[str, Request]]) -> None:
        self._own = re.compile(rf"/apis?/[^/]+(/[^/]+)?/namespaces/{namespace}/.*")
        self._elsewhere = {(who, request.method, request.path) for who, request in benign}
        self._asks = {(who, name) for who, request in benign for name, _ in request.query}
        self._namespaces = {each for who, request in benign if who == "api" for each in told(request.body)}
        self._namespaces |= {namespace, ""}

    def broken_by(self, heard: list[tuple[str, Request]]) -> Iterator[str]:
        """List the requests that lead elsewhere."""
        for who, request in heard:
            plain = is_quoted if who == "bucket" else is_segment  # keys may contain what no name may
            if not all(map(plain, request.path[1:].rstrip("/").split("/"))):
                yield f"is no path: {who} {request}"
            if not {(who, name) for name, _ in request.query} <= self._asks:
                yield f"asks for more: {who} {request}"
            own = who != "api" or self._own.fullmatch(request.path) is not None
            if not own and (who, request.method, request.path) not in self._elsewhere:
                yield f"is elsewhere: {request}"
            if who == "api" and not set(told(request.body)) <= self._namespaces:
                yield f"names another namespace: {request} {request.body}"
            if who == "gce" and request.method == "POST":
                yield from (f"is no path: {url}" for url in parts(request.body) if LEADS.search(url))


def is_quoted(part: str) -> bool:
    """True if this is one segment of a URL, whatever is encoded in it."""
    return re.fullmatch(r"([A-Za-z0-9._~!-]|%[0-9A-F]{2})+", part) is not None and unquote(part) not in (".", "..")


LEADS = re.compile(r"(^|/)[.][.]?(/|$)|[\s?#%]")


def told(body: Any) -> Iterator[str]:
    """List the namespaces that a body names."""
    if isinstance(body, dict):
        for key, value in body.items():
            if key == "namespace" and isinstance(value, str):
                yield value
            elif key not in ("template", "jobTemplate"):
                yield from told(value)
    elif isinstance(body, list):
        for each in body:
            yield from told(each)


def parts(body: Any) -> Iterator[str]:
    """List what GCE takes for partial URLs in the body of an instance."""
    urls = {"machineType", "acceleratorType", "diskType", "network", "subnetwork", "sourceImage"}
    for at in strings(body or {}):
        if at[-1] in urls:
            found = body
            for step in at:
                found = found[step]
            yield found


async def bounds_of(stage: Stage) -> dict[str, Bounds]:
    """Find what each activity asks for if nobody is hostile."""
    stage.show()
    requests, namespace = stage.requests(), stage.world.job.namespace
    return {name: Bounds(namespace, await stage.call(name, request)) for name, request in requests.items()}


# --- the tests


FREE = {
    "startupScript": "a script",
    "kubeadmJoinConfig.caCertHash": "a condition reports one that is none",
    "checkpointConfig.checkpointStorage.type": "compared with the three that there are",
    "jobTemplate.spec.completionMode": "the API server's to judge, as all of the template: load_job asks it",
    "jobTemplate.spec.template.spec.containers.name": "the same",
    "jobTemplate.spec.template.spec.containers.image": "the same",
}
"""Fields that may contain anything, and why."""
LEADING = [value for value in HOSTILE if ".." in value or min(value) < " "]


async def test_admission_takes_no_name_that_leads_elsewhere(world: World) -> None:
    """Each string field of both schemas gets each hostile value."""
    admitted = set()
    job, vm = documents("team")
    for kind, base in zip(KINDS, (job, vm, vm), strict=True):
        assert await is_admitted(world, kind, base)
        for at in string_fields(schema(kind)["properties"]["spec"]):
            if any([await is_admitted(world, kind, put(base, at, value)) for value in LEADING]):
                admitted.add(".".join(str(step) for step in at if step != 0))
    assert admitted == set(FREE)


async def is_admitted(world: World, kind: Kind, spec: Any) -> bool:
    body = {"apiVersion": names.API_VERSION, "kind": kind.name, "metadata": {"name": "tried"}, "spec": spec}
    try:
        await world.kube.create(world.path(names.API_VERSION, kind.plural), body, dryRun="All")
    except KubeError as error:
        if error.status != 422:
            raise
        return False
    return True


async def test_no_field_leads_elsewhere(stage: Stage) -> None:
    """Objects look as if they had been stored so. They are searched by their names, and deleted by their status."""
    requests, number, broken = stage.requests(), 0, list[str]()
    reads, of_status = ("load_job", "find_orphans", "find_orphaned_images"), ("take_stock", "find_orphans")
    bounds = await bounds_of(stage)
    job, vm = (schema(kind)["properties"] for kind in KINDS[:2])
    entry = {"name": names.vm_name(f"{JOB_ID}-r0-v1", 1), "zone": "us-central1-a"}
    status = example(vm["status"], {"provisionedInstances": [entry]})
    shown = [("job", stage.job, job["spec"]), ("vm", stage.vm, vm["spec"]), ("vm_status", status, vm["status"])]
    for what, base, its_schema in shown:
        for at in string_fields(its_schema):
            number += 1
            for value in hostile_values(number):
                stage.show(**{what: put(base, at, value)})
                readers = of_status if what == "vm_status" else reads
                for name in readers if value == TRAVERSAL else readers[:1]:
                    why = f"{name} with {what} {'.'.join(map(str, at))}={value[:60]!r}"
                    found = await stage.tried(name, requests[name], bounds[name])
                    broken += [f"{why} {each}" for each in found]
                if what == "vm_status" and at[-1] in ("name", "zone") and at[0] == "provisionedInstances":
                    assert (await run(stage.activities["take_stock"], stage.world.job)).machines == []
    assert not broken, "\n".join(broken)
    stage.show(vm_status=status)
    assert (await run(stage.activities["take_stock"], stage.world.job)).machines == [f"{entry['zone']}/{entry['name']}"]


async def test_no_string_of_an_input_leads_elsewhere(stage: Stage) -> None:
    """Each string that any activity takes, with its input's names, labels and container names."""
    requests, number, broken = stage.requests(), 0, list[str]()
    of_temporal = {"ask_market", "ask_hazard", "tell_market"}  # it knows no paths, and no worker answers here
    assert set(requests) | of_temporal == {each.name for each in ALL}, "give each activity an input here"
    bounds = await bounds_of(stage)
    for name, request in requests.items():
        document = request.model_dump(mode="json", by_alias=True)
        for at in strings(document):
            number += 1
            for value in hostile_values(number):
                try:
                    hostile = type(request).model_validate(put(document, at, value))
                except ValidationError:
                    continue  # Temporal would not pass it to the activity either
                why = f"{name} {'.'.join(map(str, at))}={value[:60]!r}"
                broken += [f"{why} {each}" for each in await stage.tried(name, hostile, bounds[name])]
    assert not broken, "\n".join(broken)
