"""Search attributes as the service takes them: those of the table, with its types, and no longer than a column.

What is refused here fails a workflow's task on the real service, again and again.
"""

from typing import TYPE_CHECKING, Any

from temporalio.api.common.v1 import SearchAttributes
from temporalio.api.history.v1 import UpsertWorkflowSearchAttributesEventAttributes
from temporalio.api.sdk.v1 import UserMetadata

from api.search_attributes import ALL, LONGEST

if TYPE_CHECKING:
    from tests.simulation.execution import Execution

REGISTERED = {attribute.name: attribute.kind for attribute in ALL}
EMPTY = (b"null", b"[]", b"")


def why_refused(attributes: SearchAttributes) -> str | None:
    """Say why the service would not take them; None if it does."""
    for name, payload in attributes.indexed_fields.items():
        kind = payload.metadata.get("type", b"").decode()
        if name not in REGISTERED:
            return f"Namespace default has no mapping defined for search attribute {name}"
        if payload.data not in EMPTY and kind != REGISTERED[name]:
            return f"invalid value for search attribute {name} of type {REGISTERED[name]}: it is a {kind}"
        if len(payload.data) > LONGEST + 2:  # with its quotes
            return f"search attribute {name} is longer than {LONGEST} characters"
    return None


class Indexed:
    """The attributes by which one run can be found."""

    def __init__(self, run: "Execution") -> None:
        self.run = run
        self.attributes = SearchAttributes()
        self.attributes.CopyFrom(run.beginning.search_attributes)

    def upsert_workflow_search_attributes(self, command: Any, task: int, _: UserMetadata | None) -> None:
        """Take new values; an empty one unsets.

        Raises:
            AssertionError: the service would fail the task.
        """
        refusal = why_refused(command.search_attributes)
        assert refusal is None, f"a task of {self.run.id} failed: {refusal}"
        self.run.add(
            UpsertWorkflowSearchAttributesEventAttributes(
                workflow_task_completed_event_id=task, search_attributes=command.search_attributes
            )
        )
        for name, payload in command.search_attributes.indexed_fields.items():
            if payload.data in EMPTY:
                self.attributes.indexed_fields.pop(name, None)
            else:
                self.attributes.indexed_fields[name].CopyFrom(payload)
