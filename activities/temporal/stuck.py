"""Stuck workflows, whose task fails again and again, found by a search attribute that the service sets.

A bug in workflow code makes a task fail. Nothing is lost, and a worker with the fix continues where the workflow
stopped. Until then nobody acts for what that workflow looks after, and it cannot report so itself.
"""

from collections.abc import Iterable

from temporalio import activity
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client, WorkflowExecution
from temporalio.common import SearchAttributeKey

from activities import signatures
from activities.kubernetes.status import emit
from activities.signatures import Done, FoundStuck, JobEvent, JobRef, SweepRequest, TellStuck
from api import events, names
from api.search_attributes import JOB, NAMESPACE
from api.sweep import Stuck
from clients.kube import Json, Kube, KubeError, path
from clients.temporal import RPC_TIMEOUT, latest_run

TYPES = (names.JOB_WORKFLOW, names.VM_WORKFLOW, names.MARKET_WORKFLOW, names.SWEEP_WORKFLOW)
PROBLEMS = SearchAttributeKey.for_keyword_list("TemporalReportedProblems")
"""Set by the service after five failures or time-outs of a workflow's task in a row, unset by the next success."""
AT_MOST = 200
"""Workflows named in one check; the others are only counted. A bug may stop every workflow."""

STUCK, RECOVERED = events.WORKFLOW_STUCK, events.WORKFLOW_RECOVERED
BLIND = (
    "the Temporal service does not mark workflows whose task fails (TemporalReportedProblems): that takes server 1.30 "
    "or later, with system.numConsecutiveWorkflowTaskProblemsToTriggerSearchAttribute above 0 in its dynamic config"
)


class StuckActivities:
    """Finds stuck workflows and reports them on their jobs.

    Args:
        temporal: the service that runs the workflows.
        kube: the cluster, in which it may create Events and read SpotInstanceJobs of any namespace.
    """

    def __init__(self, temporal: Client, kube: Kube) -> None:
        self._temporal = temporal
        self._kube = kube

    @activity.defn(name=signatures.FIND_STUCK.name)
    async def find_stuck(self, request: SweepRequest) -> FoundStuck:
        """List open Outlast workflows whose task fails, or say why the service cannot know."""
        if not await self._marks():
            return FoundStuck(blind=BLIND)
        counts = {}
        for kind in TYPES:
            counts[kind] = (await self._temporal.count_workflows(_query(kind), rpc_timeout=RPC_TIMEOUT)).count
        found: list[Stuck] = []
        for kind in [kind for kind, count in counts.items() if count]:
            left = AT_MOST - len(found)
            listed = self._temporal.list_workflows(_query(kind), limit=left, rpc_timeout=RPC_TIMEOUT) if left else None
            found += [_stuck(run) async for run in listed] if listed else []
        return FoundStuck(workflows=found, counts=counts)

    async def _marks(self) -> bool:
        """True if the service marks stuck workflows; an older service does not know that capability."""
        request = DescribeNamespaceRequest(namespace=self._temporal.namespace)
        answer = await self._temporal.workflow_service.describe_namespace(request, timeout=RPC_TIMEOUT)
        return bool(answer.namespace_info.capabilities.reported_problems_search_attribute)

    @activity.defn(name=signatures.TELL_STUCK.name)
    async def tell_stuck(self, request: TellStuck) -> Done:
        """Create an Event on each job that still exists; a retry finds the Events that were made.

        Raises:
            KubeError: some Event was refused for now. One that is refused for good keeps nobody else from being told.
        """
        refusals: list[KubeError | None] = []
        for stuck in request.stuck:
            message = (
                f"nobody acts for {_what(stuck)}: its workflow's task fails again and again ({stuck.problem}). "
                "Trainings and VMs stay as they are, and a lost machine is not replaced, until whoever runs Outlast "
                "has fixed it (docs/alerts.md)"
            )
            event = JobEvent(type="Warning", reason=STUCK, message=message, at=request.at)
            refusals.append(await self._tell(stuck, event))
        for stuck in request.well_again:
            if await self._goes_on(stuck):
                message = f"the workflow of {_what(stuck)} continues"
                event = JobEvent(type="Normal", reason=RECOVERED, message=message, at=request.at)
                refusals.append(await self._tell(stuck, event))
        for refusal in refusals:
            if refusal is not None and (refusal.status == 429 or refusal.status >= 500):
                raise refusal
        return Done()

    async def _goes_on(self, stuck: Stuck) -> bool:
        """True if the workflow is open and not marked. A terminated one has not recovered, and not all are listed."""
        run = await latest_run(self._temporal, stuck.workflow_id)
        return run is not None and run.close_time is None and not run.typed_search_attributes.get(PROBLEMS)

    async def _tell(self, stuck: Stuck, event: JobEvent) -> KubeError | None:
        job = await self._job(stuck)
        if job is None:
            return None
        metadata = job["metadata"]
        ref = JobRef(namespace=metadata["namespace"], name=metadata["name"], uid=metadata["uid"], job_id="")
        refusal = await emit(self._kube, ref, event)
        if refusal is not None:
            activity.logger.warning("Event %s on %s/%s: %s", event.reason, ref.namespace, ref.name, refusal.message)
        return refusal

    async def _job(self, stuck: Stuck) -> Json | None:
        if not (names.is_segment(stuck.namespace) and names.is_segment(stuck.job_name)):
            return None
        return await self._kube.find(path(names.API_VERSION, names.JOB_PLURAL, stuck.namespace, stuck.job_name))


def _query(kind: str) -> str:
    """Write the query by which Temporal's Web UI lists task failures."""
    marks = '"category=WorkflowTaskFailed", "category=WorkflowTaskTimedOut"'
    return f'WorkflowType="{kind}" AND ExecutionStatus="Running" AND {PROBLEMS.name} IN ({marks})'


def _stuck(run: WorkflowExecution) -> Stuck:
    namespace, name = _job_of(run)
    return Stuck(
        workflow_id=run.id,
        workflow_type=run.workflow_type,
        problem=_problem(run.typed_search_attributes.get(PROBLEMS) or ()),
        namespace=namespace,
        job_name=name,
    )


def _problem(marks: Iterable[str]) -> str:
    """Join the two parts of the mark: ``WorkflowTaskFailed: WorkflowWorkerUnhandledFailure``."""
    said = dict(mark.split("=", 1) for mark in marks if "=" in mark)
    category = said.get("category", "")
    return f"{category}: {said.get('cause', '').removeprefix(f'{category}Cause')}"


def _job_of(run: WorkflowExecution) -> tuple[str, str]:
    """Give namespace and name of the job, from the id of its workflow or a VM's search attributes; empty if none."""
    if run.workflow_type == names.JOB_WORKFLOW and names.is_job_workflow_id(run.id):
        namespace, _, name = run.id.partition("/")
        return namespace, name
    if run.workflow_type != names.VM_WORKFLOW:
        return "", ""
    found = run.typed_search_attributes
    return found.get(SearchAttributeKey.for_keyword(NAMESPACE), ""), found.get(SearchAttributeKey.for_keyword(JOB), "")


def _what(stuck: Stuck) -> str:
    return "this job" if stuck.workflow_type == names.JOB_WORKFLOW else f"its VM ({stuck.workflow_id})"
