"""Answer people's requests, whichever way they come.

An *update* is refused at once with the reason, or returns a sentence: what came of it or, after half a minute at most,
what it waits for. A *signal* has no answer, so one that is not understood leaves a Warning Event. The
*annotation* of the SpotInstanceJob needs no access to Temporal; its answer is in the status.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from activities.signatures import PatchSpec
    from api import events, names
    from api.messages import PROGRAMS
    from api.spot_instance_job import LONGEST_REQUEST, RequestStatus
    from workflows.job.policy import requests as policy
    from workflows.job.policy.request_inputs import TAKES, Mistake, quoted, read, read_annotation, read_as_before
    from workflows.job.state.replica import Replica
    from workflows.job.state.requests import Request, RequestName

from workflows.common.patches import patched
from workflows.job.core.job import Job
from workflows.job.machines.nodes import Nodes

PATIENCE = timedelta(seconds=30)
"""That an update waits: it holds up continue-as-new, and it is one of the ten that the service lets into a run."""
LONGEST_ANSWER = 1000
REFUSED = "OrderRefused"
ANSWERED = "orders-answered"


class Requests:
    """What people want of one job."""

    def __init__(self, job: Job, nodes: Nodes) -> None:
        self.job = job
        self.state = job.state
        self.requests = job.state.requests
        self.nodes = nodes

    # --- signals

    def hear(self, name: RequestName, given: Sequence[Any]) -> None:
        """Carry out a signal; one that makes no sense leaves an Event, once for each kind of mistake."""
        request = read(name, given)
        if isinstance(request, Mistake) and not patched(ANSWERED):
            if (before := read_as_before(name, given)) is not None:
                self._carry_out(before)
            return
        if isinstance(request, Mistake):
            self._tell_mistake(f"signal {name}: {request.message}", by_person=request.by_person)
            return
        why = policy.no_machine(request, self.state) if self._is_a_persons_notice(request) else None
        if why is not None and patched(ANSWERED):
            self._tell_mistake(f"signal {name}: {why}")
            return
        self._carry_out(request)

    @staticmethod
    def _is_a_persons_notice(request: Request) -> bool:
        return request.name == "preemption_notice" and request.source == "person"

    def unknown(self, name: str) -> None:
        """Tell of a signal that does not exist; one of a program of a later version is no mistake."""
        known = ", ".join(sorted(TAKES))
        message = f"there is no signal {quoted(name)}: a job takes {known}"
        self._tell_mistake(message, by_person=not name.endswith(PROGRAMS) and not name.startswith("__"))

    def _tell_mistake(self, message: str, *, by_person: bool = True) -> None:
        if not by_person:
            workflow.logger.warning("%s", message)
            return
        if not patched(ANSWERED) or not self.requests.is_news(message, workflow.now()):
            return
        if self.requests.too_many:
            message = "many requests were not understood: those of the next hour are no longer reported"
        self.job.event(events.ORDER_NOT_UNDERSTOOD, message, warning=True)

    # --- updates

    def judge(self, name: RequestName, given: Sequence[Any]) -> None:
        """Refuse an update that cannot be carried out.

        Raises:
            ApplicationError: it says why, and what helps.
        """
        if self._answered() is not None:
            return
        request = read(name, given)
        if (why := self._refusal(request)) is not None:
            raise _refused(why)

    def _refusal(self, request: Request | Mistake) -> str | None:
        return request.message if isinstance(request, Mistake) else policy.refusal(request, self.state, workflow.now())

    async def answer(self, name: RequestName, given: Sequence[Any]) -> str:
        """Carry out an update; gives what came of it or, at the end of our patience, what it waits for.

        Raises:
            ApplicationError: nothing came of it.
        """
        if (before := self._answered()) is not None:
            return before
        request = read(name, given)
        if isinstance(request, Mistake):  # its validator has refused it, but a replay runs none
            raise _refused(request.message)
        told = policy.needless(request, self.state) or await self._carried_out(request)
        told = told if len(told) <= LONGEST_ANSWER else f"{told[:LONGEST_ANSWER]}…"
        self.requests.keep_answer(_update_id(), told)
        return told

    def _answered(self) -> str | None:
        return self.requests.answers.get(_update_id())

    async def _carried_out(self, request: Request) -> str:
        self._name_machine(request)
        self.requests.open.append(request)
        try:
            self._carry_out(request)
            ended = await self._ended(request)
        finally:
            self.requests.open = [each for each in self.requests.open if each is not request]
        if ended is None:
            return f"accepted: {policy.waits_for(request, self.state)}"
        if not ended.done:
            raise _refused(ended.message)
        return ended.message

    async def _ended(self, request: Request) -> policy.Outcome | None:
        """Wait for its outcome, but not while this run is about to go on in a new one."""
        try:
            await workflow.wait_condition(
                lambda: self.job.parking or policy.outcome(request, self.state) is not None,
                timeout=PATIENCE,
                timeout_summary=f"the outcome of {request.name}",
            )
        except TimeoutError:
            return None
        return policy.outcome(request, self.state)

    # --- the annotation

    def read_annotation(self, value: str | None) -> None:
        """Take up the annotation; the same value is carried out once, however often it is read."""
        if not value or (self.requests.annotation and self.requests.annotation.value == value[:LONGEST_REQUEST]):
            return
        request = read_annotation(value)
        why = self._refusal(request)
        if why is not None or isinstance(request, Mistake):
            self.requests.annotated = None
            self._answer_annotation(value, "Refused", why or "")
            self.job.event(events.REQUEST_REFUSED, f"request: {why}", warning=True)
            return
        if (told := policy.needless(request, self.state)) is not None:
            self.requests.annotated = None
            self._answer_annotation(value, "Done", told)
            return
        self._name_machine(request)
        self.requests.annotated = request
        self._carry_out(request)
        self._answer_annotation(value, "Accepted", policy.waits_for(request, self.state))

    def settle(self) -> None:
        """Answer the request as soon as its outcome is known. Level-triggered: called in each turn of the job."""
        annotation, request = self.requests.annotation, self.requests.annotated
        if annotation is None or request is None:
            return
        ended = policy.outcome(request, self.state)
        if ended is None:
            self._answer_annotation(annotation.value, "Accepted", policy.waits_for(request, self.state))
            return
        self.requests.annotated = None
        self._answer_annotation(annotation.value, "Done" if ended.done else "Failed", ended.message)

    def _answer_annotation(self, value: str, state: Any, message: str) -> None:
        old = self.requests.annotation
        value = value[:LONGEST_REQUEST]
        same = old is not None and (old.value, old.state) == (value, state)
        at = old.at if same and old else workflow.now()
        new = RequestStatus(value=value, state=state, message=message[:LONGEST_ANSWER], at=at)
        if new != old:
            self.requests.annotation = new
            self.job.touch()

    # --- carrying out

    def _name_machine(self, request: Request) -> None:
        """Complete a notice: the node of the replica that it names, or the replica on its node."""
        if request.name != "preemption_notice":
            return
        if request.replica is None:
            on = [one for one in self.state.replicas.values() if request.node in policy.nodes_under(one, self.state)]
            request.replica = on[0].index if on else None
        elif request.node is None:
            request.node = policy.node_under(self.state.replicas[request.replica], self.state)

    def _carry_out(self, request: Request) -> None:
        match request.name:
            case "suspend" | "resume" | "resize":
                self.job.edit(PatchSpec(job=self.job.ref, suspend=request.suspend, replicas=request.replicas))
            case "checkpoint_now":
                self.state.checkpoint_wanted = True
                self.job.touch()
            case "preemption_notice":
                self._announce(request)

    def _announce(self, request: Request) -> None:
        replica = self.state.replicas.get(request.replica) if request.replica is not None else None
        node = request.node or (self._node_under(replica) if replica else None)
        if node is not None and names.is_segment(node):  # anything else is no node
            self.nodes.notice(node, request.source, seconds_left=request.seconds, began=request.at)
            if request.view is not None and request.view.name == node:
                self.nodes.changed(request.version, request.view)

    def _node_under(self, replica: Replica) -> str | None:
        """Find the node of a replica; earlier releases did not look at its pod."""
        node = policy.node_under(replica, self.state, by_pod=False)
        if node is not None:
            return node
        node = policy.node_under(replica, self.state)
        return node if node is not None and patched(ANSWERED) else None


def _refused(why: str) -> ApplicationError:
    return ApplicationError(why[:LONGEST_ANSWER], type=REFUSED, non_retryable=True)


def _update_id() -> str:
    info = workflow.current_update_info()
    assert info is not None
    return info.id
