"""Ask the API server whether it would admit a job's replicas, and find out who will hold their Jobs."""

import hashlib

from temporalio.exceptions import ApplicationError

from activities.documents.findings import Findings
from activities.preflight.answers import Answers
from activities.preflight.holds import hold_of, labels_for_queues, looked_after
from activities.preflight.pod_admission import PodAdmission
from activities.signatures import CreateReplica, Hold, JobRef, PodVerdict
from api import conditions
from api.common import not_accepted
from api.object_conditions import is_true
from api.spot_instance_job import SpotInstanceJobSpec
from clients.kube import Json, Kube


class Admission:
    """Judges the replicas of jobs before there are any.

    A job that was accepted is read again and again. What the API server said to the same question lately is enough
    then, if it had no objection: it stops no training, and before a VM is bought it is asked again. An edit of the
    template or a label is another question, and so is every other job's, whose names a webhook may judge by.

    Args:
        kube: the cluster; see :class:`PodAdmission`.
        remembered_for: seconds for which an accepted job is not judged again.
    """

    def __init__(self, kube: Kube, remembered_for: float) -> None:
        self._kube = kube
        self._admission = PodAdmission(kube)
        self._verdicts = Answers[PodVerdict](remembered_for, _has_no_objection)

    async def judge(self, job: JobRef, spec: SpotInstanceJobSpec, found: Json) -> tuple[Findings, Hold | None]:
        """Say why the API server would not admit the replicas of the job ``found``, or else who will hold their Jobs.

        Too little room in a quota for all of them is a warning only.
        """
        labels = labels_for_queues(found["metadata"].get("labels"))
        verdict = await self._verdict(job, spec, labels, accepted=is_true(found, conditions.ACCEPTED))
        if not verdict.admitted:
            return Findings([not_accepted(verdict.reason, verdict.message)]), None
        hold = await looked_after(self._kube, hold_of(spec.job_template, labels, verdict))
        return Findings(warnings=[verdict.warning] if verdict.warning else []), hold

    async def _verdict(
        self, job: JobRef, spec: SpotInstanceJobSpec, labels: dict[str, str], *, accepted: bool
    ) -> PodVerdict:
        """Let the API server judge the Job that we would create, and its pod. Unknown fields count, as with kubectl."""
        first = CreateReplica.of(job, spec, replica=0, incarnation=0, nodes=["any"], bought=True, labels=labels)

        async def ask() -> PodVerdict:
            try:
                return await self._admission.judge(first, range(1, spec.replicas), warn_only=True)
            except ApplicationError:  # checkpointImageRepo is malformed, which is reported as a problem of the spec
                return PodVerdict(admitted=True)

        question = hashlib.sha256(f"{spec.replicas} {first.model_dump_json()}".encode()).digest()
        return await self._verdicts.ask(question, ask, known=accepted)


def _has_no_objection(verdict: PodVerdict) -> bool:
    return verdict.admitted and not verdict.warning
