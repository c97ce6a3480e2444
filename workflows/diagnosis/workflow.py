"""One look at the worker's surroundings, for ``outlast doctor``, which cannot see them itself."""

import asyncio
from collections.abc import Iterator

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import conditions
    from api.diagnosis import Finding
    from api.names import DIAGNOSIS_WORKFLOW

from workflows.common.calls import call, explain

CHECKED = (
    conditions.OPERATOR_READY, conditions.REGISTRY_READY, conditions.CREDENTIALS_READY, conditions.CLOUD_READY,
    conditions.STORAGE_READY,
)  # fmt: skip
"""The conditions of a preflight that concern the installation. The others concern a template."""


@workflow.defn(name=DIAGNOSIS_WORKFLOW)
class Diagnosis:
    """Asks what a job's preflight asks, and what the worker alone can see."""

    @workflow.run
    async def run(self, request: act.DiagnosisRequest) -> act.Diagnosed:
        """Look at everything at once."""
        looks = [self._surroundings(request), *(self._preflight(each) for each in request.preflights)]
        found = await asyncio.gather(*looks)
        return act.Diagnosed(findings=[finding for findings in found for finding in findings])

    async def _surroundings(self, request: act.DiagnosisRequest) -> list[Finding]:
        try:
            asked = act.Diagnose(vms=request.vms)
            return (await call(act.DIAGNOSE, asked, summary="look at the worker's surroundings")).findings
        except ActivityError as error:
            return [Finding(part="the worker", well=False, told=explain(error)[1], remedy="look at its log")]

    async def _preflight(self, request: act.PreflightRequest) -> list[Finding]:
        name = f"{request.job.namespace}/{request.job.name}"
        try:
            found = await call(act.PREFLIGHT, request, summary=f"check what {name} needs")
        except ActivityError as error:
            return [Finding(part=f"preflight of {name}", well=False, told=explain(error)[1])]
        return list(_findings(name, found))


def _findings(job: str, found: act.Preflight) -> Iterator[Finding]:
    for condition in found.conditions:
        if condition.type in CHECKED:
            told = condition.message or condition.reason
            yield Finding(part=f"{condition.type} for {job}", well=condition.status == "True", told=told)
