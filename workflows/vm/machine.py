"""What all stages of a VM share: its state, how it waits, and how the machine and its Node are observed."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import names
    from api.market import Candidate, MarketNews, identity_of
    from api.messages import Stage, VmStart
    from api.node_labels import REGION, ZONE, node_labels
    from api.views import AgentView, NodeView, VmView
    from workflows.policy.notice import ends_at
    from workflows.vm.card import Wait, card

from workflows.common.calls import call, call_unless, explain
from workflows.common.clock import Clock
from workflows.common.continue_as_new import is_long, is_time_to_go_on
from workflows.common.patches import patched
from workflows.vm.reports import CLOSED, Reports
from workflows.vm.state import Attempt, VmState

POLL_SECONDS = 3.0

DELETE_SECONDS = 120.0
"""How long one call watches a deletion."""

AGENT_SECONDS = 30.0
"""The time between two polls of a Ready node whose agent does not run yet. Once it is late, four times as long."""

Out = TypeVar("Out")
In = TypeVar("In")


class Machine:
    """One VM, as all its stages share it."""

    def __init__(self, start: VmStart, state: VmState) -> None:
        self.start = start
        self.timings = start.timings
        self.state = state
        self.reports = Reports(start, state)
        self._clock = Clock(lambda: start.timings.owner_check) if self.watches else None

    @property
    def watches(self) -> bool:
        """True unless this run began on a release that polled each step from the workflow."""
        return patched("watched-steps")

    def start_clock(self) -> None:
        """Let waits end at their deadlines; ``stop_clock`` before the run ends."""
        if self._clock is not None:
            self._clock.start()

    def stop_clock(self) -> None:
        """Leave no timer behind."""
        if self._clock is not None:
            self._clock.stop()

    def show(self, wait: Wait | None = None) -> None:
        """Show the machine in the Web UI as it is now, with what it waits for."""
        workflow.set_current_details(card(self.start, self.state, self.candidate, wait))

    async def report(self) -> None:
        """Report to the job what has changed, and answer its ensure."""
        await self.reports.send(self.missing_agent())

    @property
    def current(self) -> Attempt:
        """Return the present attempt: the last one."""
        return self.state.tries[-1] if self.state.tries else Attempt(name="", zone="")

    @property
    def candidate(self) -> Candidate:
        """Return the candidate of the present attempt."""
        gcp = self.start.spec.gcp
        own = Candidate(zone=self.current.zone or gcp.zone, machine_type=gcp.machine_type, gpu=self.start.spec.gpu)
        return self.current.candidate or own

    @property
    def name(self) -> str:
        """Return the name of the instance, which is also its Node's."""
        return self.current.name

    async def report_to_market(self, kind: str, *, message: str = "", scope: str = "", lost: bool = False) -> bool:
        """Report what became of this machine or attempt. True if the market received it."""
        start = self.start
        news = MarketNews(
            vm=start.key,
            kind=kind,
            candidate=self.candidate,
            name=self.name,
            message=message,
            scope=scope,
            identity=identity_of(start.credentials, start.namespace),
            namespace=start.namespace,
            credentials=start.credentials,
            lost=lost,
            at=workflow.now(),
        )
        self.state.on_market = self.state.on_market or kind == "Bought"
        request = act.TellMarket(project=start.spec.gcp.project, timings=self.timings, news=news)
        try:
            await call(act.TELL_MARKET, request, summary=f"{self.candidate.key}: {kind}")
        except ActivityError as error:
            workflow.logger.warning("the market: %s", explain(error)[1])
            return False
        self.state.on_market = kind == "Bought"
        return True

    def vm_ref(self, one: Attempt | None = None) -> act.VmRef:
        """Name the instance of an attempt for activities, with the labels and id that distinguish it from others."""
        one, start = one or self.current, self.start
        known = self.state.view if self.state.view and self.state.view.name == one.name else None
        return act.VmRef(
            project=start.spec.gcp.project,
            zone=one.zone,
            name=one.name,
            namespace=start.namespace,
            credentials=start.credentials,
            labels={
                names.GCE_LABEL_JOB: start.job_id,
                names.GCE_LABEL_REPLICA: str(start.replica),
                names.GCE_LABEL_CLUSTER: names.cluster_label(start.cluster_id),
            },
            instance_id=known.instance_id if known else None,
            placement=start.placement,
        )

    def enter(self, stage: Stage, *, seconds: float | None = None, reason: str = "", message: str = "") -> None:
        """Enter a stage, which is late after ``seconds``."""
        self.state.stage, self.state.reason, self.state.message, self.state.slow = stage, reason, message, False
        self.state.deadline = workflow.now() + timedelta(seconds=seconds) if seconds else None

    def lose(self, reason: str, message: str) -> None:
        """Enter Lost: the machine no longer runs."""
        self.state.dead = self.state.lost = True
        self.enter("Deleting" if self.watches else "Lost", reason=reason, message=message)

    def give_up(self, reason: str, message: str) -> None:
        """Delete a machine that runs but is of no use. The job asks for another."""
        workflow.logger.warning("releasing %s: %s: %s", self.name, reason, message)
        self.enter("Deleting", reason=reason, message=message)

    def late(self) -> bool:
        """True if the deadline of this stage has passed."""
        return self.state.deadline is not None and workflow.now() >= self.state.deadline

    def soon(self, seconds: float = POLL_SECONDS) -> datetime:
        """Return the time ``seconds`` from now."""
        return workflow.now() + timedelta(seconds=seconds)

    async def until(self, condition: Callable[[], bool], deadline: datetime, waits_for: str) -> None:
        """Wait for the condition, a release (unless the VM is being deleted) or a long history, until the deadline."""
        ends = self._ends(condition)

        def over() -> bool:
            return ends() or is_time_to_go_on()

        self.show(Wait(waits_for, deadline))
        if self._clock is not None:
            await self._clock.wait(over, deadline, waits_for)
            return
        left = max(deadline - workflow.now(), timedelta(milliseconds=1))
        try:
            await workflow.wait_condition(over, timeout=left, timeout_summary=waits_for[:200])
        except TimeoutError:
            return

    def _ends(self, condition: Callable[[], bool]) -> Callable[[], bool]:
        """Make the condition that ends a wait: its own, or a release unless the VM is being deleted."""
        going = self.state.stage == "Deleting"
        return lambda: condition() or (self.state.released is not None and not going)

    async def watch(
        self, signature: act.Signature[In, Out], request: In, over: Callable[[], bool], *, seconds: float, summary: str
    ) -> Out | None:
        """Let an activity watch something; None if the wait for it is over first.

        A long history does not end it: the activity hears of that half a minute later, so the next run's would begin
        beside it. It lasts some minutes at most.

        Args:
            signature: The activity.
            request: Its input.
            over: What ends the wait, beside a release of a VM that is not being deleted.
            seconds: How long the activity watches at most.
            summary: What the call is for.

        Raises:
            ActivityError: The activity failed.
        """
        self.show(Wait(summary))
        return await call_unless(self._ends(over), signature, request, summary=summary, watch=max(seconds, 1.0))

    def left(self) -> float:
        """Return the seconds until the deadline of this stage; none if it has no deadline."""
        return max(0.0, (self.state.deadline - workflow.now()).total_seconds()) if self.state.deadline else 0.0

    async def observe(self) -> VmView:
        """Ask the cloud how the machine is."""
        view = await call(act.OBSERVE_VM, self.vm_ref(), summary=f"does {self.name} run?")
        self.state.view = view if view.exists else self.state.view
        return view

    def gone_or_stopped(self, view: VmView) -> bool:
        """True if the machine no longer runs. If another instance has its name, ours is gone."""
        known = self.state.view.instance_id if self.state.view else None
        return view.stopped or (known is not None and view.instance_id != known)

    def see_node(self, view: NodeView) -> None:
        """Record how the Node is now. A preemption taint or condition on it is a notice."""
        self.state.node = view
        if view.marks:
            self.notice(view.marks[0], began=view.marked_at)

    @property
    def job_ref(self) -> act.JobRef:
        """Name the job for which the VM was bought."""
        start = self.start
        return act.JobRef(namespace=start.namespace, name=start.job_name, uid=start.job_uid, job_id=start.job_id)

    def see_owner(self, owner: act.Owner | None) -> None:
        """Record whether the job still lives; None if nobody could be asked. A job that lives receives a report."""
        now = self.state.owner_checked_at = workflow.now()
        if owner is None:  # asked again soon
            self.state.owner_checked_at = min(now, now + CLOSED - timedelta(seconds=self.timings.owner_check))
            return
        if not owner.alive:
            self.state.released = f"OwnerGone: {owner.reason}"
        self.state.asked += 1

    def see_agent(self, agent: AgentView | None) -> None:
        """Record how the node agent is now; None if nobody has looked. It is only reported: nothing waits for it."""
        if agent is not None:
            self.state.agent = agent
            self.state.agent_since = None if agent.running else self.state.agent_since or workflow.now()

    def missing_agent(self) -> AgentView | None:
        """Return why the node agent does not run, once it is late; None before."""
        since = self.state.agent_since
        late = since is not None and workflow.now() >= since + timedelta(seconds=self.timings.agent_deadline)
        return self.state.agent if late else None

    def next_agent_poll(self) -> datetime | None:
        """Return when to poll the node agent again; None if it runs."""
        if self.state.agent_since is None:
            return None
        if self.missing_agent():
            return self.soon(4 * AGENT_SECONDS)
        return min(self.soon(AGENT_SECONDS), self.state.agent_since + timedelta(seconds=self.timings.agent_deadline))

    def notice(self, source: str, *, seconds_left: float | None = None, began: datetime | None = None) -> None:
        """Record that the machine is about to go. A second notice changes nothing.

        Args:
            source: Who gives the notice.
            seconds_left: The seconds left, as the notice states them.
            began: When the cloud gave its notice, by the machine's own clock.
        """
        if self.state.noticed_at is None and self.state.stage not in {"Lost", "Deleting", "Gone"}:
            self.state.noticed_at = now = workflow.now()
            self.state.reason = source
            self.state.ends_at = ends_at(
                now, seconds_left=seconds_left, began=began, usual=self.start.spec.gcp.notice_seconds
            )

    def notice_left(self) -> float:
        """Return the seconds until the machine is shut down; 0 if unknown."""
        ends = self.state.ends_at
        return max(0.0, (ends - workflow.now()).total_seconds()) if ends else 0.0

    @property
    def is_open_to_others(self) -> bool:
        """True if somebody has uncordoned the Node, or if its kubelet has registered it again."""
        node = self.state.node
        return self.state.reserved and node is not None and node.exists and node.schedulable

    async def prepare_node(self, node: NodeView) -> None:
        """Label the Node with its job and replica, and keep the pods of others off it."""
        start = self.start
        request = act.PrepareNode(
            node=act.NodeRef(name=node.name, uid=node.uid),
            labels={
                **self._well_known_labels(),
                names.LABEL_JOB: start.job_id,
                names.LABEL_REPLICA: str(start.replica),
                names.LABEL_MANAGED_BY: names.MANAGED_BY,
            },
            annotations={names.ANNOTATION_WORKFLOW: names.job_workflow_id(start.namespace, start.job_name)},
            reserved=self.state.reserved,
        )
        view = await call(act.PREPARE_NODE, request, summary=f"label {node.name}")
        self.state.prepared = node.uid
        if self.state.reserved:
            self.see_node(view)

    def _well_known_labels(self) -> dict[str, str]:
        """Return the labels by which templates select nodes."""
        labels = node_labels(self.candidate, self.start.spec.node_labels)
        if patched("well-known-labels"):
            return labels
        return {ZONE: labels[ZONE], REGION: labels[REGION]}

    def not_ready_since(self) -> datetime | None:
        """Return since when the Node is not Ready; None if it is Ready or not known yet."""
        node = self.state.node
        if node is None or (node.exists and node.ready):
            return None
        return self.state.not_ready_since or workflow.now()

    async def remove(self, one: Attempt) -> bool:
        """Delete an instance until it is gone. True if it is; False if the history is long and the next run goes on.

        A refused deletion is retried after the step's back-off.
        """
        while not one.absent:
            watch = DELETE_SECONDS if self.watches else None
            view = await call(act.DELETE_VM, self.vm_ref(one), summary=f"delete {one.name}", watch=watch)
            one.absent = not view.exists
            if one.absent:
                break
            self.state.message = f"waiting for {one.name} to be gone: {view.status}"
            await self.report()
            await workflow.sleep(timedelta(seconds=POLL_SECONDS))
            if is_long():
                return False
        return True

    async def revoke_token(self) -> None:
        """Revoke the bootstrap token of this machine, which is no longer needed."""
        if self.state.token_id is None:
            return
        await call(act.REVOKE_TOKEN, act.TokenRef(token_id=self.state.token_id), summary="revoke the bootstrap token")
        self.state.token_id = None


class Part:
    """A part of the workflow that carries out some stages, with what it works on."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.start = machine.start
        self.timings = machine.timings
        self.state = machine.state
