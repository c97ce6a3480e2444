"""What all stages of one VM's life share: its state, how it waits, and how the machine is looked at."""

from collections.abc import Callable
from datetime import datetime, timedelta

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

from workflows.calls import call, explain
from workflows.history import is_long, is_time_to_go_on
from workflows.stages.telling import Telling
from workflows.vm_state import Try, VmState

POLL_SECONDS = 3.0
AGENT_SECONDS = 30.0  # between two looks at a Ready node whose agent does not run yet; four times that once it is late
ALIVE = frozenset({"PROVISIONING", "STAGING", "RUNNING", "STOPPING", "REPAIRING", "SUSPENDING"})


class Machine:
    """One VM, between the stages."""

    def __init__(self, start: VmStart, state: VmState) -> None:
        self.start = start
        self.timings = start.timings
        self.state = state
        self.telling = Telling(start, state)

    async def tell(self) -> None:
        """Report to the job what has changed, and answer its ensure."""
        await self.telling.tell(self.missing_agent())

    @property
    def current(self) -> Try:
        """The try that counts: the last one."""
        return self.state.tries[-1] if self.state.tries else Try(name="", zone="")

    @property
    def candidate(self) -> Candidate:
        """What the present try is for."""
        gcp = self.start.spec.gcp
        own = Candidate(zone=self.current.zone or gcp.zone, machine_type=gcp.machine_type, gpu=self.start.spec.gpu)
        return self.current.candidate or own

    @property
    def name(self) -> str:
        """Of the instance, and of its Node."""
        return self.current.name

    async def tell_market(self, kind: str, *, message: str = "", scope: str = "", lost: bool = False) -> bool:
        """What became of this machine or of the try; False where the market did not take it in."""
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

    def vm_ref(self, one: Try | None = None) -> act.VmRef:
        """The instance of a try, for activities; with what tells ours from a stranger's."""
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
        )

    def enter(self, stage: Stage, *, seconds: float | None = None, reason: str = "", message: str = "") -> None:
        """Go to a stage; ``seconds`` until it is late."""
        self.state.stage, self.state.reason, self.state.message = stage, reason, message
        self.state.deadline = workflow.now() + timedelta(seconds=seconds) if seconds else None

    def lose(self, reason: str, message: str) -> None:
        """The machine runs no more."""
        self.state.dead = self.state.lost = True
        self.enter("Lost", reason=reason, message=message)

    def give_up(self, reason: str, message: str) -> None:
        """The machine runs but is of no use: delete it, the job asks for another."""
        workflow.logger.warning("gives up %s: %s: %s", self.name, reason, message)
        self.enter("Deleting", reason=reason, message=message)

    def late(self) -> bool:
        """The deadline of this stage has passed."""
        return self.state.deadline is not None and workflow.now() >= self.state.deadline

    def soon(self, seconds: float = POLL_SECONDS) -> datetime:
        """A moment from now."""
        return workflow.now() + timedelta(seconds=seconds)

    async def until(self, condition: Callable[[], bool], deadline: datetime, waits_for: str) -> None:
        """Wait for the condition, a release (unless it goes already) or a long history, at most until the deadline."""
        left = max(deadline - workflow.now(), timedelta(milliseconds=1))
        going = self.state.stage == "Deleting"
        try:
            await workflow.wait_condition(
                lambda: condition() or (self.state.released is not None and not going) or is_time_to_go_on(),
                timeout=left,
                timeout_summary=waits_for[:200],
            )
        except TimeoutError:
            return

    async def look(self) -> VmView:
        """Ask the cloud."""
        view = await call(act.OBSERVE_VM, self.vm_ref(), summary=f"look at {self.name}")
        self.state.view = view if view.exists else self.state.view
        return view

    def gone_or_stopped(self, view: VmView) -> bool:
        """Also where another instance answers to the name: ours is gone then."""
        known = self.state.view.instance_id if self.state.view else None
        return not view.exists or view.status not in ALIVE or (known is not None and view.instance_id != known)

    def see_node(self, view: NodeView) -> None:
        """The Node as it is now; its marks are notices."""
        self.state.node = view
        if view.marks:
            self.notice(view.marks[0], began=view.marked_at)

    def see_agent(self, agent: AgentView | None) -> None:
        """The node agent as it is now, None if nobody has looked. Nothing waits for it: people are told."""
        if agent is not None:
            self.state.agent = agent
            self.state.agent_since = None if agent.running else self.state.agent_since or workflow.now()

    def missing_agent(self) -> AgentView | None:
        """Why the node agent does not run, once it is late."""
        since = self.state.agent_since
        late = since is not None and workflow.now() >= since + timedelta(seconds=self.timings.agent_deadline)
        return self.state.agent if late else None

    def next_look_at_agent(self) -> datetime | None:
        """When the node agent that does not run is looked at again."""
        if self.state.agent_since is None:
            return None
        if self.missing_agent():
            return self.soon(4 * AGENT_SECONDS)
        return min(self.soon(AGENT_SECONDS), self.state.agent_since + timedelta(seconds=self.timings.agent_deadline))

    def notice(self, source: str, *, told: float | None = None, began: datetime | None = None) -> None:
        """Somebody announces the machine's end; the second notice changes nothing."""
        if self.state.noticed_at is None and self.state.stage not in {"Lost", "Deleting", "Gone"}:
            self.state.noticed_at = now = workflow.now()
            self.state.reason = source
            self.state.ends_at = ends_at(now, told=told, began=began, usual=self.start.spec.gcp.notice_seconds)

    def notice_left(self) -> float:
        """Seconds until the machine is shut down, as far as that is known."""
        ends = self.state.ends_at
        return max(0.0, (ends - workflow.now()).total_seconds()) if ends else 0.0

    @property
    def is_open_to_others(self) -> bool:
        """True if somebody has uncordoned the Node, or its kubelet has registered it anew."""
        node = self.state.node
        return self.state.reserved and node is not None and node.exists and node.schedulable

    async def prepare_node(self, node: NodeView) -> None:
        """Say on the Node whose it is, and keep others' pods off it."""
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
        """Name the labels by which templates select nodes."""
        labels = node_labels(self.candidate, self.start.spec.node_labels)
        if workflow.patched("well-known-labels"):
            return labels
        return {ZONE: labels[ZONE], REGION: labels[REGION]}

    def not_ready_since(self) -> datetime | None:
        """Since when the Node is not Ready, None where it is or is not known."""
        node = self.state.node
        if node is None or (node.exists and node.ready):
            return None
        return self.state.not_ready_since or workflow.now()

    async def remove(self, one: Try) -> bool:
        """Delete an instance and see that it is gone; False where the next run has to go on with that.

        A refused deletion is asked again by the step's back-off.
        """
        while not one.absent:
            view = await call(act.DELETE_VM, self.vm_ref(one), summary=f"delete {one.name}")
            one.absent = not view.exists
            if one.absent:
                break
            self.state.message = f"waits for {one.name} to be gone: {view.status}"
            await self.tell()
            await workflow.sleep(timedelta(seconds=POLL_SECONDS))
            if is_long():
                return False
        return True

    async def revoke_token(self) -> None:
        """The bootstrap token minted for this machine has served."""
        if self.state.token_id is None:
            return
        await call(act.REVOKE_TOKEN, act.TokenRef(token_id=self.state.token_id), summary="revoke the bootstrap token")
        self.state.token_id = None


class Part:
    """A stage of the life, with what it works on."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.start = machine.start
        self.timings = machine.timings
        self.state = machine.state
