"""A Job that a queue, or anybody else, has suspended: nothing is bought for it until it is let in.

The Job exists before its machine, so it is pinned to nodes that were free when it was made, or to a label that is put
on whatever is bought for it. A machine that the replica still has is kept for a while only.
"""

from datetime import datetime, timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api.names import LABEL_PLACE, place_label
    from api.views import PodView
    from workflows.policy import queue
    from workflows.policy.restore import misfit
    from workflows.policy.survivor import going

from workflows.calls import call
from workflows.phases.incarnation import Incarnation
from workflows.phases.life import Life, Part


class Queued(Part):
    """Queued, and what other phases do about a Job that is held."""

    def __init__(self, life: Life) -> None:
        super().__init__(life)
        self.incarnation = Incarnation(life)

    @property
    def comes_first(self) -> bool:
        """True if the replica's next Job has to be let in before anything is bought for it."""
        return queue.comes_first(self.me, self.state.hold)

    # --- the phase

    async def wait(self) -> None:
        """Create the Job, suspended, and wait until somebody lets it in."""
        if self.me.vm_key is None:
            self.me.node = None  # one of the cluster's own: it may be another's by then
        if self.me.view is None:
            await self.incarnation.create()
        await self.incarnation.delete_predecessors()  # they may have the quota that this one waits for
        while not self.job.parking:
            if queue.news(self.me.view) == "Over":
                await self._begin_anew()
                return
            if not queue.waits(self.me.view):
                self._go_on()
                return
            await self._spare_machines()
            self.life.say(queue.waits_for(self.me.view, self.state.hold))
            version = self.me.view_version
            changed = await self.life.until(
                lambda seen=version: self.me.view_version != seen or self._has_failed_machine(),  # type: ignore[misc]
                self._next_look(),
                f"replica {self.me.index}: {self.me.message}",
            )
            if not changed:
                await self.life.observe("is it still held?")

    def _go_on(self) -> None:
        """Go on once somebody has let it in: to the machine that it has, to a node that was free, or to buy one."""
        me = self.me
        me.held, me.failures = False, 0
        me.candidates = [node for node in me.candidates if not going(node, self.state.nodes, self.state.notices)]
        self.job.event("LetIn", f"replica {me.index}: Job {self.life.job_name} is suspended no more")
        if me.node or me.candidates:
            self.life.enter("NodeReady", "its Job was let in")
        elif me.vm_key:
            self.life.enter("Provisioning", "its Job was let in")
        else:
            self.life.seek_again("its Job was let in")

    def _next_look(self) -> datetime:
        look = self.job.after(self.state.timings.resync)
        return min(look, max(self._patience, workflow.now())) if self._machines else look

    # --- machines that it has while it is held

    @property
    def _machines(self) -> list[str]:
        return [key for key in (self.me.vm_key, self.me.reserved) if key is not None]

    @property
    def _patience(self) -> datetime:
        """Compute until when an idle machine is kept: a Job that follows another is mostly let in at once."""
        return self.me.since + timedelta(seconds=self.state.timings.queue_patience)

    def _has_failed_machine(self) -> bool:
        return any(self.nodes.failed(key) for key in self._machines)

    async def _spare_machines(self) -> None:
        """Let go of those that are lost, still to be bought, or were kept for long enough."""
        for key in self._machines:
            vm, failed = self.state.vms.get(key), self.nodes.failed(key)
            if vm is None or failed or vm.sought or workflow.now() >= self._patience:
                if not failed:
                    why = queue.waits_for(self.me.view, self.state.hold)
                    self.job.event("SparesVM", f"replica {self.me.index}: lets go of {key}, for {why}")
                await self._drop(key, "Queued")

    async def _drop(self, key: str, reason: str) -> None:
        if key == self.me.reserved:
            self.me.reserved = self.me.return_checkpoint = None
        else:
            self.me.vm_key = self.me.node = None
        await self.machines.release(key, reason)

    # --- what other phases ask

    def found_held(self, *, ran: bool) -> str:
        """Take note of who has suspended the Job; gives the cause in words."""
        view = self.me.view
        if view is None or not (view.suspended or queue.is_gated(view)):
            return ""
        lasting = queue.lasting(view, ran=ran)
        self.state.hold = self.state.hold or lasting
        self.me.held = lasting is None
        cause = f"{queue.holder(view, self.state.hold)} holds Job {self.life.job_name}"
        self.job.event("Held", f"replica {self.me.index}: {cause}", warning=True)
        return cause

    @property
    def overtaken(self) -> bool:
        """True if its Job waits for the machine no longer that is being bought for it."""
        return self.me.live and queue.news(self.me.view) is not None

    async def turn_back(self) -> None:
        """Leave a machine on its way: its Job is held again, is gone, or its pod has found another node."""
        pod = self.me.view.pod if self.me.view else None
        match queue.news(self.me.view):
            case "Held":
                self.life.enter("Queued", self.found_held(ran=False))
            case "Placed" if pod is not None:
                await self._drop(self.me.vm_key or "", "NotNeeded")
                self.me.node, self.me.candidates = pod.node, []
                self.life.enter("Starting", f"its pod has found room on {pod.node}")
            case _:
                await self._begin_anew()

    async def starts_later(self, pod: PodView | None) -> bool:
        """True if its Job, whose pod is on no node yet, has to wait: it is held again, or its machine is lost."""
        view = self.me.view
        gated = view is not None and queue.is_gated(view) and not self.me.pinned
        if queue.news(view) == "Held" or gated:
            cause = self.found_held(ran=False)
            if self.me.pinned:
                self.life.enter("Queued", cause)
                return True
            await self.incarnation.delete(cause)  # pinned to a machine that is let go of if this takes long
            self.life.replace(cause, machine_stays=True, ask_survivor=False)
            return True
        unbound = self.me.pinned and (pod is None or pod.node is None)
        if not unbound or self.me.vm_key is None or not self.life.machine_lost():
            return False
        lost = self.me.vm_key
        self.machines.warn(lost, "its node was announced to go")
        await self._drop(lost, "Preempted")
        self.life.seek_again(f"{lost} was lost before its pod was there: its Job takes the next")
        return True

    async def let_onto_machine(self) -> None:
        """Put the label on the node by which the pod that waits finds it."""
        me = self.me
        if me.node is None or me.vm_key is None:
            self.life.enter("Starting", "its Job was let in")
            return
        image = me.restore if me.restore and me.restore.kind == "Image" else None
        if image is not None and (why := misfit(image, self.state.fingerprint_under(me))):
            self.life.replace(f"{image.label} does not fit {me.node}: {why}", machine_stays=True, ask_survivor=False)
            return
        request = act.PrepareNode(
            node=act.NodeRef(name=me.node),
            labels={LABEL_PLACE: place_label(self.job.start.job_id, me.index, me.incarnation)},
            annotations={},
        )
        await call(act.PREPARE_NODE, request, summary=f"let {self.life.job_name} onto {me.node}")
        self.life.enter("Starting", f"its Job may run on {me.node}")

    def buy_instead(self, why: str) -> None:
        """Seek a machine for a Job that was let in and found none of the free nodes free any more."""
        self.me.node, self.me.candidates = None, []
        self.life.seek_again(why)

    async def _begin_anew(self) -> None:
        """Begin another incarnation: its Job was deleted, or failed, before it had a machine."""
        why = f"Job {self.life.job_name} was deleted or failed before it had a machine"
        self.job.event("StartFailed", f"replica {self.me.index}: {why}", warning=True)
        if self.me.vm_key is not None and self.me.node is None:
            await self._drop(self.me.vm_key, "NotNeeded")
        self.life.replace(why, machine_stays=True, ask_survivor=False)
        self.life.back_off(why)
