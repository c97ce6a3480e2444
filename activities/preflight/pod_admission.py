"""Ask the API server whether it would accept a replica's Job, and the pod that the Job's controller would make of it.

Dry runs make nothing, yet Pod Security, quotas, LimitRanges, webhooks and what the pod names (its PriorityClass,
ServiceAccount, RuntimeClass) answer in their own words before a VM is bought. If a webhook cannot answer a dry run, or
the worker may not ask, nothing is refused, and the verdict says so in a warning.
"""

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from temporalio import activity

from activities.preflight.pod_remedies import own_words, remedy
from activities.preflight.quota_room import lacks_room
from activities.replicas.job_builder import job_to_judge
from activities.signatures import CHECK_POD, CheckPod, CreateReplica, PodVerdict
from api import names, reasons
from api.queues import gates_of, is_suspended, queue_of
from clients.kube import Json, Kube, KubeError, path, selector

_CANNOT_DRY_RUN = re.compile(r'admission webhook "[^"]*" does not support dry run')
_NO_RIGHT = re.compile(r'^pods is forbidden: User "[^"]*" cannot create resource "pods"')
# The policy of an earlier release: an upgrade replaces it some moments before or after the worker.
_OLD_POLICY = "the worker may make and change no pods"
_BY_ADMISSION = ("denied the request", "failed calling webhook")
_LONGEST = 600  # characters of the server's words: Pod Security has some for each container, and our advice follows
_LONGEST_OF_TEMPLATE = 4096  # the server repeats the values that it refuses
_ENDED = ("Succeeded", "Failed")
_MAY_NOT_ASK = (
    "whether its pods would be admitted is not known before a VM is bought, because the worker may not ask: "
    "deploy/base grants it on Kubernetes 1.30 and later"
)


class PodAdmission:
    """Judges whether the Job and pod of a replica would be admitted.

    Args:
        kube: the cluster, in which it may create Jobs, and pods by dry runs, and list pods and ResourceQuotas.
    """

    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    async def judge(
        self, request: CreateReplica, waiting: Collection[int] = (), *, warn_only: bool = False
    ) -> PodVerdict:
        """Dry-run the Job of an incarnation, then the pod made of what the server would store.

        Args:
            request: the incarnation.
            waiting: other replicas that may have no pod yet, for which quotas must also have room.
            warn_only: True if too little room for those is only a warning, not a refusal.

        Raises:
            KubeError: the server did not judge, for example because it is overloaded.
        """
        try:
            body = job_to_judge(request)
        except ValueError as error:
            return _refused(reasons.INVALID_JOB_TEMPLATE, str(error))
        job = await self._ask_for_job(request, body)
        if job.refusal is not None:
            return job.refusal
        pod = await self._ask_for_pod(request, _pod_of(job.stored or body))
        refusal, warning = pod.refusal, pod.warning or job.warning
        by_quota = refusal is not None and "exceeded quota" in refusal.message
        quotas = await self._quotas(request) if waiting or by_quota or request.members > 1 else []
        if quotas or by_quota:
            alive = await self._alive(request)
            if by_quota and alive[request.replica] >= request.members:
                refusal = None  # the pods that it replaces are deleted first, which makes room in the quota
            pods = sum(max(0, request.members - alive[replica]) for replica in {request.replica, *waiting})
            lack = _lack(quotas, pod.stored, pods) if refusal is None and pods > 1 else ""
            if lack and warn_only and request.members == 1:
                warning = f"not all replicas can run: {lack}"
            elif lack and request.members > 1:
                refusal = _not_admitted(request, f"the pods of all {request.members} members", lack)
            elif lack:
                refusal = _not_admitted(request, "its pod beside those that other replicas wait for", lack)
        return refusal or PodVerdict(admitted=True, warning=warning, **_held(job.stored or body, pod.stored or {}))

    async def _ask_for_job(self, request: CreateReplica, body: Json) -> "_Answer":
        asked = {**body, "spec": {**body["spec"]}}
        del asked["spec"]["podReplacementPolicy"]  # ours, and unknown to servers before 1.28
        try:
            where = path("batch/v1", "jobs", request.job.namespace)
            return _Answer(await self._kube.create(where, asked, dryRun="All", fieldValidation="Strict"))
        except KubeError as error:
            said = error.message
            if _CANNOT_DRY_RUN.search(said):
                return _Answer(warning=_cannot_dry_run(said))
            if any(each in said for each in _BY_ADMISSION) or error.status == 403:
                name = body["metadata"]["name"]
                return _Answer(refusal=_not_admitted(request, f"its Job {name}", own_words(said, "jobs.batch")))
            if error.status == 409:  # a Job of that name was accepted before
                return _Answer()
            if error.status not in (400, 422):
                raise
            return _Answer(
                refusal=_refused(reasons.INVALID_JOB_TEMPLATE, f"jobTemplate: {said[:_LONGEST_OF_TEMPLATE]}")
            )

    async def _ask_for_pod(self, request: CreateReplica, pod: Json) -> "_Answer":
        try:
            where = path("v1", "pods", request.job.namespace)
            return _Answer(await self._kube.create(where, pod, dryRun="All", fieldValidation="Strict"))
        except KubeError as error:
            said = error.message
            if _NO_RIGHT.search(said) or _OLD_POLICY in said:
                return _Answer(warning=_MAY_NOT_ASK)
            if _CANNOT_DRY_RUN.search(said):
                return _Answer(warning=_cannot_dry_run(said))
            if any(each in said for each in _BY_ADMISSION) or error.status in (400, 403, 422):
                return _Answer(refusal=_not_admitted(request, "its pod", own_words(said, "pods")))
            raise

    async def _alive(self, request: CreateReplica) -> Counter[int]:
        """Count by replica the pods of the job that count in quotas."""
        where = path("v1", "pods", request.job.namespace)
        pods = await self._kube.list(where, labelSelector=selector({names.LABEL_JOB: request.job.job_id}))
        counted = [pod for pod in pods if (pod.get("status") or {}).get("phase") not in _ENDED]
        found = [names.incarnation_in(pod["metadata"].get("labels") or {}) for pod in counted]
        return Counter(each[0] for each in found if each)

    async def _quotas(self, request: CreateReplica) -> list[Json]:
        """List the quotas of the namespace; empty if they may not be read."""
        try:
            return await self._kube.list(path("v1", "resourcequotas", request.job.namespace))
        except KubeError as error:
            if error.status != 403:  # the roles of an earlier release lack this right
                raise
            return []


