"""The world's cluster: nodes, the Jobs of replicas with their pods, and trainings that make progress in them."""

from collections.abc import Callable
from datetime import datetime
from math import inf

from activities import signatures as act
from api import names
from api.messages import NodeChanged, NodeNotice, ReplicaChanged
from api.views import AgentView, ContainerEnd, NodeView, ReplicaView, RestorePoint
from tests.simulation.clock import Clock
from tests.workflows.cluster_objects import Job, Node, Pod
from tests.workflows.gangs import START_SPREAD, Gangs
from tests.workflows.queue import Queue

SCHEDULE_SECONDS = 1.1
START_SECONDS = 4.2  # from scheduled to running: image pull, restore
STOP_SECONDS = 2.3
NOT_READY_SECONDS = 40.7  # from a machine's death until its Node is NotReady

Tell = Callable[[str, str, object], None]


class Cluster:
    """Nodes, Jobs, pods. ``tell`` queues a signal for the bridge."""

    def __init__(self, clock: Clock, tell: Tell) -> None:
        self.clock = clock
        self.tell = tell
        self.version = 0
        self.told_of: dict[str, ReplicaView] = {}  # what its workflow knows of each Job
        self.told: dict[tuple[str, str], NodeView] = {}  # what each workflow knows of a node
        self.uids = 0
        self.nodes: dict[str, Node] = {}
        self.nodes_gone: dict[str, datetime] = {}
        self.jobs: dict[tuple[int, int], Job] = {}
        self.history: dict[tuple[int, int], Job] = {}  # the Jobs that are gone, too
        self.held: dict[str, float] = {}  # steps in the memory of each image
        self.bad: dict[str, str] = {}  # image → why a pod does not start from it
        self.steps: float = 100_000  # of the whole training, one a second
        self.sigterm_exit = 143
        self.finished: set[tuple[int, int]] = set()  # incarnations whose training has finished by itself
        self.hung: set[str] = set()  # images of processes that had stalled
        self.told_to_end: set[str] = set()  # images of processes that had got a SIGTERM before they were dumped
        self.slow_start = 0.0
        # What is said during a slow start; empty if nobody says anything.
        self.busy = "init container fetch has run since 10:00"
        self.missing_images: set[str] = set()  # training images that do not exist
        self.makes_no_pods = ""  # why the Job controller makes no pods, which no dry run had shown
        self.breaks_after: float | None = None  # seconds after which a restored training exits with 1
        self.bug_at: float | None = None  # the step at which every training exits with 1
        self.hangs_at: float | None = None  # the step at which every training stalls
        self.registry_down = False  # the kubelets cannot reach the registry
        self.snatched: set[str] = set()  # nodes whose GPU another pod takes before ours
        self.stranger: str | None = None  # a GPU pod of another team, which takes any room it can get
        self.stranger_tolerates = "GPU"  # the taint nvidia.com/gpu (GPU), or Everything
        self.cdi = False  # the training's GPU is a CDI device, which the scheduler does not see
        self.too_big = False  # the pod does not fit on any machine
        self.uncordons_at_once = False  # somebody uncordons each cordoned node at once
        self.refuses_pods = ""  # the words in which pods are refused from now on
        self.quota = 1_000  # how many pods of the job may exist at a time
        self.claimed: set[str] = set()  # nodes whose CDI devices another job claims before ours
        self.no_logs = False
        self.bucket_refuses = False  # the bucket refuses logs
        self.on_sigterm: Callable[[Job], None] = lambda job: None  # called with the Job of a pod that is deleted
        self.stop_seconds = STOP_SECONDS
        self.agent = AgentView(running=True)  # the agent of every node that was bought
        self.logs: list[tuple[int, int]] = []
        # Called with the Job of a pod whose containers begin to run.
        self.on_start: Callable[[Job], None] = lambda job: None
        self.budget = False  # the budget blocks the eviction of the last pod that runs
        self.stuck_pods: set[tuple[int, int]] = set()  # incarnations whose pod does not stop by itself
        self.gates = False  # somebody's webhook puts scheduling gates on pods, and removes them once this is False
        self.scheduler_away = False  # nobody looks at pods without a node
        self.gangs = Gangs(self)
        self.queue: Queue | None = None  # without a queue nobody resumes Jobs with a queue's label

    # --- nodes

    def add_node(
        self,
        name: str,
        *,
        owner: str | None = None,
        gpus: int = 1,
        ready: bool = True,
        joining: bool = False,
        zone: str | None = None,
    ) -> Node:
        """Register a node."""
        node = Node(name, self._uid(), gpus=gpus, owner=owner, ready=ready, joining=joining, zone=zone)
        self.nodes[name] = node
        self.node_changed(name)
        self.let_stranger_in()
        return node

    def remove_node(self, name: str) -> None:
        """Remove a Node object, and with it the pods that were bound to it."""
        if self.nodes.pop(name, None) is None:
            return
        self.nodes_gone[name] = self.clock.now
        self.node_changed(name)
        for job, member in self._placed_on(name):
            self._remove_pod(job, member)

    def set_ready(self, name: str, ready: bool) -> None:
        """Let the kubelet's heartbeats come, or stop."""
        if name in self.nodes and self.nodes[name].ready != ready:
            self.nodes[name].ready = ready
            self.node_changed(name)
            self.let_stranger_in()

    def let_stranger_in(self) -> None:
        """Let the other team's pods, of a Deployment, take free GPUs if their tolerations allow, one on each node."""
        for node in self.nodes.values():
            closed = (node.cordoned or node.joining) and self.stranger_tolerates != "Everything"
            room = len(self.running_on(node.name)) + len(node.strangers) < node.gpus
            if self.stranger and node.ready and room and not closed and self.stranger not in node.strangers:
                node.strangers.append(self.stranger)

    def cordon(self, name: str, cordoned: bool = True) -> None:
        """Cordon or uncordon a node, as somebody else does."""
        if name in self.nodes and self.nodes[name].cordoned != cordoned:
            self.nodes[name].cordoned = cordoned and not self.uncordons_at_once
            self.node_changed(name)
            self.let_stranger_in()

    def stranger_leaves(self) -> None:
        """Delete the other team's pods."""
        self.stranger = None
        for node in self.nodes.values():
            node.strangers.clear()

    def mark(self, name: str, mark: str = names.TAINT_PREEMPTED) -> None:
        """Announce the end of a node, by the node agent's taint or by another handler."""
        node = self.nodes.get(name)
        if node is None or mark in node.marks:
            return
        node.marks.append(mark)
        node.marked_at = self.clock.now if mark == names.TAINT_PREEMPTED else node.marked_at
        self.version += 1
        view = self.node_view(name)
        for workflow in self._jobs_on(name) | ({node.workflow} if node.workflow else set()):
            notice = NodeNotice(node=name, source=mark, at=node.marked_at, view=view, version=self.version)
            self.tell(workflow, "preemption_notice", notice)
            self.told[name, workflow] = view
        self.node_changed(name)

    def sicken(self, name: str, condition: str) -> None:
        """Set a condition of a node's health, as some monitor does."""
        self.nodes[name].unfit.append(condition)
        self.node_changed(name)

    def machine_died(self, name: str) -> None:
        """Stop the machine under a node. What ran there no longer runs, and nobody learns of it at once."""
        node = self.nodes.get(name)
        if node is None or not node.alive:
            return
        node.alive = False
        for job, member in self._placed_on(name):
            if job.pods[member].stopped_at is None:
                job.pods[member].stopped_at = self.clock.now
                self.gangs.lost(job, silent=True)
        self.clock.after(NOT_READY_SECONDS, lambda: self.set_ready(name, False))

    def terminate_pods(self, name: str) -> None:
        """Shut down the operating system of a node: the kubelet stops the pods, and they exit as they please."""
        for job, member in self.running_on(name):
            self.end_pod(job, self.sigterm_exit, member, disrupted=self.sigterm_exit != 0, told=True)

    def node_view(self, name: str) -> NodeView:
        node = self.nodes.get(name)
        if node is None:
            return NodeView(name=name, exists=False)
        marks = sorted(node.marks)
        return NodeView(
            name=name,
            uid=node.uid,
            ready=node.ready,
            schedulable=not node.cordoned,
            gpus=node.gpus,
            marks=marks,
            unfit=node.unfit,
            marked_at=node.marked_at,
        )

    def node_changed(self, name: str) -> None:
        """Tell everybody who has a pod or a VM on a node."""
        self.version += 1
        message = NodeChanged(version=self.version, view=self.node_view(name))
        key = names.vm_key_of(name)
        for workflow in self._jobs_on(name) | ({names.vm_workflow_id(key)} if key else set()):
            known, self.told[name, workflow] = self.told.get((name, workflow)), message.view
            cordoned = known is not None and known.model_copy(update={"schedulable": False}) == message.view
            if known != message.view and not (cordoned and workflow.startswith("vm:")):  # as the bridge does
                self.tell(workflow, "node_changed", message)

    def _jobs_on(self, name: str) -> set[str]:
        refs = [job.request.job for job, _ in self._placed_on(name)]
        return {names.job_workflow_id(ref.namespace, ref.name) for ref in refs}

    # --- Jobs and their pods

    def create(self, request: act.CreateReplica) -> Job:
        """Create a Job, for whose pod the scheduler looks for room."""
        name = names.replica_job_name(request.job.name, request.job.job_id, request.replica, request.incarnation)
        job = Job(request, name, self._uid(), self.clock.now, suspended=request.suspended)
        self.jobs[job.key] = self.history[job.key] = job
        self._guard_no_twins(job)
        if self.queue is not None:
            self.queue.takes(job)
        self.clock.after(SCHEDULE_SECONDS, lambda: self._schedule(job))
        return job

    def stop(self, job: Job, *, delete: bool, force: bool, grace: float | None = None) -> None:
        """Delete the pods of a Job, with ``force`` without waiting for them, and with ``delete`` the Job as well."""
        job.deleting = job.deleting or delete
        for member in list(job.pods):
            if force:
                self._remove_pod(job, member)
            else:
                self.delete_pod(job, member, grace)
        if delete and not job.pods:
            self._remove_job(job)

    def _schedule(self, job: Job) -> None:
        if job.deleting or self.jobs.get(job.key) is not job or job.failed or job.suspended:
            return
        missing = [member for member in job.members if member not in job.pods and member not in job.over]
        if missing and self.makes_no_pods:
            self.clock.after(60, lambda: self._schedule(job))
            return
        for member in missing:
            suffix = f"-{member}-pod" if job.is_gang else "-pod"
            job.add(member, Pod(name=f"{job.name}{suffix}", uid=self._uid()))
        waiting = [member for member, pod in job.pods.items() if pod.node is None and not pod.deleting]
        if not waiting:
            return
        if self.gates:
            for member in waiting:
                self._waits(job, member, "SchedulingGated", "Scheduling is blocked")
            self.clock.after(5, lambda: self._schedule(job))
            return
        if self.scheduler_away:
            self.changed(job)
            self.clock.after(5, lambda: self._schedule(job))
            return
        for name in job.request.nodes:
            if name in self.snatched and name in self.nodes:
                self.snatched.discard(name)
                self.nodes[name].gpus = 0
        placed = [self._place(job, member) for member in waiting]
        if not all(placed):
            self.clock.after(5, lambda: self._schedule(job))

    def _place(self, job: Job, member: int) -> bool:
        """Bind a pod to a node on which no other member is. True if there is such a node with room."""
        beside = {pod.node for pod in job.pods.values()}
        names_of = [name for name in self._pinned_to(job) if name not in beside]
        fits = [name for name in names_of if self.has_room(self.nodes[name], job.request.job.job_id)]
        if not fits:
            self._waits(job, member, "Unschedulable", "0 nodes are available")
            return False
        pod = job.pods[member]
        pod.node, pod.waiting_reason, pod.message = fits[0], None, None
        self.changed(job)
        self.node_changed(fits[0])
        seconds = START_SECONDS + self.slow_start + member * START_SPREAD
        self.clock.after(seconds, lambda: self._start(job, member))
        return True

    def _waits(self, job: Job, member: int, reason: str, message: str) -> None:
        """Let a pod wait, and say why."""
        job.pods[member].waiting_reason, job.pods[member].message = reason, message
        self.changed(job)

    def _pinned_to(self, job: Job) -> list[str]:
        """List the nodes that the Job names, or that have the label of its place."""
        place = job.request.place
        labelled = [name for name, node in self.nodes.items() if place and node.place == place]
        return [name for name in [*job.request.nodes, *labelled] if name in self.nodes]

    def hold(self, job: Job, by: str | None = None) -> None:
        """Suspend a Job, as somebody else does: its controller deletes the pods."""
        job.suspended, job.suspended_by = True, by
        self.changed(job)
        for member in list(job.pods):
            self.delete_pod(job, member)

    def admit(self, job: Job) -> None:
        """Resume a Job, as its queue or a person does."""
        if self.jobs.get(job.key) is job and job.suspended and not job.deleting:
            job.suspended = False
            self.changed(job)
            self.clock.after(SCHEDULE_SECONDS, lambda: self._schedule(job))

    def _start(self, job: Job, member: int = 0) -> None:
        pod = job.pods.get(member)
        if pod is None or pod.deleting or self.jobs.get(job.key) is not job or not self.nodes[pod.node or ""].alive:
            return
        restore = job.request.restore
        if restore and self.registry_down:
            refused = "dial tcp: connect: connection refused"
            if pod.message != refused:  # the bridge reports only news
                pod.waiting_reason, pod.message = "ImagePullBackOff", refused
                self.changed(job)
            waited = (self.clock.now - job.created_at).total_seconds()
            self.clock.after(10 if waited < 600 else 60, lambda: self._start(job, member))
            return
        if restore is None and job.image in self.missing_images:
            pod.waiting_reason, pod.message = "ImagePullBackOff", f"{job.image}: not found"
            self.changed(job)
            self.clock.after(60, lambda: self._start(job, member))
            return
        pod.waiting_reason = pod.message = None
        reason = self.bad.get(_plain(restore.label)) if restore else None
        if reason is not None:
            pod.waiting_reason, _, pod.message = reason.partition(": ")
            self.changed(job)
            return
        pod.phase, pod.started_at = "Running", self.clock.now
        pod.base = self.held[_plain(restore.label)] if restore else 0.0
        pod.stands_at = pod.base if restore and _plain(restore.label) in self.hung else self.hangs_at
        self.changed(job)
        if job.trains:
            self._begin(job, pod)

    def _begin(self, job: Job, pod: Pod) -> None:
        """Let a training begin, once the containers of all its members run."""
        restore = job.request.restore
        self.on_start(job)
        self.clock.after(max(0.0, self.steps - pod.base), lambda: self._finish(job, pod))
        if restore and restore.kind == "Image" and self.breaks_after is not None:
            self.clock.after(self.breaks_after, lambda: self.end_pod(job, 1))
        if self.bug_at is not None:
            self.clock.after(max(0.1, self.bug_at - pod.base), lambda: self.end_pod(job, 1))
        if restore and _plain(restore.label) in self.told_to_end:
            self.clock.after(STOP_SECONDS, lambda: self.end_pod(job, self.sigterm_exit, told=True))

    def _finish(self, job: Job, pod: Pod) -> None:
        if pod in job.pods.values() and job.trains and self.progress(job) >= self.steps - 1:
            for member in job.members:
                self.end_pod(job, 0, member)

    def end_pod(self, job: Job, code: int, member: int = 0, *, disrupted: bool = False, told: bool = False) -> None:
        """Let the training of a member exit, by itself or because a SIGTERM has ``told`` it to."""
        pod = job.pods.get(member)
        if pod is None or pod.stopped_at is not None or pod.phase != "Running":
            return
        pod.stopped_at, pod.exit_code, pod.disrupted = self.clock.now, pod.exit_code or code, disrupted
        pod.phase = "Failed" if code else "Succeeded"
        pod.ends.append(ContainerEnd(name="train", exit_code=code, finished_at=self.clock.now))
        self._over(job, member, failed=code != 0)
        if not told and len(job.over) == len(job.members) and not any(job.over.values()):
            self.finished.add(job.key)
        self.gangs.lost(job)
        self.changed(job)

    def _over(self, job: Job, member: int, *, failed: bool) -> None:
        """Note that a member gets no other pod. A Job fails once this is so for all of them, and one has failed."""
        job.over[member] = failed
        if len(job.over) == len(job.members):
            words = "FailedIndexes" if job.is_gang else "BackoffLimitExceeded"
            job.failed = words if any(job.over.values()) else None

    def fail_init(self, job: Job, code: int, member: int = 0) -> None:
        """Let an init container exit before the training has started."""
        pod = job.pods[member]
        pod.phase, pod.exit_code, pod.stopped_at = "Failed", code, self.clock.now
        pod.ends.append(ContainerEnd(name="download", exit_code=code, finished_at=self.clock.now, init=True))
        self._over(job, member, failed=True)
        self.changed(job)

    def end_container(self, job: Job, name: str, code: int, member: int = 0) -> None:
        """Let one container exit. The others of its pod run on, and so does the pod."""
        pod = job.pods[member]
        pod.ends.append(ContainerEnd(name=name, exit_code=code, finished_at=self.clock.now))
        pod.exit_code = pod.exit_code or code or None
        self.changed(job)

    def delete_pod(self, job: Job, member: int = 0, grace: float | None = None) -> None:
        """Delete a pod as kubectl does. If its machine runs, it stops within its grace, or this one."""
        pod = job.pods.get(member)
        if pod is None or pod.deleting:
            return
        pod.deleting = True
        self.changed(job)
        if pod.node in self.nodes and self.nodes[pod.node].alive:
            self.gangs.sigterm(job, member)

        def stopped() -> None:
            node = self.nodes.get(pod.node or "")
            dead = node is not None and not node.alive
            if job.pods.get(member) is pod and not dead and job.key not in self.stuck_pods:
                self._remove_pod(job, member)

        self.clock.after(self.gangs.stop_seconds(job, pod, grace) if pod.node else 0.0, stopped)

    def evict(self, job: Job, member: int = 0) -> None:
        """Evict a pod as the kubelet does if a node runs short of something: the pod ends, and its object stays."""
        if member in job.pods:
            job.pods[member].disruption = "Evicted: The node was low on resource: memory."
        self.end_pod(job, 137, member, disrupted=True)

    def drain(self, name: str) -> None:
        """Drain a node as ``kubectl drain`` does: cordon it, and evict its pods through the eviction API."""
        self.cordon(name)
        for job, member in self.running_on(name):
            self.evict_by_api(job, member)

    def evict_by_api(self, job: Job, member: int = 0) -> None:
        """Evict a pod, and repeat that every 5 s as long as the budget blocks it."""
        pod = job.pods.get(member)
        if pod is None or pod.deleting or pod.phase in {"Succeeded", "Failed"}:
            return
        if self.budget and pod.phase == "Running" and (job.is_gang or len(self.training()) < 2):
            self.clock.after(5, lambda: self.evict_by_api(job, member))
            return
        pod.disrupted, pod.disruption = True, "EvictionByEvictionAPI: Eviction API: evicting"
        self.delete_pod(job, member)

    def unstick(self, job: Job) -> None:
        """Stop the pods that should have stopped and did not."""
        self.stuck_pods.discard(job.key)
        for member in [member for member, pod in job.pods.items() if pod.deleting]:
            self._remove_pod(job, member)

    def _remove_pod(self, job: Job, member: int) -> None:
        pod = job.pods.pop(member)
        if pod.stopped_at is None:
            pod.stopped_at = self.clock.now
            self.gangs.lost(job)
        if job.deleting and not job.pods:
            self._remove_job(job)
            return
        if pod.phase != "Succeeded" and not job.suspended:
            self._over(job, member, failed=True)
        self.changed(job)

    def _remove_job(self, job: Job) -> None:
        if self.jobs.get(job.key) is job:
            del self.jobs[job.key]
            job.gone_at = self.clock.now
            self.changed(job)

    # --- what is seen

    def _placed_on(self, node: str) -> list[tuple[Job, int]]:
        """List the pods that are bound to a node: their Jobs and members."""
        return [(job, member) for job in self.jobs.values() for member, pod in job.pods.items() if pod.node == node]

    def running_on(self, node: str) -> list[tuple[Job, int]]:
        """List the pods that take room on a node: their Jobs and members."""
        placed = self._placed_on(node)
        return [(job, member) for job, member in placed if job.pods[member].phase not in {"Succeeded", "Failed"}]

    def has_room(self, node: Node, job_id: str | None) -> bool:
        """True if there is room for another pod, of this job or of any."""
        closed = node.joining or (node.cordoned and node.owner is None)
        takes = (
            node.ready
            and not node.marks
            and not closed
            and not (node.unfit and job_id is None)
            and node.owner in {None, job_id}
        )
        return takes and not self.too_big and len(self.running_on(node.name)) + len(node.strangers) < node.gpus

    def view(self, key: tuple[int, int], ref: act.JobRef) -> ReplicaView:
        name = names.replica_job_name(ref.name, ref.job_id, *key)
        job = self.jobs.get(key)
        if job is None:
            return ReplicaView(job_name=name, job_exists=False)
        views = {member: pod.view for member, pod in sorted(job.pods.items())}
        return ReplicaView(
            job_name=name,
            job_uid=job.uid,
            job_failed=job.failed,
            pod=views.pop(0, None),
            other_pods=views,
            suspended=job.suspended,
            queue=job.queue,
            suspended_by=job.suspended_by,
        )

    def start_reading(self, key: tuple[int, int]) -> act.StartReading:
        """Say why the pod of an incarnation does not run, as its Events do."""
        job = self.jobs.get(key)
        if job is None:
            return act.StartReading()
        if not job.pods:
            reason = "FailedCreate" if self.makes_no_pods else "NoPod"
            return act.StartReading(reason=reason, message=self.makes_no_pods or "no Event says why")
        for pod in job.pods.values():
            if pod.waiting_reason:
                return act.StartReading(reason=pod.waiting_reason, message=pod.message or "")
        return act.StartReading(busy=self.busy)

    def changed(self, job: Job) -> None:
        """Report that a Job or its pod changed, as the bridge does."""
        self.version += 1
        ref, (replica, incarnation) = job.request.job, job.key
        view, known = self.view(job.key, ref), self.told_of.get(job.name)
        self.told_of[job.name] = view
        if known is not None and _of_ended(known) == _of_ended(view) is not None:  # as the bridge does
            return
        self.tell(
            names.job_workflow_id(ref.namespace, ref.name),
            "replica_changed",
            ReplicaChanged(
                job_id=ref.job_id,
                replica=replica,
                incarnation=incarnation,
                version=self.version,
                view=view,
            ),
        )

    def progress(self, job: Job) -> float:
        """Count the steps in the memory of its training: one a second."""
        pod = job.pod
        if pod is None or pod.started_at is None:
            return 0.0
        if not job.begun:
            return pod.base
        began = max(each.started_at for each in job.latest.values() if each.started_at is not None)
        steps = pod.base + max(0.0, ((job.halted_at or self.clock.now) - began).total_seconds())
        return min(steps, *(inf if each.stands_at is None else each.stands_at for each in job.latest.values()), inf)

    def hang(self, job: Job) -> None:
        """Stall its training from now on, and each one that is made of its memory."""
        assert job.pod is not None
        job.pod.stands_at = self.progress(job)

    def training(self) -> list[Job]:
        """List the Jobs of which a process runs, be it one that waits for its peers in vain."""
        jobs = [job for job in self.jobs.values() if any(pod.runs for pod in job.pods.values())]
        return sorted(jobs, key=lambda job: job.key)

    def job_of(self, replica: int) -> Job:
        """Find the newest Job of a replica."""
        return max((job for job in self.jobs.values() if job.key[0] == replica), key=lambda job: job.key)

    def keep_image(self, point: RestorePoint, steps: float) -> None:
        """Note that an image with so many steps was pushed."""
        self.held[_plain(point.label)] = steps

    def _guard_no_twins(self, new: Job) -> None:
        alive = [job for job in self.training() if job.key[0] == new.key[0] and job is not new]
        assert not alive, f"{new.name} was created while {alive[0].name} still trains"

    def _uid(self) -> str:
        self.uids += 1
        return f"uid-{self.uids}"


def _of_ended(view: ReplicaView) -> ReplicaView | None:
    """A view of the only pod after its end, whether it is being deleted or not; None of any other."""
    if view.pod is None or view.other_pods or view.pod.phase not in {"Succeeded", "Failed"}:
        return None
    return view.model_copy(update={"pod": view.pod.model_copy(update={"deleting": False})})


def _plain(image: str) -> str:
    return image.partition("@")[0]
