"""The doctor's look at Temporal, and through it at what the worker sees."""

import secrets
from collections.abc import AsyncIterator
from datetime import timedelta

import aiohttp
from pydantic import ValidationError
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client, WorkflowFailureError
from temporalio.service import RPCError

from activities.signatures import Diagnosed, DiagnosedVm, DiagnosisRequest, JobRef, PreflightRequest
from api import names
from api.diagnosis import Finding
from api.object_conditions import is_over
from api.spot_instance_vm import SpotInstanceVMSpec
from cli.session import Cluster, spec_of, status_of
from cli.temporal import connected
from clients import search_attributes
from clients.kube import Json, path
from workflows.policy.candidates import candidates_of

DIAGNOSIS = timedelta(seconds=90)
"""The longest that the worker may take."""
MOST = 8
"""Jobs and VMs that the worker is asked about: those that differ in what they need."""
NOT_ASKED = "not asked: set TEMPORAL_ADDRESS as for the temporal CLI; the worker is asked through it, too"


async def service(cluster: Cluster, job: str | None) -> AsyncIterator[Finding]:
    """Check Temporal, and ask the worker about a job of the namespace, or about all."""
    try:
        client = await connected()
    except (ConnectionError, aiohttp.ClientError) as error:
        remedy = "check TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE and the network"
        yield Finding(part="Temporal", well=False, told=str(error), remedy=remedy)
        return
    if client is None:
        yield Finding(part="Temporal", well=True, told=NOT_ASKED)
        return
    told = f"answers at {client.service_client.config.target_host}, namespace {client.namespace}"
    yield Finding(part="Temporal", well=True, told=told)
    try:
        async for finding in _namespace(client):
            yield finding
        async for finding in _worker(cluster, client, job):
            yield finding
    except RPCError as error:
        remedy = "the account that asks needs the role of a writer in the namespace"
        yield Finding(part="Temporal", well=False, told=error.message, remedy=remedy)


async def _namespace(client: Client) -> AsyncIterator[Finding]:
    lacking = await search_attributes.missing(client)
    told = f"are missing: {', '.join(each.name for each in lacking)}" if lacking else "are registered"
    remedy = "temporal operator search-attribute create, as docs/temporal-cli.md says"
    yield Finding(part="search attributes", well=not lacking, told=told, remedy=remedy)
    for queue in (names.TASK_QUEUE, names.LONG_QUEUE, names.CREATES_QUEUE):
        request = DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
        )
        pollers = len((await client.workflow_service.describe_task_queue(request)).pollers)
        remedy = "no worker runs, or none is current"
        told = f"{pollers} workers poll it"
        yield Finding(part=f"task queue {queue}", well=pollers > 0, told=told, remedy=remedy)


async def _worker(cluster: Cluster, client: Client, job: str | None) -> AsyncIterator[Finding]:
    """Let the worker look, by a short workflow, at what the jobs of the cluster need."""
    request = await what_to_ask(cluster, job)
    try:
        found = await client.execute_workflow(
            names.DIAGNOSIS_WORKFLOW,
            request,
            id=f"doctor-{secrets.token_hex(4)}",
            task_queue=names.TASK_QUEUE,
            execution_timeout=DIAGNOSIS,
            result_type=Diagnosed,
            static_summary="outlast doctor",
        )
    except WorkflowFailureError as error:
        told = f"did not say how it is in {DIAGNOSIS.total_seconds():.0f} s: {error.cause}"
        remedy = "is the current worker of this release? Look at its log"
        yield Finding(part="the worker", well=False, told=told, remedy=remedy)
        return
    for finding in found.findings:
        yield finding
    if not request.preflights:
        yield Finding(part="cloud, registry, bucket", well=True, told="not asked: no job exists that would need them")


async def what_to_ask(cluster: Cluster, name: str | None) -> DiagnosisRequest:
    """List what the jobs that have not ended need, once if several need the same.

    ``name`` is one of the namespace; None stands for those of all namespaces.
    """
    vms: dict[tuple[str, str], Json] = {}
    async for vm in cluster.kube.each(path(names.API_VERSION, names.VM_PLURAL)):
        vms[vm["metadata"]["namespace"], vm["metadata"]["name"]] = vm
    preflights: dict[str, PreflightRequest] = {}
    asked: dict[str, DiagnosedVm] = {}
    for job in [await cluster.job(name)] if name is not None else await cluster.jobs(everywhere=True):
        request = None if is_over(job) else _preflight(job, vms)
        if request is None:
            continue
        parts = (request.vm_spec, request.spec.checkpoint_config, request.spec.gcp_credentials_secret_ref)
        needs = [request.job.namespace, *(part.model_dump_json() if part else "" for part in parts)]
        preflights.setdefault("\n".join(needs), request)
        credentials, where = request.spec.gcp_credentials_secret_ref, request.job.namespace
        vm_ = DiagnosedVm(
            namespace=where,
            name=request.spec.spot_instance_vm_ref.name,
            spec=request.vm_spec,
            credentials=credentials,
            candidates=request.candidates,
        )
        asked.setdefault(vm_.model_dump_json(), vm_)
    return DiagnosisRequest(preflights=list(preflights.values())[:MOST], vms=list(asked.values())[:MOST])


def _preflight(job: Json, vms: dict[tuple[str, str], Json]) -> PreflightRequest | None:
    """Make the request of a job's preflight without its template, which concerns no part of an installation."""
    meta = job["metadata"]
    try:
        spec = spec_of(job).model_copy(update={"job_template": {}, "replicas": 1, "gang": None})
        found = vms.get((meta["namespace"], spec.spot_instance_vm_ref.name))
        if found is None:
            return None
        vm = SpotInstanceVMSpec.model_validate(found["spec"]).model_copy(update={"startup_script": None})
    except ValidationError:
        return None  # its own condition Accepted says what is wrong with it
    ref = JobRef(
        namespace=meta["namespace"], name=meta["name"], uid=meta["uid"], job_id=status_of(job).job_id or "00000000"
    )
    return PreflightRequest(job=ref, spec=spec, vm_spec=vm, candidates=candidates_of(vm))