class PodAdmissionActivities:
    """Checks pods for workflows before they buy a VM.

    Args:
        kube: see :class:`PodAdmission`.
    """

    def __init__(self, kube: Kube) -> None:
        self._admission = PodAdmission(kube)

    @activity.defn(name=CHECK_POD.name)
    async def check_pod(self, request: CheckPod) -> PodVerdict:
        """Say whether the pods of this incarnation would be admitted now."""
        return await self._admission.judge(request.incarnation, request.waiting)


@dataclass(frozen=True)
class _Answer:
    """What the server said: how it would store the object, or why it would not."""

    stored: Json | None = None
    refusal: PodVerdict | None = None
    warning: str = ""


def _pod_of(job: Json) -> Json:
    """Build the pod as the Job's controller would: owned by the Job, since policies refuse pods that nobody owns.

    Its name is fixed, so that every refusal of the same pod has the same words.
    """
    template, name = job["spec"]["template"], job["metadata"]["name"]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "controller": True}
    metadata = {
        "name": f"{name}-asked",
        "namespace": job["metadata"]["namespace"],
        "labels": template["metadata"].get("labels") or {},
        "annotations": template["metadata"].get("annotations") or {},
        "ownerReferences": [{**owner, "uid": job["metadata"].get("uid") or name}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def _lack(quotas: list[Json], pod: Json | None, count: int) -> str:
    """Name the quota that has no room for so many pods; empty if each has room."""
    lack = lacks_room(quotas, pod, count) if pod is not None else ""
    return f"exceeded quota: {lack}" if lack else ""


def _held(job: Json, pod: Json) -> Json:
    """Read who would hold the Job or its pod, from how the server would store them."""
    return {"suspended": is_suspended(job), "queue": queue_of(job), "gates": gates_of(pod.get("spec") or {})}


def _not_admitted(request: CreateReplica, what: str, words: str) -> PodVerdict:
    advice = remedy(words, request.job.namespace)
    said = words if len(words) <= _LONGEST else f"{words[:_LONGEST]}…"
    return _refused(reasons.POD_REFUSED, f"the API server refuses {what}: {said.rstrip('.')}. {advice}")


def _refused(reason: str, message: str) -> PodVerdict:
    return PodVerdict(admitted=False, reason=reason, message=message)


def _cannot_dry_run(said: str) -> str:
    return (
        f"whether its pods would be admitted is not known before a VM is bought: {said}. Whoever runs that webhook can "
        "set sideEffects: None in its configuration"
    )
