"""Orders: what the spec and the replicas' ends mean for each replica. No I/O, no waiting."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from workflows.policy import queue
    from workflows.policy.survivor import least_far

from workflows.checkpointing import Checkpointing
from workflows.job import Job
from workflows.machines import Machines
from workflows.proving import Proving
from workflows.stability import tell_stability
from workflows.starts import Starts
from workflows.state import TERMINAL, Failure, Halt, Replica
from workflows.suspending import Suspending


class Directing:
    """Turns what is wanted into each replica's ``halt``, or into new replicas."""

    def __init__(self, job: Job, checkpointing: Checkpointing, machines: Machines) -> None:
        self.job = job
        self.state = job.state
        self.checkpointing = checkpointing
        self.machines = machines
        self.suspending = Suspending(job, checkpointing)
        self.proving = Proving(job, checkpointing)
        self.starts = Starts(job)

    def direct(self) -> None:
        """Level-triggered: the same orders however often it is called."""
        self._judge_outcome()
        if self.job.ending:
            self._halt_all()
        elif self.state.admitted:
            self._forget_scaled_down()
            self.suspending.direct(self._meant())
            self._scale()
            self.proving.direct()
        self.machines.forget_gone()
        self.machines.nodes.forget_unused()
        self._tell()

    def _judge_outcome(self) -> None:
        replicas = self._meant()
        if self.job.ending or not replicas:
            return
        succeeded = [replica for replica in replicas if replica.outcome == "Succeeded"]
        failed = [replica for replica in replicas if replica.outcome == "Failed"]
        any_is_enough = self.job.spec.completion_policy == "Any"
        if (succeeded and any_is_enough) or len(succeeded) == len(replicas):
            self.state.outcome = "Completed"
            self.job.event("Completed", f"replica {succeeded[0].index} has finished the training")
        elif self.state.failure is not None:
            self.state.outcome = "Failed"
            self.job.event("Failed", self.state.failure.message, warning=True)
        elif (failed and not any_is_enough) or len(failed) == len(replicas):
            self.state.outcome = "Failed"
            said = f"replica {failed[0].index} used up its restarts"
            if workflow.patched("failed-in-words"):
                self.state.failure = self._restarts_used_up(failed[0])
                said = self.state.failure.message
            self.job.event("Failed", said, warning=True)

    def _restarts_used_up(self, replica: Replica) -> Failure:
        """Say how often a replica failed, how it did so at last, and where its words are."""
        log = f"; its log: {replica.log}" if replica.log else ""
        times = f"failed {replica.restarts} times, of which maxRestarts allows {self.job.spec.restarts_allowed}"
        return Failure(
            reason="RestartsUsedUp", message=f"replica {replica.index} {times}; the last time: {replica.message}{log}"
        )

    def _halt_all(self) -> None:
        reason: Halt = "Deleted" if self.state.shutdown else "Failed" if self.state.outcome == "Failed" else "Completed"
        for replica in self.state.replicas.values():
            if replica.outcome is None and replica.phase not in TERMINAL:
                replica.halt = reason

    def _forget_scaled_down(self) -> None:
        for index, replica in list(self.state.replicas.items()):
            if replica.phase == "Released" and replica.halt == "ScaledDown":
                self.state.retired[index] = (replica.incarnation, replica.place)
                del self.state.replicas[index]

    def _scale(self) -> None:
        if self.state.suspended:
            return
        meant = self._meant()
        for _ in range(len(meant) - self.job.spec.replicas):
            failed = [replica for replica in self._meant() if replica.outcome == "Failed"]  # of no use to anybody
            living = [replica for replica in self._meant() if replica.outcome is None]
            gone = least_far(failed or living, workflow.now())
            if gone is None:
                return
            gone.halt = "ScaledDown"
            self.job.event("ScaledDown", f"replica {gone.index} is let go")
        for index in range(self.job.spec.replicas + len(self.state.replicas)):
            if len(self._meant()) >= self.job.spec.replicas:
                return
            if index not in self.state.replicas:
                incarnation, place = self.state.retired.pop(index, (-1, 0))
                self.state.replicas[index] = Replica(
                    index=index, incarnation=incarnation, place=place, since=workflow.now(), ran=False
                )

    def _meant(self) -> list[Replica]:
        replicas = self.state.replicas.values()
        return [replica for replica in replicas if replica.halt != "ScaledDown" and not replica.proof]

    def _knows_who_ran(self) -> bool:
        """True unless the job goes on from before replicas remembered whether they ever ran."""
        return workflow.patched("pods-start")

    def _tell(self) -> None:
        """The conditions that people wait for."""
        replicas, state, job = list(self.state.replicas.values()), self.state, self.job
        if state.shutdown:
            job.condition("Running", False, state.shutdown, "everything is being torn down")
            if state.shutdown == "Cancelled" and state.outcome is None:
                # An end as any other: a bridge that Temporal's retention left without the run must not begin it anew.
                job.condition("Failed", True, "Cancelled", "its workflow was cancelled; delete it and create it again")
            return
        if not state.admitted:
            return
        running = [replica for replica in replicas if replica.phase == "Running"]
        lost = [replica for replica in replicas if replica.recovery]
        recovering = [replica for replica in lost if replica.has_run] if self._knows_who_ran() else lost
        job.condition(
            "Running", bool(running), "ReplicasRunning" if running else "NoReplicaRuns", f"{len(running)} run"
        )
        why = "; ".join(
            f"replica {replica.index}: {replica.recovery.cause}" for replica in recovering if replica.recovery
        )
        well = "AllReplicasWell" if running or not self._knows_who_ran() else "NoReplicaRuns"
        job.condition("Recovering", bool(recovering), "ReplicaLost" if recovering else well, why)
        if self._knows_who_ran():
            state.started = state.has_run
        self.starts.tell()
        tell_stability(job)
        self.suspending.tell()
        if (held := queue.told(replicas, state.hold, job.start)) is not None:
            job.condition(queue.QUEUED, True, *held)
        elif queue.QUEUED in state.conditions:
            job.condition(queue.QUEUED, False, queue.NOT_HELD)
        if state.outcome == "Completed":
            job.condition("Completed", True, "TrainingDone")
        elif state.outcome == "Failed":
            failure = state.failure or Failure(reason="RestartsUsedUp", message="")
            job.condition("Failed", True, failure.reason, failure.message)
