"""The phase Queued: a queue or somebody else holds the replica's Job, and nothing is bought until it is admitted.

The Job exists before its machine. So it is pinned to nodes that were free when it was made, or to a label that is put
on the Node bought for it. A machine that the replica still has is kept only for a while.
"""

from datetime import datetime, timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import events, reasons
    from api.names import LABEL_PLACE, place_label
    from workflows.job.checkpoints.policy.restore import misfit
    from workflows.job.checkpoints.policy.survivor import going
    from workflows.job.replica.policy import queue

from workflows.common.calls import call
from workflows.job.replica.incarnation import Incarnation
from workflows.job.replica.life import Life, Part


class Queued(Part):
    """The phase Queued, and what other phases do about a held Job."""

    def __init__(self, life: Life) -> None:
        super().__init__(life)
        self.incarnation = Incarnation(life)

    @property
    def comes_first(self) -> bool:
        """True if the replica's next Job has to be admitted before anything is bought for it."""
        return queue.comes_first(self.me, self.state.hold)

    # --- the phase

    async def wait(self) -> None:
        """Create the Job, suspended, and wait until somebody admits it."""
        self.me.place.leave_free_nodes()  # by then another pod may be there
        if self.me.run.view is None:
            await self.incarnation.create()
        await self.incarnation.delete_predecessors()  # they may use the quota for which this one waits
        while not self.job.parking:
            version = self.me.run.view_version
            if queue.news(self.me.run.view) == "Over":
                await self._replace()
                return
            if not queue.waits(self.me.run.view):
                self._admitted()
                return
            await self._spare_machines()
            self.life.say(queue.waits_for(self.me.run.view, self.state.hold))
            version = self.life.news_since(version)
            changed = await self.life.until(
                lambda seen=version: self.me.run.view_version != seen or self._has_failed_machine(),  # type: ignore[misc]
                self._next_check(),
                f"replica {self.me.index}: {self.me.message}",
            )
            if not changed:
                await self.life.observe("is it still held?")

    def _admitted(self) -> None:
        """Go on with an admitted Job: to the machine that it has, to a node that was free, or to buy one."""
        me = self.me
        me.run.held, me.retry.failures = False, 0
        me.place.candidates = [
            node for node in me.place.candidates if not going(node, self.state.nodes, self.state.notices)
        ]
        self.job.event(events.LET_IN, f"replica {me.index}: Job {self.life.job_name} is no longer suspended")
        if me.place.settled or me.place.candidates:
            self.life.enter("NodeReady", "its Job was admitted")
        elif me.place.bought:
            self.life.enter("Provisioning", "its Job was admitted")
        else:
            self.life.look_for_place("its Job was admitted")

    def _next_check(self) -> datetime:
        check = self.job.next_check()
        return min(check, max(self._kept_until, workflow.now())) if self._machines else check

    # --- machines that it has while it is held

    @property
    def _machines(self) -> list[str]:
        return [key for key in (*self.me.place.vm_keys, self.me.spot_return.reserved) if key is not None]

    @property
    def _kept_until(self) -> datetime:
        """Return until when an idle machine is kept: a Job that follows another is mostly admitted at once."""
        return self.me.since + timedelta(seconds=self.state.timings.queue_patience)

    def _has_failed_machine(self) -> bool:
        return any(self.nodes.failed(key) for key in self._machines)

    async def _spare_machines(self) -> None:
        """Release machines that are lost, still to be bought, or were kept for long enough."""
        for key in self._machines:
            vm, failed = self.state.vms.get(key), self.nodes.failed(key)
            if vm is None or failed or vm.to_be_bought or workflow.now() >= self._kept_until:
                if not failed:
                    why = queue.waits_for(self.me.run.view, self.state.hold)
                    self.job.event(events.SPARES_VM, f"replica {self.me.index} releases {key}, because {why}")
                await self._drop(key, "Queued")

    async def _drop(self, key: str, reason: str) -> None:
        if key == self.me.spot_return.reserved:
            self.me.spot_return.end()
        else:
            self.me.place.lose(key)
        await self.machines.release(key, reason)

    # --- what other phases ask

    def found_held(self, *, ran: bool) -> str:
        """Record who holds the Job, and return the cause in words; empty if nobody does."""
        view = self.me.run.view
        if view is None or not (view.suspended or queue.is_gated(view)):
            return ""
        lasting = queue.lasting(view, ran=ran)
        self.state.hold = self.state.hold or lasting
        self.me.run.held = lasting is None
        cause = f"{queue.holder(view, self.state.hold)} holds Job {self.life.job_name}"
        self.job.event(events.HELD, f"replica {self.me.index}: {cause}", warning=True)
        return cause

    @property
    def overtaken(self) -> bool:
        """True if its Job no longer waits for the machine that is being bought for it."""
        return self.me.run.live and queue.news(self.me.run.view) is not None

    async def turn_back(self) -> None:
        """Leave a machine that is being bought: its Job is held again or gone, or its pod has found another node."""
        match queue.news(self.me.run.view):
            case "Held":
                self.life.enter("Queued", self.found_held(ran=False))
            case "Placed":
                nodes = self.me.run.nodes
                for key in self.me.place.vm_keys:
                    await self._drop(key, reasons.NOT_NEEDED)
                self.me.place.settle(nodes)
                self.life.enter("Starting", f"its pod has found room on {self.me.place.names}")
            case _:
                await self._replace()

    async def starts_later(self) -> bool:
        """True if its Job has to wait once more: before its pod had a node, it was held again or its machine lost."""
        view = self.me.run.view
        gated = view is not None and queue.is_gated(view) and not self.me.run.pinned
        if queue.news(view) == "Held" or gated:
            cause = self.found_held(ran=False)
            if self.me.run.pinned:
                self.life.enter("Queued", cause)
                return True
            await self.incarnation.delete(cause)  # it is pinned to a machine that is released if this takes long
            self.life.replace(cause, machine_stays=True, ask_survivor=False)
            return True
        unbound = self.me.run.pinned and len(self.me.run.nodes) < len(self.me.members)
        if not unbound or not self.me.place.bought or not self.life.machine_lost():
            return False
        seats = [self.me.place.seats[member] for member in self.nodes.lost_members(self.me.place)]
        lost = [seat.vm_key for seat in seats if seat.vm_key is not None]
        for key in lost:
            self.machines.warn(key, "its node had a notice")
            await self._drop(key, "Preempted")
        self.life.look_for_place(f"{', '.join(lost)} was lost before its pod was on it: its Job takes the next")
        return True

    async def admit_to_machine(self) -> None:
        """Label the node, so that the waiting pod is scheduled on it."""
        me = self.me
        if not me.place.settled or not me.place.bought:
            self.life.enter("Starting", "its Job was admitted")
            return
        image = me.run.restore if me.run.restore and me.run.restore.kind == "Image" else None
        if image is not None and (why := misfit(image, self.state.fingerprint_under(me))):
            self.life.replace(
                f"{image.label} does not fit {me.place.names}: {why}", machine_stays=True, ask_survivor=False
            )
            return
        labels = {LABEL_PLACE: place_label(self.job.start.job_id, me.index, me.incarnation)}
        for node in me.place.nodes:
            request = act.PrepareNode(node=act.NodeRef(name=node), labels=labels, annotations={})
            await call(act.PREPARE_NODE, request, summary=f"label {node} for {self.life.job_name}")
        self.life.enter("Starting", f"its Job may run on {me.place.names}")

    def buy_instead(self, why: str) -> None:
        """Look for a machine for an admitted Job, if none of the free nodes is still free."""
        self.me.place.settle({})
        self.life.look_for_place(why)

    async def _replace(self) -> None:
        """Begin another incarnation, because its Job was deleted or failed before it had a machine."""
        why = f"Job {self.life.job_name} was deleted or failed before it had a machine"
        self.job.event(events.START_FAILED, f"replica {self.me.index}: {why}", warning=True)
        for key in self.me.place.awaited:
            await self._drop(key, reasons.NOT_NEEDED)
        self.life.replace(why, machine_stays=True, ask_survivor=False)
        self.life.back_off(why)
