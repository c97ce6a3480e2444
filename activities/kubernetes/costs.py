"""What jobs have cost, kept in their namespace: a ConfigMap for each month in which some ended, with a line for each.

It has no owner, because it outlives the jobs. A thousand jobs take some 300 KB of the 1 MiB that a ConfigMap may have.
"""

from temporalio import activity

from activities.kubernetes.ownership import FIELD_MANAGER
from activities.signatures import RECORD_COST, Done, RecordCost
from api import names
from clients.kube import Kube, KubeError, path


class CostActivities:
    """Keeps costs. ``kube`` may create and patch ConfigMaps in the namespaces of jobs."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    @activity.defn(name=RECORD_COST.name)
    async def record_cost(self, request: RecordCost) -> Done:
        """Write the job's line; a retry writes it again. A namespace that is being deleted gets none.

        Raises:
            KubeError: the line was refused.
        """
        record = request.record
        name, where = names.costs_name(record.ended_at), path("v1", "configmaps", request.namespace)
        data = {record.job_id: record.model_dump_json(by_alias=True, exclude_none=True)}
        try:
            await self._kube.patch(f"{where}/{name}", {"data": data}, fieldManager=FIELD_MANAGER)
        except KubeError as error:
            if error.status != 404:
                raise
            await self._create(request.namespace, name, data)
        return Done()

    async def _create(self, namespace: str, name: str, data: dict[str, str]) -> None:
        where = path("v1", "configmaps", namespace)
        labels = {names.LABEL_MANAGED_BY: names.MANAGED_BY, names.LABEL_COSTS: "true"}
        metadata = {"name": name, "namespace": namespace, "labels": labels}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
        try:
            await self._kube.create(where, body)
        except KubeError as error:
            if error.status == 409:  # another job has just made it
                await self._kube.patch(f"{where}/{name}", {"data": data}, fieldManager=FIELD_MANAGER)
            elif error.status != 404 and "NamespaceTerminating" not in error.causes:
                raise
