"""InstanceTemplates: each is copied to a SpotInstanceVM of the same name, which everything else uses.

The SpotInstanceVM belongs to the InstanceTemplate, so the garbage collector deletes both. Jobs that protect it keep it
until their VMs are gone. A SpotInstanceVM that somebody else made is never touched.
"""

import logging
from datetime import UTC, datetime
from functools import partial

from api import conditions, names, reasons
from api.common import Condition
from clients.kube import APPLY_PATCH, Json, Kube, KubeError, path
from crd_bridge.queues import NotYet, Queues

log = logging.getLogger(__name__)

MANAGER = "outlast-templates"
KIND = "InstanceTemplate"
REFUSALS = (400, 403, 422)


class Templates:
    """All InstanceTemplates of the cluster."""

    def __init__(self, kube: Kube, queues: Queues) -> None:
        self._kube = kube
        self._queues = queues
        self._templates: dict[str, Json] = {}

    def changed(self, key: str, item: Json | None, version: int) -> None:
        """Copy an InstanceTemplate that was created or edited; without ``item`` it is gone."""
        old = self._templates.pop(key, None)
        if item is None or "deletionTimestamp" in item["metadata"]:
            self._queues.drop(("template", key))
            return
        self._templates[key] = item
        if old is None or _edition(old) != _edition(item):
            self.look(key)

    def look(self, key: str) -> None:
        """Make the SpotInstanceVM of this key match its InstanceTemplate, if there is one."""
        if key in self._templates:
            self._queues.put(("template", key), partial(self._mirror, key))

    async def _mirror(self, key: str) -> None:
        template = self._templates.get(key)
        if template is None:
            return
        problem = await self._copy(template)
        await self._tell(template, problem)
        if problem:
            raise NotYet(f"InstanceTemplate {key}: {problem.message}")

    async def _copy(self, template: Json) -> Condition | None:
        """Make the SpotInstanceVM match the template, or say why not."""
        metadata = template["metadata"]
        where = path(names.API_VERSION, names.VM_PLURAL, metadata["namespace"], metadata["name"])
        found = await self._kube.find(where)
        if found is not None and (problem := _in_the_way(found, metadata["uid"])):
            return problem
        owner = {"apiVersion": names.API_VERSION, "kind": KIND, "controller": True}
        owner |= {key: metadata[key] for key in ("name", "uid")}
        mirror: Json = {"name": metadata["name"], "ownerReferences": [owner]}
        if found is not None:
            mirror["uid"] = found["metadata"]["uid"]  # not one of this name that somebody has just made
        body = {"apiVersion": names.API_VERSION, "kind": "SpotInstanceVM", "metadata": mirror, "spec": template["spec"]}
        try:
            # Ours is corrected by force. One that did not exist is created, or conflicts if somebody was faster.
            await self._kube.patch(where, body, APPLY_PATCH, fieldManager=MANAGER, force=found is not None)
        except KubeError as error:
            if error.status == 409:
                raise NotYet(f"SpotInstanceVM {where}: changed meanwhile") from error
            if error.status not in REFUSALS:
                raise
            return _false(reasons.REFUSED, f"the API server refuses the SpotInstanceVM of it: {error.message}")
        return None

    async def _tell(self, template: Json, problem: Condition | None) -> None:
        """Write the condition, if it says something new."""
        metadata = template["metadata"]
        told = problem or Condition(type=conditions.MIRRORED, status="True", reason=reasons.MIRRORED, message=MIRRORED)
        told = told.model_copy(update={"observed_generation": metadata.get("generation", 0)})
        before = _condition(template)
        if before and before.model_copy(update={"last_transition_time": None}) == told:
            return
        same = before is not None and before.status == told.status
        since = before.last_transition_time if before and same else datetime.now(UTC).replace(microsecond=0)
        written = told.model_copy(update={"last_transition_time": since})
        where = path(names.API_VERSION, names.TEMPLATE_PLURAL, metadata["namespace"], metadata["name"], "status")
        all_conditions = [written.model_dump(mode="json", by_alias=True, exclude_none=True)]
        try:
            await self._kube.patch(
                where, {"metadata": {"uid": metadata["uid"]}, "status": {"conditions": all_conditions}}
            )
        except KubeError as error:
            if error.status not in (404, 409):  # gone, or replaced by another of this name, which has its own turn
                raise


MIRRORED = "the SpotInstanceVM of this name is made from it, and lists in its status what was bought"


def _in_the_way(vm: Json, uid: str) -> Condition | None:
    """Say why an existing SpotInstanceVM cannot be written; None if it can."""
    metadata = vm["metadata"]
    owner = next((each for each in metadata.get("ownerReferences") or [] if each["kind"] == KIND), None)
    if owner is None:
        return _false(
            reasons.NAME_TAKEN,
            f"there is already a SpotInstanceVM {metadata['name']} that was not made from this InstanceTemplate; it is "
            "left as it is, and jobs use it. Delete it, or give the InstanceTemplate another name",
        )
    if "deletionTimestamp" in metadata or owner["uid"] != uid:
        return _false(
            reasons.BEING_DELETED,
            f"the SpotInstanceVM {metadata['name']} is being deleted, and goes once no job that bought by it needs it "
            "for its teardown; then it is made again",
        )
    return None


def _false(reason: str, message: str) -> Condition:
    return Condition(type=conditions.MIRRORED, status="False", reason=reason, message=message)


def _condition(template: Json) -> Condition | None:
    found = (template.get("status") or {}).get("conditions") or []
    return Condition.model_validate(found[0]) if found else None


def _edition(template: Json) -> tuple[str, int]:
    return template["metadata"]["uid"], template["metadata"].get("generation", 0)
