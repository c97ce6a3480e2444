"""What the spec and the replicas' ends mean for each replica, decided without I/O and without waiting."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from api import conditions, events, reasons
    from workflows.job.replica.policy import queue

from api.phases import TERMINAL
from workflows.common.patches import patched
from workflows.job.checkpoints.checkpoints import Checkpoints
from workflows.job.checkpoints.verification import Verification
from workflows.job.core.job import Job
from workflows.job.core.pod_starts import PodStarts
from workflows.job.core.stability import report_stability
from workflows.job.machines.machines import Machines
from workflows.job.scaling import forget_scaled_down, meant, scale
from workflows.job.state.job import Failure
from workflows.job.state.replica import Halt, Replica
from workflows.job.suspension import Suspension


class Supervisor:
    """Sets each replica's ``halt`` to what the spec wants, and makes new replicas."""

    def __init__(self, job: Job, checkpoints: Checkpoints, machines: Machines) -> None:
        self.job = job
        self.state = job.state
        self.checkpoints = checkpoints
        self.machines = machines
        self.suspension = Suspension(job, checkpoints)
        self.verification = Verification(job, checkpoints)
        self.pod_starts = PodStarts(job)

    def direct(self) -> None:
        """Decide what each replica is to do. It is level-triggered: a second call changes nothing."""
        self._judge_outcome()
        if self.job.ending:
            self._halt_all()
        elif self.state.admitted:
            forget_scaled_down(self.state)
            self.suspension.direct(self._meant())
            scale(self.job)
            self.verification.direct()
        self.machines.forget_gone()
        self.machines.nodes.forget_unused()
        self._report()

    def _judge_outcome(self) -> None:
        replicas = self._meant()
        if self.job.ending or not replicas:
            return
        succeeded = [replica for replica in replicas if replica.outcome == "Succeeded"]
        failed = [replica for replica in replicas if replica.outcome == "Failed"]
        any_is_enough = self.job.spec.completion_policy == "Any"
        if (succeeded and any_is_enough) or len(succeeded) == len(replicas):
            self.state.outcome = "Completed"
            self.job.event(events.COMPLETED, f"replica {succeeded[0].index} has finished the training")
        elif self.state.failure is not None:
            self.state.outcome = "Failed"
            self.job.event(events.FAILED, self.state.failure.message, warning=True)
        elif (failed and not any_is_enough) or len(failed) == len(replicas):
            self.state.outcome = "Failed"
            said = f"replica {failed[0].index} used up its restarts"
            if patched("failed-in-words"):
                self.state.failure = self._restarts_used_up(failed[0])
                said = self.state.failure.message
            self.job.event(events.FAILED, said, warning=True)

    def _restarts_used_up(self, replica: Replica) -> Failure:
        """Say how often a replica failed, how it failed last, and where its log is."""
        log = f"; its log: {replica.log}" if replica.log else ""
        times = f"failed {replica.restarts} times, of which maxRestarts allows {self.job.spec.restarts_allowed}"
        return Failure(
            reason=reasons.RESTARTS_USED_UP,
            message=f"replica {replica.index} {times}; the last time: {replica.message}{log}",
        )

    def _halt_all(self) -> None:
        reason: Halt = "Deleted" if self.state.shutdown else "Failed" if self.state.outcome == "Failed" else "Completed"
        for replica in self.state.replicas.values():
            if replica.outcome is None and replica.phase not in TERMINAL:
                replica.halt = reason

    def _meant(self) -> list[Replica]:
        return meant(self.state)

    def _knows_who_ran(self) -> bool:
        """True unless this run began on a release whose replicas did not remember whether they ever ran."""
        return patched("pods-start")

    def _report(self) -> None:
        """Write the conditions that people wait for."""
        replicas, state, job = list(self.state.replicas.values()), self.state, self.job
        if state.shutdown:
            job.condition(conditions.RUNNING, False, state.shutdown, "everything is being torn down")
            if state.shutdown == reasons.CANCELLED and state.outcome is None:
                # This is an end like any other: once Temporal has deleted the run, the bridge must not begin a new one.
                job.condition(
                    conditions.FAILED,
                    True,
                    reasons.CANCELLED,
                    "its workflow was cancelled; delete it and create it again",
                )
            return
        if not state.admitted:
            return
        running = [replica for replica in replicas if replica.phase == "Running"]
        lost = [replica for replica in replicas if replica.recovery]
        recovering = [replica for replica in lost if replica.has_run] if self._knows_who_ran() else lost
        job.condition(
            conditions.RUNNING,
            bool(running),
            reasons.REPLICAS_RUNNING if running else reasons.NO_REPLICA_RUNS,
            f"{len(running)} running",
        )
        why = "; ".join(
            f"replica {replica.index}: {replica.recovery.cause}" for replica in recovering if replica.recovery
        )
        well = reasons.ALL_REPLICAS_WELL if running or not self._knows_who_ran() else reasons.NO_REPLICA_RUNS
        job.condition(conditions.RECOVERING, bool(recovering), reasons.REPLICA_LOST if recovering else well, why)
        if self._knows_who_ran():
            state.started = state.has_run
        self.pod_starts.report()
        report_stability(job)
        self.suspension.report()
        if (held := queue.report(replicas, state.hold, job.start)) is not None:
            job.condition(conditions.QUEUED, True, *held)
        elif conditions.QUEUED in state.conditions:
            job.condition(conditions.QUEUED, False, reasons.NOT_HELD)
        if state.outcome == "Completed":
            job.condition(conditions.COMPLETED, True, reasons.TRAINING_DONE)
        elif state.outcome == "Failed":
            failure = state.failure or Failure(reason=reasons.RESTARTS_USED_UP, message="")
            job.condition(conditions.FAILED, True, failure.reason, failure.message)
