"""One VM's life: bought, joined, used, and confirmed gone, whatever becomes of the job that wanted it.

An entity of its own, not a child of the job: continue-as-new, a reset or the termination of the job leaves it alive
to tear its machine down. At the end the instance is confirmed gone before its Node is deleted, because a Node
deleted first lets the Job controller start a second pod while the first still trains.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, FailureError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import names
    from api.messages import NodeChanged, PreemptionNotice, VmRelease, VmReport, VmStart
    from api.spot_instance_vm import ProvisionedInstance
    from api.views import NodeView, VmView
    from workflows.calls import call, explain
    from workflows.cancelling import outlive_cancel
    from workflows.history import is_long
    from workflows.policy.backoff import back_off
    from workflows.vm_state import Stage, Try, VmState

MAX_JOINS = 3
POLL_SECONDS = 3.0
LOOK_SECONDS = 30.0  # between two looks at the machine of a NotReady node
ALIVE = frozenset({"PROVISIONING", "STAGING", "RUNNING", "STOPPING", "REPAIRING", "SUSPENDING"})


@workflow.defn(name=names.VM_WORKFLOW)
class SpotVM:
    """Create → boot → join → Ready → release, notice or loss → drain → delete → confirmed gone → Node deleted."""

    @workflow.init
    def __init__(self, start: VmStart) -> None:
        """Begin a life, or go on with one after continue-as-new."""
        self.start = start
        self.timings = start.timings
        self.state = VmState.model_validate(start.state) if start.state else _first_state(start)

    @workflow.signal(description="The job wants this VM and asks how it is; answered by a report.")
    def ensure(self) -> None:
        """That this run exists is what was ensured."""
        self.state.asked += 1

    @workflow.signal(description="Let go of this VM: drain, delete, confirm that it is gone.")
    def release(self, message: VmRelease) -> None:
        """The second release changes nothing."""
        self.state.released = self.state.released or message.reason

    @workflow.signal(description="The machine is about to be preempted.")
    def preemption_notice(self, message: PreemptionNotice) -> None:
        """The second notice changes nothing."""
        self._notice(message.source)

    @workflow.signal(description="The Node of this VM changed.")
    def node_changed(self, message: NodeChanged) -> None:
        """Older versions and other nodes are dropped."""
        if message.view.name != self._try.name or message.version <= self.state.node_version:
            return
        self.state.node_version = message.version
        self._see_node(message.view)

    @workflow.query(description="Where this VM is in its life.")
    def status(self) -> VmState:
        """The whole state."""
        return self.state

    @workflow.run
    async def run(self, start: VmStart) -> str:
        """Live until nothing is left of the machine; gives the reason of the end. A cancel is a release."""
        return await outlive_cancel(self._life(), self._cancelled)

    def _cancelled(self) -> None:
        self.state.released = self.state.released or "Cancelled"

    async def _life(self) -> str:
        while not self._is_over():
            try:
                await self._step()
                self.state.failures = 0
            except ActivityError as error:
                await self._failed(error)
            await self._tell()
            if is_long() and not self._is_over():
                await workflow.wait_condition(workflow.all_handlers_finished)
                workflow.continue_as_new(self.start.model_copy(update={"state": self.state.model_dump(mode="json")}))
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self.state.released or self.state.reason

    def _is_over(self) -> bool:
        return self.state.stage == "Gone"

    async def _step(self) -> None:
        """One stage's work; every stage can be entered again over the state."""
        await self._look_for_owner()
        if self.state.released and self.state.stage != "Deleting":
            self._enter("Deleting", reason=self.state.released)
        if self.state.noticed_at and self.state.stage in {"Booting", "Joining", "Registering", "Ready"}:
            self._enter("Noticed", seconds=self.timings.preempted_gone, reason=self.state.reason)
        match self.state.stage:
            case "Creating":
                await self._create()
            case "Booting":
                await self._boot()
            case "Joining":
                await self._join()
            case "Registering":
                await self._register()
            case "Ready":
                await self._serve()
            case "Noticed":
                await self._await_end()
            case "Lost":
                self._enter("Deleting", reason=self.state.reason, message=self.state.message)
            case "Deleting":
                await self._delete()

    # --- buying

    async def _create(self) -> None:
        if not self.state.tries or self._try.absent:
            self._next_try()
        vm = self._vm_ref()
        candidate = f"{self.start.spec.gcp.machine_type} · {vm.zone} · try {self.state.attempt}"
        try:
            if self._try.operation is None:
                request = act.CreateVm(
                    vm=vm,
                    spec=self.start.spec,
                    machine_type=self.start.spec.gcp.machine_type,
                    ssh_public_key_of=self.start.ssh_key,
                )
                created = await call(act.CREATE_VM, request, summary=candidate)
                self._try.operation = created.name or ""
                self.state.deadline = self._soon(self.timings.create_deadline)
            await self._tell()
            observe = act.ObserveCreate(vm=vm, operation=self._try.operation or None)
            progress = await call(act.OBSERVE_CREATE, observe, summary=f"wait for the create operation · {candidate}")
        except ActivityError as error:
            reason, message = explain(error)
            if reason == "Transient":
                raise  # unclear: the same try again, its request id makes that one VM
            await self._try_failed(reason, message)
            return
        if progress.error:
            await self._try_failed(progress.error, progress.message)
        elif progress.done and progress.vm.exists:
            self.state.view = progress.vm
            self._enter("Booting", seconds=self.timings.boot_deadline, message=f"{vm.name} runs in {vm.zone}")
        elif progress.done:
            await self._try_failed("PreemptedBeforeBoot", f"{vm.name} was gone before it booted")
        elif self._late():
            await self._try_failed("CreateTimeout", f"the creation of {vm.name} was not done in time")
        else:
            await self._until(lambda: False, self._soon(), f"the creation of {vm.name}")

    def _next_try(self) -> None:
        self.state.attempt += 1
        name = names.vm_name(self.start.key, self.state.attempt)
        self.state.tries = [*(old for old in self.state.tries if not old.absent)]
        self.state.tries.append(Try(name=name, zone=self.start.spec.gcp.zone))
        self.state.deadline = None  # counts from the moment in which the cloud has taken it

    async def _try_failed(self, reason: str, message: str) -> None:
        """Confirm that nothing of this try is left, then rest: a next try beside an unclear one makes twins."""
        if reason != "Conflict":  # then the name is somebody else's, and nothing of ours is there
            await self._remove(self._try)
        self._try.absent = True
        self.state.stockouts += 1
        rest = back_off(self.state.stockouts, self.timings.stockout_rest, ceiling=10)
        again = workflow.now() + rest
        self.state.reason = reason
        self.state.message = f"{message}; tried again at {again:%H:%M:%S} UTC"
        await self._tell()
        await self._until(lambda: False, again, f"rest after {reason}")

    # --- joining

    async def _boot(self) -> None:
        progress = await call(act.START_JOIN, self._join_request(), summary=f"connect to {self._try.name} and join")
        self._take(progress)
        if progress.state in {"Running", "Joined"}:
            self._enter("Joining", seconds=self.timings.join_deadline, message="kubeadm join runs")
        elif progress.state == "Failed":
            await self._join_failed(progress.message)
        else:
            await self._still_there(f"waits for SSH on {self._try.name}: {progress.message}")

    async def _join(self) -> None:
        progress = await call(act.OBSERVE_JOIN, self._join_request(), summary=f"kubeadm join on {self._try.name}")
        self._take(progress)
        if progress.state == "Joined":
            self._enter("Registering", seconds=self.timings.ready_deadline, message="waits for the Node")
        elif progress.state == "Failed":
            await self._join_failed(progress.message)
        else:
            await self._still_there(f"waits for kubeadm join: {progress.message}")

    async def _join_failed(self, message: str) -> None:
        self.state.joins += 1
        if self.state.joins >= MAX_JOINS:
            self._give_up("JoinFailed", message)
            return
        self.state.reason, self.state.message = "JoinRetried", message
        self._enter("Booting", seconds=self.timings.boot_deadline, reason="JoinRetried", message=message)
        await self._until(lambda: False, self._soon(), "before the next join")

    async def _register(self) -> None:
        name = self._try.name
        readiness = await call(act.OBSERVE_NODE, act.NodeRef(name=name), summary=f"is {name} Ready with its GPUs?")
        if readiness.view.exists:
            self._see_node(readiness.view)
            if self.state.prepared != readiness.view.uid:
                await self._prepare_node(readiness.view)
                self.state.prepared = readiness.view.uid
        waits_for = self._lacks(readiness)
        if waits_for is None:
            await self._revoke_token()
            self._enter("Ready", message=f"node {name} is Ready")
            return
        await self._still_there(waits_for)

    async def _prepare_node(self, node: NodeView) -> None:
        start = self.start
        request = act.PrepareNode(
            node=act.NodeRef(name=node.name, uid=node.uid),
            labels={
                names.LABEL_JOB: start.job_id,
                names.LABEL_REPLICA: str(start.replica),
                names.LABEL_MANAGED_BY: names.MANAGED_BY,
                "topology.kubernetes.io/zone": self._try.zone,
                "topology.kubernetes.io/region": self._try.zone.rpartition("-")[0],
            },
            annotations={names.ANNOTATION_WORKFLOW: names.job_workflow_id(start.namespace, start.job_name)},
        )
        await call(act.PREPARE_NODE, request, summary=f"label {node.name}")

    def _lacks(self, readiness: act.NodeReadiness) -> str | None:
        """What the node still waits for, None where it can take its replica."""
        view, gpu = readiness.view, self.start.spec.gpu
        if not view.exists:
            return f"waits for node {view.name} to register"
        if not view.ready:
            return f"waits for node {view.name} to be Ready"
        if gpu and view.gpus < gpu.count:
            return f"waits for {gpu.count} GPUs on {view.name}: {view.gpus} allocatable"
        if gpu and readiness.gpu_operator and not readiness.validated:
            return f"waits for the GPU operator's validator on {view.name}"
        return None

    async def _still_there(self, waits_for: str) -> None:
        """Between two looks: is the machine there, is it late? A machine lost while it joins is lost, not failed."""
        self.state.message = waits_for
        view = await self._look()
        if self._gone_or_stopped(view):
            self._lose("PreemptedWhileJoining", f"{self._try.name} was lost before it was Ready")
        elif self._late():
            self._give_up(f"{self.state.stage}Timeout", f"in vain: {waits_for}")
        else:
            await self._tell()
            await self._until(lambda: self.state.noticed_at is not None, self._soon(), waits_for)

    # --- serving

    async def _serve(self) -> None:
        await self._tell()
        self.state.not_ready_since = self._not_ready_since()
        told, asked = self.state.not_ready_since, self.state.asked
        until = self._soon(self.timings.owner_check)
        if told:
            # A machine that is gone may be reported RUNNING for a minute: look again and again.
            until = min(self._soon(LOOK_SECONDS), told + timedelta(seconds=self.timings.not_ready_grace))
        await self._until(
            lambda: (
                self.state.noticed_at is not None
                or self.state.asked != asked
                or (self._not_ready_since() is None) != (told is None)
            ),
            until,
            "release, notice or loss",
        )
        if self.state.noticed_at or self.state.asked != asked:
            return
        # Something was silent or NotReady: ask GCE before anything is concluded from it, then the API server.
        if self._gone_or_stopped(await self._look()):
            self._lose("Lost", f"{self._try.name} is gone without a notice")
            return
        node = act.NodeRef(name=self._try.name)
        self._see_node((await call(act.OBSERVE_NODE, node, summary=f"look at node {node.name}")).view)
        since = self._not_ready_since()
        if since and workflow.now() >= since + timedelta(seconds=self.timings.not_ready_grace):
            self._give_up("NodeNotReady", f"{self._try.name} runs, but its node is NotReady for too long")

    async def _await_end(self) -> None:
        await self._tell()
        view = await self._look()
        if self._gone_or_stopped(view):
            self._lose("Preempted", f"{self._try.name} was preempted")
        elif self._late():
            self._enter("Deleting", reason="Preempted", message="still there long after its notice")
        else:
            await self._until(lambda: False, self._soon(3 * POLL_SECONDS), "the preempted machine's end")

    # --- the end

    async def _delete(self) -> None:
        await self._tell()
        if not self.state.dead and self.state.node and self.state.node.exists:
            await self._drain(self.state.node)
        for one in self.state.tries:
            await self._remove(one)
        self.state.dead = True
        await self._revoke_token()
        for one in self.state.tries:
            await self._delete_node(one)
        await self._write_entry(gone=True)
        self._enter("Gone", reason=self.state.reason, message="nothing is left")

    async def _drain(self, node: NodeView) -> None:
        """Let the pods end by themselves, within the deadline; what still runs then ends with the machine."""
        deadline = workflow.now() + timedelta(seconds=self.timings.drain)
        while workflow.now() < deadline:
            try:
                drained = await call(
                    act.CORDON_AND_DRAIN, act.NodeRef(name=node.name, uid=node.uid), summary=f"drain {node.name}"
                )
            except ActivityError as error:
                workflow.logger.warning("drain of %s: %s", node.name, explain(error)[1])
                return  # a cluster that does not answer must not keep a machine that costs money
            if not drained.remaining:
                return
            self.state.message = f"waits for {', '.join(drained.remaining)} to stop"
            await workflow.sleep(timedelta(seconds=POLL_SECONDS))

    async def _remove(self, one: Try) -> None:
        """Delete an instance and see that it is gone; a refused deletion is asked again by the step's back-off."""
        while not one.absent:
            view = await call(act.DELETE_VM, self._vm_ref(one), summary=f"delete {one.name}")
            one.absent = not view.exists
            if one.absent:
                return
            self.state.message = f"waits for {one.name} to be gone: {view.status}"
            await self._tell()
            await workflow.sleep(timedelta(seconds=POLL_SECONDS))

    async def _delete_node(self, one: Try) -> None:
        if one.node_gone:
            return
        uid = self.state.node.uid if self.state.node and self.state.node.name == one.name else None
        await call(act.DELETE_NODE, act.NodeRef(name=one.name, uid=uid), summary=f"delete Node {one.name}")
        one.node_gone = True

    async def _revoke_token(self) -> None:
        if self.state.token_id is None:
            return
        await call(act.REVOKE_TOKEN, act.TokenRef(token_id=self.state.token_id), summary="revoke the bootstrap token")
        self.state.token_id = None

    # --- telling

    async def _tell(self) -> None:
        """Report to the job what has changed, and answer its ensure."""
        state = self.state
        now_told = (state.stage, state.reason, state.message, state.dead)
        if now_told == state.told and state.answered == state.asked:
            return
        entry_changed = state.told is None or state.told[0] != state.stage or state.told[3] != state.dead
        state.number += 1
        state.told, state.answered = now_told, state.asked
        owner = workflow.get_external_workflow_handle(names.job_workflow_id(self.start.namespace, self.start.job_name))
        try:
            await owner.signal("vm_changed", self._report())
        except FailureError:
            state.owner_checked_at = None  # closed: see soon whether for good
        if entry_changed and state.stage != "Gone":
            await self._write_entry(gone=False)

    def _report(self) -> VmReport:
        state, current = self.state, self.state.tries[-1] if self.state.tries else None
        return VmReport(
            key=self.start.key,
            number=state.number,
            stage=state.stage,
            reason=state.reason,
            message=state.message,
            vm_name=current.name if current else None,
            zone=current.zone if current else None,
            node_name=state.node.name if state.node else None,
            node_uid=state.node.uid if state.node else None,
            dead=state.dead,
            fingerprint=state.fingerprint,
            at=workflow.now(),
        )

    async def _write_entry(self, *, gone: bool) -> None:
        """Its entry in the SpotInstanceVM's status. For people: never in the way of the life itself."""
        state, view = self.state, self.state.view
        if not state.tries:
            return
        current = state.tries[-1]
        entry = ProvisionedInstance(
            name=current.name,
            instance_id=view.instance_id if view else None,
            internal_ip=view.internal_ip if view else None,
            external_ip=view.external_ip if view else None,
            zone=current.zone,
            state=state.stage,
            joined_cluster=state.node is not None and state.node.exists,
            node_name=state.node.name if state.node else None,
            creation_time=view.creation_time if view else None,
        )
        request = act.WriteVmEntry(
            namespace=self.start.namespace,
            vm_name=self.start.vm_name,
            name=self.start.key,
            entry=None if gone else entry,
        )
        try:
            await call(act.WRITE_VM_ENTRY, request, summary=f"status of {current.name}: {state.stage}")
        except ActivityError as error:
            workflow.logger.warning("status of %s: %s", current.name, explain(error)[1])

    async def _failed(self, error: ActivityError) -> None:
        """A step failed: say why, wait, and take the step again."""
        self.state.failures += 1
        self.state.reason, self.state.message = explain(error)
        workflow.logger.warning("%s: %s", self.state.stage, self.state.message)
        if self._late() and self.state.stage in {"Booting", "Joining", "Registering"}:
            self._give_up(self.state.reason, self.state.message)
            return
        await self._tell()
        again = workflow.now() + back_off(self.state.failures, self.timings.retry)
        await self._until(lambda: False, again, f"after {self.state.reason}")

    # --- knowing

    async def _look(self) -> VmView:
        view = await call(act.OBSERVE_VM, self._vm_ref(), summary=f"look at {self._try.name}")
        self.state.view = view if view.exists else self.state.view
        return view

    def _gone_or_stopped(self, view: VmView) -> bool:
        """Also where another instance answers to the name: ours is gone then."""
        known = self.state.view.instance_id if self.state.view else None
        return not view.exists or view.status not in ALIVE or (known is not None and view.instance_id != known)

    async def _look_for_owner(self) -> None:
        """At intervals: whatever became of the job, its machine must not stay behind."""
        now, last = workflow.now(), self.state.owner_checked_at
        if self.state.released or (last and now - last < timedelta(seconds=self.timings.owner_check)):
            return
        start = self.start
        job = act.JobRef(namespace=start.namespace, name=start.job_name, uid=start.job_uid, job_id=start.job_id)
        owner = await call(act.CHECK_OWNER, act.CheckOwner(job=job), summary="does the job still live?")
        self.state.owner_checked_at = now
        if not owner.alive:
            self.state.released = f"OwnerGone: {owner.reason}"

    def _see_node(self, view: NodeView) -> None:
        self.state.node = view
        if view.marks:
            self._notice(view.marks[0])

    def _notice(self, source: str) -> None:
        if self.state.noticed_at is None and self.state.stage not in {"Lost", "Deleting", "Gone"}:
            self.state.noticed_at = workflow.now()
            self.state.reason = source

    def _not_ready_since(self) -> datetime | None:
        node = self.state.node
        if node is None or (node.exists and node.ready):
            return None
        return self.state.not_ready_since or workflow.now()

    def _take(self, progress: act.JoinProgress) -> None:
        self.state.token_id = progress.token_id or self.state.token_id
        self.state.fingerprint = {**self.state.fingerprint, **progress.fingerprint}

    # --- small

    @property
    def _try(self) -> Try:
        return self.state.tries[-1] if self.state.tries else Try(name="", zone="")

    def _vm_ref(self, one: Try | None = None) -> act.VmRef:
        one, start = one or self._try, self.start
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

    def _join_request(self) -> act.StartJoin:
        start, view = self.start, self.state.view
        address = (view.external_ip or view.internal_ip or "") if view else ""
        return act.StartJoin(
            vm=self._vm_ref(),
            spec=start.spec,
            address=address,
            job_id=start.job_id,
            cluster_id=start.cluster_id,
            provider_id=f"gce://{start.spec.gcp.project}/{self._try.zone}/{self._try.name}",
            namespace=start.namespace,
            ssh_key=start.ssh_key,
            token_lifetime=self.timings.token_lifetime,
            workflow=names.job_workflow_id(start.namespace, start.job_name),
        )

    def _enter(self, stage: Stage, *, seconds: float | None = None, reason: str = "", message: str = "") -> None:
        self.state.stage, self.state.reason, self.state.message = stage, reason, message
        self.state.deadline = workflow.now() + timedelta(seconds=seconds) if seconds else None

    def _lose(self, reason: str, message: str) -> None:
        self.state.dead = True
        self._enter("Lost", reason=reason, message=message)

    def _give_up(self, reason: str, message: str) -> None:
        """The machine runs but is of no use: delete it, the job asks for another."""
        workflow.logger.warning("gives up %s: %s: %s", self._try.name, reason, message)
        self._enter("Deleting", reason=reason, message=message)

    def _late(self) -> bool:
        return self.state.deadline is not None and workflow.now() >= self.state.deadline

    def _soon(self, seconds: float = POLL_SECONDS) -> datetime:
        return workflow.now() + timedelta(seconds=seconds)

    async def _until(self, condition: Callable[[], bool], deadline: datetime, waits_for: str) -> None:
        """Wait for the condition or a release (unless it goes already), until the deadline at the latest."""
        left = max(deadline - workflow.now(), timedelta(milliseconds=1))
        going = self.state.stage == "Deleting"
        try:
            await workflow.wait_condition(
                lambda: condition() or (self.state.released is not None and not going),
                timeout=left,
                timeout_summary=waits_for[:200],
            )
        except TimeoutError:
            return


def _first_state(start: VmStart) -> VmState:
    if not start.teardown:
        return VmState(owner_checked_at=workflow.now())  # the job itself has just asked
    found = [name.partition("/") for name in start.found]
    tries = [Try(zone=zone, name=name) for zone, _, name in found]
    return VmState(stage="Deleting", released="Sweep", reason="Sweep", tries=tries)
