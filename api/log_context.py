"""What a line of the log is about: the job, replica and VM that the running code works for.

Whoever begins such work says so once, and each line that is logged in it, by whatever module, has it as fields
(:mod:`programs.logs`). It is kept by the task, and by the tasks that this one begins.

>>> about(job="team/llm", replica=0)
>>> fields()
{'job': 'team/llm', 'replica': 0}
"""

from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType

from api.names import is_job_workflow_id, job_id_in, replica_in, vm_workflow_id

Field = str | int

_ABOUT: ContextVar[Mapping[str, Field]] = ContextVar("about", default=MappingProxyType({}))


def about(**found: Field | None) -> None:
    """Say what the running task works for. What is None is not known, and changes nothing."""
    _ABOUT.set({**_ABOUT.get(), **{name: value for name, value in found.items() if value is not None}})


def fields() -> dict[str, Field]:
    """Return what the running task works for."""
    return dict(_ABOUT.get())


def of_workflow(workflow_id: str) -> dict[str, Field]:
    """Return what a workflow works for, by its id.

    >>> of_workflow("team/llm")
    {'job': 'team/llm'}
    >>> of_workflow("vm:0123abcd-r1-v2")
    {'job_id': '0123abcd', 'replica': 1, 'vm': '0123abcd-r1-v2'}
    """
    prefix = vm_workflow_id("")
    if workflow_id.startswith(prefix):
        key = workflow_id.removeprefix(prefix)
        return {"job_id": job_id_in(key), "replica": replica_in(key), "vm": key}
    return {"job": workflow_id} if is_job_workflow_id(workflow_id) else {}
