"""The PodDisruptionBudget of a job: while it exists, nobody can evict the last of the job's pods."""

from collections.abc import Mapping
from typing import Any

from temporalio import activity

from activities.kubernetes import ownership
from activities.placement.hosts import matches
from activities.signatures import SET_BUDGET, Budget, JobRef, SetBudget
from api import names
from clients.kube import Json, Kube, KubeError, path

_API = "policy/v1"


class BudgetActivities:
    """Makes and removes budgets.

    Args:
        kube: the cluster, in which it may read, create and delete PodDisruptionBudgets of any namespace.
    """

    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    @activity.defn(name=SET_BUDGET.name)
    async def set_budget(self, request: SetBudget) -> Budget:
        """Create the job's budget, or delete it.

        It creates none beside somebody else's budget for the same pods: the API server always refuses, with an internal
        error, to evict a pod that two budgets select.
        """
        job, where = request.job, path(_API, "poddisruptionbudgets", request.job.namespace)
        name = names.budget_name(job.name, job.job_id)
        ours = await self._kube.find(path(_API, "poddisruptionbudgets", job.namespace, name))
        if ours is not None and not ownership.belongs_to(ours, job.job_id):
            return Budget(beside=name)
        if not request.exists:
            await self._delete(ours)
            return Budget()
        labels = {**request.labels, **ownership.labels(job.job_id, 0)}
        # Those of other jobs select their own pods alone, and there may be a thousand of them.
        others = await self._kube.list(where, labelSelector=f"{names.LABEL_MANAGED_BY}!={names.MANAGED_BY}")
        beside = [each["metadata"]["name"] for each in others if _selects(each, labels)]
        if beside:
            await self._delete(ours)
            return Budget(beside=beside[0])
        if ours is None:
            await self._create(where, _budget(job, name, request.members))
        return Budget(exists=True)

    async def _create(self, where: str, body: Json) -> None:
        try:
            await self._kube.create(where, body)
        except KubeError as error:
            if error.reason != "AlreadyExists":
                raise

    async def _delete(self, budget: Json | None) -> None:
        if budget is None:
            return
        metadata = budget["metadata"]
        await self._kube.delete(
            path(_API, "poddisruptionbudgets", metadata["namespace"], metadata["name"]), uid=metadata["uid"]
        )


def _budget(job: JobRef, name: str, members: int) -> Json:
    labels = {names.LABEL_JOB: job.job_id, names.LABEL_MANAGED_BY: names.MANAGED_BY}
    return {
        "apiVersion": _API,
        "kind": "PodDisruptionBudget",
        "metadata": {
            "name": name,
            "namespace": job.namespace,
            "labels": labels,
            "annotations": ownership.annotations(job),
            "ownerReferences": [ownership.owner(job)],
        },
        # Not maxUnavailable: for that the API server asks a pod's controller for its scale, which a Job does not have.
        "spec": {"minAvailable": members, "selector": {"matchLabels": {names.LABEL_JOB: job.job_id}}},
    }


def _selects(budget: Json, labels: Mapping[str, str]) -> bool:
    """True if a budget selects a pod with these labels; an empty selector selects all."""
    selector: dict[str, Any] | None = budget["spec"].get("selector")
    if selector is None:
        return False
    same = all(labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items())
    return same and all(matches(each, labels) for each in selector.get("matchExpressions") or [])
