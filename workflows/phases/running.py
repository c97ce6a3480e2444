"""The training runs, until its pod ends and it is judged whose end that was."""

from datetime import datetime

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api.views import PodView, RestorePoint
    from workflows.policy.ending import ends_as_told
    from workflows.policy.grace import grace_seconds
    from workflows.policy.verdict import has_ended, verdict

from workflows.calls import call
from workflows.phases.blame import Blame
from workflows.phases.hang import Hang
from workflows.phases.life import Life, Part
from workflows.phases.proof import Proof
from workflows.phases.queued import Queued
from workflows.phases.standing import Standing
from workflows.phases.terms import Terms


class Running(Part):
    """Running and Judging."""

    def __init__(self, life: Life) -> None:
        super().__init__(life)
        self.standing = Standing(life)
        self.terms = Terms(life)
        self.blame = Blame(life)
        self.proof = Proof(life)
        self.hang = Hang(life, self.blame, self.standing)

    async def train(self) -> None:
        """Watch it run: until its pod ends, its machine is going, or it was silent for long enough to look."""
        while not self.job.parking:
            self.standing.see()
            pod = self.me.view.pod if self.me.view else None
            if self.life.lost_place():
                return
            if self.me.moving:
                await self.life.move()
                return
            if pod is None:  # a bridge that has just begun may have seen its Job alone: look before it is believed
                await self.life.observe("its pod is said to be gone")
                pod = self.me.view.pod if self.me.view else None
            if pod is None or self._is_over(pod) or pod.deleting or pod.disrupted:
                self.life.enter("Judging", "its pod has ended" if pod else "its pod is gone")
                self.me.deadline = self.job.after(self.state.timings.verdict_delay)
                return
            if self.me.hung:
                await self.hang.end()
                return
            await self.proof.look()
            version = self.me.view_version
            changed = await self.life.until(
                lambda seen=version: (  # type: ignore[misc]
                    self.me.view_version != seen or self.me.moving or self.me.hung or self.life.machine_lost()
                ),
                self._next_look(),
                f"replica {self.me.index} trains on {self.me.node}",
            )
            if not changed and not self.proof.is_due:  # else it woke up early, only to see whether it trains
                await self._look()

    def _is_over(self, pod: PodView) -> bool:
        """True if the training has ended; other containers of its pod may run on."""
        if pod.phase in {"Succeeded", "Failed"}:
            return True
        return has_ended(pod, self.job.spec.main_container) and workflow.patched("ends-beside-others")

    def _next_look(self) -> datetime:
        """Compute the next look: after silence, at the end of the patience with its node, or once it has run well."""
        times = (self._next_check(), self.standing.well_at(), self.proof.due)
        return min(at for at in times if at is not None)

    def _next_check(self) -> datetime:
        timings = self.state.timings
        resync, unready = timings.resync, self.nodes.unready_for(self.me.node)
        if not unready or self.me.vm_key:
            return self.job.after(resync)
        return self.job.after(min(resync, max(1.0, timings.not_ready_grace - unready.total_seconds())))

    async def _look(self) -> None:
        """What was lost on the way is found here; of a machine that we bought its own workflow finds it."""
        if self.me.vm_key is None and self.me.node is not None:
            node = act.NodeRef(name=self.me.node)
            self.nodes.see((await call(act.OBSERVE_NODE, node, summary=f"look at {node.name}: resync")).view)
        await self.life.observe("resync")
        self.me.failures = 0

    async def judge(self) -> None:
        """Whose end is it? Told a while later, when a machine that was going is known to be."""
        pod = self.me.view.pod if self.me.view else None
        taken_away = pod is None or pod.deleting or pod.disrupted
        if not taken_away and not self.life.machine_lost():
            await self.life.until(
                lambda: self.life.machine_lost(),
                self.me.deadline or workflow.now(),
                f"replica {self.me.index}: was its end the training's own?",
            )
            if self.job.parking:
                return
            await self.life.observe("the verdict")
            pod = (self.me.view.pod if self.me.view else None) or pod
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
            await self.standing.disrupted(why)
            return
        if word == "Preempted":
            self.life.preempted(why, machine_stays=False)
            return
        await self.life.save_logs(self.me.incarnation)
        if self._ends_as_told():
            self._pass_over(why)
            return
        if word == "Succeeded":
            self.me.outcome = "Succeeded"
            self.job.event("ReplicaSucceeded", f"replica {self.me.index}: {why}")
            self.life.enter("Releasing", why)
            return
        if self.blame.killed_by_checkpoint(why) or self.terms.decide(pod):
            return
        if not await self.blame.restore_broke(why):
            await self.standing.failed(why)

    def _ends_as_told(self) -> bool:
        restore, grace = self.me.restore, grace_seconds(self.job.spec)
        if restore is None or not restore.told_to_end or self._source_succeeded(restore):
            return False
        return ends_as_told(self.life.ran_seconds(), grace, self.state.timings.verdict_delay)

    def _source_succeeded(self, restore: RestorePoint) -> bool:
        """The process that was dumped has come to the training's own end since: nothing had taken it away."""
        replicas = self.state.replicas.values()
        return any(
            each.outcome == "Succeeded" and restore.lineage == f"{each.index}.{each.incarnation}" for each in replicas
        )

    def _pass_over(self, why: str) -> None:
        """Its end says nothing of the training, and would be the same on any machine."""
        self.life.restore_failed(f"{why}, for it was told to end before it was checkpointed", missing=True)
        self.life.replace("RestoreFailed", machine_stays=True, ask_survivor=not self.restoring.usable_point(self.me))
