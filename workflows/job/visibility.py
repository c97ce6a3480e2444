"""What a job's workflow can be found by in Temporal: its search attributes, upserted only when a value changes.

Whether they are registered is in the job's document, an activity's result: a worker without them and one that replays
its histories decide alike.
"""

from collections.abc import Iterator
from typing import Any

from temporalio import workflow
from temporalio.common import SearchAttributeKey, SearchAttributeUpdate

with workflow.unsafe.imports_passed_through():
    from api.search_attributes import ALL, LONGEST, Values
    from workflows.job.policy.status import job_status
    from workflows.job.policy.visibility import found_by

from workflows.job.core.job import Job


def publish(job: Job) -> None:
    """Upsert what has changed, if the service knows the attributes."""
    if not job.state.searchable:
        return
    status = job_status(job.start, job.state, workflow.now())
    workflow.upsert_search_attributes(list(_changes(found_by(job.start, job.state, status))))


def _changes(wanted: Values) -> Iterator[SearchAttributeUpdate[Any]]:
    """Compare with what the service has; a run begins with the values of the one before."""
    known = workflow.info().typed_search_attributes
    for name, kind, _ in ALL:
        if kind == "Bool":
            flag = SearchAttributeKey.for_bool(name)
            if name in wanted and known.get(flag) != wanted[name]:
                yield flag.value_set(bool(wanted[name]))
            continue
        key = SearchAttributeKey.for_keyword(name)
        value = str(wanted[name])[:LONGEST] if name in wanted else None
        if value is None and known.get(key) is not None:
            yield key.value_unset()
        elif value is not None and known.get(key) != value:
            yield key.value_set(value)
