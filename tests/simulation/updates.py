"""Updates of one run: which reach it, and what it answers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import (
    WorkflowExecutionUpdateAcceptedEventAttributes,
    WorkflowExecutionUpdateCompletedEventAttributes,
)
from temporalio.api.sdk.v1 import UserMetadata
from temporalio.api.update.v1 import Outcome, Request
from temporalio.bridge.proto.workflow_activation import WorkflowActivationJob

from tests.simulation.headers import fill
from tests.simulation.limits import UPDATES, UPDATES_AT_ONCE

if TYPE_CHECKING:
    from tests.simulation.execution import Execution


@dataclass
class Update:
    """An update on its way, with its outcome."""

    id: str
    request: Request
    heard: Callable[[Outcome], None]
    accepted: int = 0  # the event that says so


class Updates:
    """The updates on their way through one run."""

    def __init__(self, run: "Execution") -> None:
        self.run = run
        self._open: dict[str, Update] = {}

    def refusal(self) -> str | None:
        """Say why the service lets no further update reach this run; None if it does."""
        if self.run.usage.updates >= UPDATES:
            return f"the limit of {UPDATES} updates in a run has been reached"
        if len(self._open) >= UPDATES_AT_ONCE:
            return f"the limit of {UPDATES_AT_ONCE} updates in flight has been reached"
        return None

    def begin(self, update: Update) -> None:
        """Let an update reach the run."""
        self._open[update.id] = update
        self.run.usage.updates += 1
        job = WorkflowActivationJob()
        do = job.do_update
        do.id = do.protocol_instance_id = update.id
        do.name = update.request.input.name
        do.input.extend(update.request.input.args.payloads)
        do.meta.CopyFrom(update.request.meta)
        do.run_validator = True
        fill(do.headers, update.request.input.header)
        self.run.wake(job)

    def update_response(self, command: Any, _: int, __: UserMetadata | None) -> None:
        update = self._open[command.protocol_instance_id]
        kind = command.WhichOneof("response")
        if kind == "accepted":
            update.accepted = self.run.add(
                WorkflowExecutionUpdateAcceptedEventAttributes(
                    protocol_instance_id=update.id,
                    accepted_request_message_id=f"{update.id}/request",
                    accepted_request_sequencing_event_id=len(self.run.history.events) - 2,
                    accepted_request=update.request,
                )
            )
            return
        del self._open[update.id]
        outcome = Outcome()
        if kind == "rejected":
            outcome.failure.CopyFrom(command.rejected)
        else:
            outcome.success.payloads.append(command.completed)
            self.run.add(
                WorkflowExecutionUpdateCompletedEventAttributes(
                    meta=update.request.meta, accepted_event_id=update.accepted, outcome=outcome
                )
            )
        update.heard(outcome)

    def unheard(self) -> list[Update]:
        """List those that it has not accepted: the next run may."""
        waiting = [update for update in self._open.values() if not update.accepted]
        self._open = {update.id: update for update in self._open.values() if update.accepted}
        return waiting

    def fail(self) -> None:
        """Fail all others, because the run has ended."""
        for update in self._open.values():
            update.heard(Outcome(failure=Failure(message="the workflow closed before the update completed")))
