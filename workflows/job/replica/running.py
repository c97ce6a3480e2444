"""The phases Running and Judging: the training runs until its pod ends, and a verdict is given on that end."""

from datetime import datetime, timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import events
    from api.views import PodView, RestorePoint
    from workflows.job.checkpoints.policy.ending import ends_as_told
    from workflows.job.policy.grace import grace_seconds
    from workflows.job.replica.policy.verdict import has_ended, verdict

from workflows.common.calls import call
from workflows.common.patches import patched
from workflows.job.machines.policy.size import largest
from workflows.job.replica.blame import Blame
from workflows.job.replica.disruptions import Disruptions
from workflows.job.replica.hang import Hang
from workflows.job.replica.life import Life, Part
from workflows.job.replica.proof import Proof
from workflows.job.replica.queued import Queued
from workflows.job.replica.terms import Terms

STRAGGLING = timedelta(minutes=5)
"""How long the other members of a gang may run on after one of them has succeeded."""


class Running(Part):
    """The phases Running and Judging."""

    def __init__(self, life: Life) -> None:
        super().__init__(life)
        self.disruptions = Disruptions(life)
        self.terms = Terms(life)
        self.blame = Blame(life)
        self.proof = Proof(life)
        self.hang = Hang(life, self.blame, self.disruptions)

    async def train(self) -> None:
        """Watch the training until its pod ends or its machine is lost."""
        while not self.job.parking:
            self.disruptions.forget_if_well()
            pod = self.life.decisive_pod
            if (self.life.must_leave() or self._changes()) and self.life.lost_place():
                return
            if self.me.spot_return.moving:
                await self.life.move()
                return
            if self._starts_again() and self.life.resize(self._size()):
                return
            if pod is None:  # a bridge that has just started may have seen only its Job, so it is read again
                await self.life.observe("its pod seems to be gone")
                pod = self.life.decisive_pod
            version = self.me.run.view_version
            if pod is None or self._is_over(pod) or pod.deleting or pod.disrupted:
                self.life.enter("Judging", "its pod has ended" if pod else "its pod is gone")
                self.me.deadline = self.job.after(self.state.timings.verdict_delay)
                return
            self._find_stragglers()
            self._say_until_when()
            if self.me.run.hung:
                await self.hang.end()
                return
            await self.proof.check()
            version, known = self.life.news_since(version), self.me.run.view
            changed = await self.life.until(
                lambda seen=version, known=known: (  # type: ignore[misc]
                    self.me.run.view_version != seen
                    or self.me.run.view != known  # a regular look has found something new
                    or self._changes()
                    or self.me.run.hung
                    or self.life.must_leave()
                ),
                self._wakes_at(),
                f"replica {self.me.index} training on {self.me.place.names}",
            )
            if not changed and not self.proof.is_due and self._checks:  # otherwise it woke up early
                await self._check()

    def _changes(self) -> bool:
        """True if it is to go on elsewhere or with another size, whatever becomes of its machines."""
        return self.me.spot_return.moving or self._starts_again()

    def _say_until_when(self) -> None:
        """Say until when a gang trains on, after a notice that leaves more time than a save takes."""
        until = self.nodes.trains_until(self.me)
        if until is not None:
            lost = self.me.place.of_members(self.nodes.lost_members(self.me.place))
            going = ", ".join(seat.node or "a node" for seat in lost)
            self.life.say(f"{going} will go: it trains until {until:%H:%M:%S} UTC at most, and then saves itself")

    def _starts_again(self) -> bool:
        """True if a gang is to start again with another size."""
        return self.me.place.grows or self._size() != len(self.me.members)

    def _size(self) -> int:
        """Return the size with which a gang should train now: fewer if it was edited, more if it is to grow."""
        gang, place = self.job.spec.gang, self.me.place
        if gang is not None and len(place.seats) > gang.max_size:
            return gang.max_size
        if not place.grows:
            return len(place.seats)
        ready = [seat for seat in place.spare if seat.node is not None and not self.nodes.failed(seat.vm_key)]
        return max(len(place.seats), largest(gang, len(place.seats) + len(ready)))

    def _is_over(self, pod: PodView) -> bool:
        """True if the training has ended, even if other containers of its pod run on."""
        if pod.ended:
            return True
        return has_ended(pod, self.job.spec.main_container) and patched("ends-beside-others")

    def _wakes_at(self) -> datetime:
        """Return when to stop waiting: for the next check, for the proof, or because the replica has run well."""
        now = workflow.now()
        ends = (self.nodes.silent_at(self.me.place), self._straggling_until(), self.nodes.trains_until(self.me))
        later = [at for at in ends if at is not None and at > now]
        times = (self._next_check(), self.disruptions.well_at(), self.proof.due, *later)
        return min(at for at in times if at is not None)

    def _straggling_until(self) -> datetime | None:
        """Return until when the other members of a gang may run on after one has succeeded; None if none has."""
        pods, main = self.me.run.pods.values(), self.job.spec.main_container
        ends = [pod.finished_at or workflow.now() for pod in pods if self.me.place.is_gang and has_ended(pod, main)]
        return min(ends) + STRAGGLING if ends else None

    def _find_stragglers(self) -> None:
        """Let a gang end of which some members have succeeded while the others hang."""
        until, main = self._straggling_until(), self.job.spec.main_container
        if until is None or workflow.now() < until:
            return
        left = [member for member, pod in self.me.run.pods.items() if not has_ended(pod, main)]
        minutes = STRAGGLING.total_seconds() / 60
        self.me.run.hung = f"members {left} still run {minutes:.0f} minutes after another one has succeeded"

    def _next_check(self) -> datetime:
        unready = self.nodes.unready_for(self.me.place.free_nodes)
        if not unready:
            return self.job.next_look()
        patience = max(1.0, self.state.timings.not_ready_grace - unready.total_seconds())
        return min(self.job.next_look(), self.job.after(patience))

    @property
    def _checks(self) -> bool:
        """True if this replica has to be looked at by itself: a node under it that was not bought is silent."""
        return bool(self.nodes.unready_for(self.me.place.free_nodes)) or not patched("one-look")

    async def _check(self) -> None:
        """Read pod and Node again, in case a message was lost. A bought VM is checked by its own workflow."""
        for name in self.me.place.free_nodes:
            node = act.NodeRef(name=name)
            self.nodes.see((await call(act.OBSERVE_NODE, node, summary=f"read node {name}: resync")).view)
        await self.life.observe("resync")
        self.me.retry.failures = 0

    async def judge(self) -> None:
        """Give the verdict on the end of a pod, after a while: by then it is known whether its machine was going."""
        pod = self.life.decisive_pod
        taken_away = pod is None or pod.deleting or pod.disrupted
        if not taken_away and not self.life.machine_lost():
            await self.life.until(
                lambda: self.life.machine_lost(),
                self.me.deadline or workflow.now(),
                f"replica {self.me.index}: the verdict on its end",
            )
            if self.job.parking:
                return
            await self.life.observe("the verdict")
            pod = self.life.decisive_pod or pod
        if await self.terms.is_overdue():
            return
        noticed = self.life.machine_lost()
        lives = not noticed and await self.machines.lives(self.me)
        main = self.job.spec.main_container
        word, why = verdict(pod, noticed=noticed, machine_lives=lives, main=main)
        if word == "Preempted" and (held := Queued(self.life).found_held(ran=True)):
            self.life.preempted(held, machine_stays=lives)
            return
        if word == "Preempted" and lives:
            await self.disruptions.disrupted(why)
            return
        if word == "Preempted":
            self.life.preempted(why, machine_stays=False)
            return
        await self.life.save_logs(self.me.incarnation)
        if self._ends_as_told():
            self._reject_image(why)
            return
        if word == "Succeeded":
            self.me.outcome = "Succeeded"
            self.job.event(events.REPLICA_SUCCEEDED, f"replica {self.me.index}: {why}")
            self.life.enter("Releasing", why)
            return
        if self.blame.killed_by_checkpoint(why) or self.terms.decide(pod):
            return
        if not await self.blame.restore_broke(why):
            await self.disruptions.failed(why)

    def _ends_as_told(self) -> bool:
        restore, grace = self.me.run.restore, grace_seconds(self.job.spec)
        if restore is None or not restore.told_to_end or self._source_succeeded(restore):
            return False
        return ends_as_told(self.life.ran_seconds(), grace, self.state.timings.verdict_delay)

    def _source_succeeded(self, restore: RestorePoint) -> bool:
        """True if the process that was dumped has since succeeded, so that nothing had taken it away."""
        replicas = self.state.replicas.values()
        return any(
            each.outcome == "Succeeded" and restore.lineage == f"{each.index}.{each.incarnation}" for each in replicas
        )

    def _reject_image(self, why: str) -> None:
        """Reject an image whose process ends on any machine. That end says nothing about the training."""
        self.life.restore_failed(f"{why}, because it received SIGTERM before it was checkpointed", missing=True)
        self.life.replace(
            "RestoreFailed", machine_stays=True, ask_survivor=not self.restore_points.usable_point(self.me)
        )
