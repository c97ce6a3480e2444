"""What becomes of a request: why it is refused, what makes it needless, what came of it and what it waits for."""

from dataclasses import dataclass
from datetime import datetime

from api import conditions
from api.phases import TERMINAL
from api.views import RestorePoint
from workflows.job.checkpoints.policy.survivor import source_for_checkpoint, threatened, unreachable
from workflows.job.state.checkpoint import Checkpoint
from workflows.job.state.job import JobState
from workflows.job.state.replica import Replica
from workflows.job.state.requests import Request

NO_IMAGES = "in mode Application the training checkpoints itself"
NOT_FIT = "no replica is fit to be checkpointed now"


@dataclass(frozen=True)
class Outcome:
    """How a request ended; ``message`` is a sentence for whoever gave it."""

    done: bool
    message: str


def refusal(request: Request, state: JobState, now: datetime) -> str | None:
    """Say why a request cannot be carried out and what helps; None if it can."""
    if (over := _over(state)) is not None:
        return f"{over}: create a new SpotInstanceJob" if state.shutdown is None else over
    if request.edits:
        return None
    if not state.admitted or state.spec is None:
        told = state.conditions.get(conditions.ACCEPTED)
        why = f": {told.message}" if told and told.status != "True" and told.message else ""
        return f"the job is not admitted yet, so nothing of it runs{why}"
    return _no_checkpoint(state, now) if request.name == "checkpoint_now" else no_machine(request, state)


def needless(request: Request, state: JobState) -> str | None:
    """Say why a request changes nothing: what it asks for is so; None if it does."""
    spec = state.spec
    if spec is None or state.edits or state.reread or state.requests.unread:
        return None
    if request.suspend is False and not spec.suspend:
        return "the job is not suspended"
    if request.suspend and _is_released(state):
        return _let_go(state)
    node = _node_named(request, state)
    notice = state.notices.get(node or "")
    if request.name == "preemption_notice" and node is not None and notice is not None:
        return f"node {node} was announced to go at {notice.at:%H:%M:%S} UTC already, by {notice.source}"
    return None


def outcome(request: Request, state: JobState) -> Outcome | None:
    """Say how a request ended; None if it has not yet."""
    if request.done or request.failed:
        return Outcome(not request.failed, request.failed or request.done)
    if (over := _over(state)) is not None:
        return Outcome(False, over)
    if state.spec is None or (request.edits and _is_unread(request, state)):
        return None
    match request.name:
        case "suspend":
            return Outcome(True, _let_go(state)) if _is_released(state) else None
        case "checkpoint_now":
            return None
        case "preemption_notice":
            return _replaced(request, state)
    if state.suspended and state.spec.suspend:
        return Outcome(True, f"{_replicas(state.spec.replicas)} as soon as the job is resumed")
    meant = _meant(state)
    settled = len(meant) == state.spec.replicas and all(one.phase in {"Running", *TERMINAL} for one in meant)
    leaving = any(one.halt in {"ScaledDown", "Suspended"} for one in state.replicas.values())
    return None if leaving or not settled else Outcome(True, _running(meant))


def waits_for(request: Request, state: JobState) -> str:
    """Say what a request that was accepted waits for, in the words of the job's own conditions."""
    if request.edits and _is_unread(request, state):
        return "waits for the API server to take the edit of the spec"
    if request.name == "suspend" and not state.suspended:
        told = state.conditions.get(conditions.SUSPENDED)
        return told.message if told and told.message and told.status == "False" else "waits for a checkpoint"
    if request.name == "checkpoint_now":
        record = state.checkpoints.get(request.checkpoint or -1)
        phase = record.view.phase if record and record.view else None
        return f"waits for checkpoint {record.number}: {phase or 'its operator'}" if record else "waits for its turn"
    others = [one for one in state.replicas.values() if not one.proof]
    if request.replica is not None:
        others = [one for one in others if one.index == request.replica]
    waited = [one for one in others if one.phase not in ({"Running"} if request.name != "suspend" else TERMINAL)]
    each = [f"replica {one.index} ({one.phase}{f': {one.message}' if one.message else ''})" for one in waited or others]
    room = state.conditions.get(conditions.CAPACITY_AVAILABLE)
    why = f"; {room.message}" if room and room.status == "False" and request.name != "suspend" else ""
    return f"waits for {', '.join(each[:4]) or 'the replicas'}{why}"


def no_machine(request: Request, state: JobState) -> str | None:
    """Say why the machine that a notice names is none of this job's; None if it is."""
    indices = sorted(index for index, one in state.replicas.items() if not one.proof)
    if request.replica is not None:
        replica = state.replicas.get(request.replica)
        if replica is None:
            return f"replica {_short(request.replica)} does not exist: this job has {_which(indices)}"
        nodes = nodes_under(replica, state)
        if not nodes or replica.phase in TERMINAL:
            return f"replica {replica.index} has no machine to lose: it is {_phase(replica)}"
        if request.node is not None and request.node not in nodes:
            return f"replica {replica.index} is on node {', '.join(nodes)}, not on {request.node}: name one of the two"
        return None
    carriers = {node: index for index in indices for node in nodes_under(state.replicas[index], state)}
    if request.node in carriers or request.node in bought(state):
        return None
    listed = ", ".join(f"replica {index} on {node}" for node, index in carriers.items())
    return f"node {request.node} carries no replica of this job: {listed or 'none of them has a node now'}"


def nodes_under(replica: Replica, state: JobState, *, by_pod: bool = True) -> list[str]:
    """Find the nodes under a replica, or the machines that are to become some; ``by_pod`` asks its pods, too."""
    pods = replica.run.nodes if by_pod and replica.run.live else {}
    found = []
    for member, seat in enumerate(replica.place.seats):
        vm = state.vm(seat.vm_key)
        name = seat.node or (vm.report.vm_name if vm and vm.report else None) or pods.get(member)
        found += [name] if name else []
    return found


def node_under(replica: Replica, state: JobState, *, by_pod: bool = True) -> str | None:
    """Find the first of the nodes under a replica; None if it has none."""
    return next(iter(nodes_under(replica, state, by_pod=by_pod)), None)


def bought(state: JobState) -> set[str]:
    """Find the names of the job's machines, of those too that no replica has yet or any more."""
    return {vm.report.vm_name for vm in state.vms.values() if vm.report and vm.report.vm_name and not vm.gone}


# --- checkpoints


def _no_checkpoint(state: JobState, now: datetime) -> str | None:
    assert state.spec is not None
    if state.spec.checkpoint_config.mode != "Image":
        return NO_IMAGES
    if state.suspended:
        return "the job is suspended, so nothing of it can be checkpointed: resume it first"
    replicas = [one for one in state.replicas.values() if not one.proof]
    if source_for_checkpoint(replicas, state.nodes, state.notices, now) is not None:
        return None
    silent = unreachable(replicas, state.nodes, state.notices, now)
    if silent is not None:
        return f"{NOT_FIT}: replica {silent.index} trains on node {silent.place.names}, which is not Ready"
    each = [f"replica {one.index} {_unfit(one, state)}" for one in replicas]
    return f"{NOT_FIT}: {', '.join(each) or 'there is none yet'}; try again when one is Running"


def _unfit(replica: Replica, state: JobState) -> str:
    if replica.phase != "Running":
        return f"is {_phase(replica)}"
    if threatened(replica, state.nodes, state.notices):
        return "is on a node that is announced to go"
    return "stands still" if replica.run.stalled else "is ending"


def saved(record: Checkpoint, state: JobState) -> str:
    """Say how far a checkpoint is: "checkpoint 7 at step 1200"."""
    point = next((one for one in state.points if one.checkpoint == record.number), None)
    if point is None:
        return f"checkpoint {record.number}"
    return f"checkpoint {record.number} at {_far(point)}"


def _far(point: RestorePoint) -> str:
    return f"step {point.progress:g}" if point.reported else f"{point.progress:.0f} s of training"


# --- the other requests


def _over(state: JobState) -> str | None:
    if state.shutdown is not None:
        return f"the job is being torn down ({state.shutdown})"
    return f"the job has ended ({state.outcome})" if state.outcome is not None else None


def _is_unread(request: Request, state: JobState) -> bool:
    """True if the spec does not say yet what the request makes of it."""
    if state.spec is None or any(request.is_edit(edit) for edit in state.edits):
        return True
    wanted = {"suspend": request.suspend, "replicas": request.replicas}
    return any(value is not None and getattr(state.spec, field) != value for field, value in wanted.items())


def _is_released(state: JobState) -> bool:
    return state.suspended and all(one.phase in TERMINAL for one in state.replicas.values())


def _let_go(state: JobState) -> str:
    count = len([one for one in state.replicas.values() if one.halt == "Suspended"])
    record = state.checkpoints.get(state.suspend_checkpoint or -1)
    told = f"{_replicas(count)} suspended"
    return f"{told}, {saved(record, state)}" if record and record.outcome == "Usable" else told


def _replaced(request: Request, state: JobState) -> Outcome | None:
    if request.replica is None:
        return Outcome(True, f"node {request.node} is announced to go; no replica is on it")
    replica = state.replicas.get(request.replica)
    if replica is None or replica.halt or replica.phase in TERMINAL:
        return Outcome(True, f"replica {request.replica} was let go")
    if replica.phase != "Running" or replica.place.is_on(request.node):
        return None
    start = replica.run.restore
    began = f"from checkpoint {start.checkpoint} at {_far(start)}" if start and start.checkpoint else None
    began = began or (f"from {start.label}" if start else "from the beginning")
    of = f"replica {replica.index} of {len(_meant(state))}"
    return Outcome(True, f"{of} runs again on node {replica.place.names}, {began}")


def _node_named(request: Request, state: JobState) -> str | None:
    replica = state.replicas.get(request.replica) if request.replica is not None else None
    return request.node or (node_under(replica, state) if replica else None)


def _meant(state: JobState) -> list[Replica]:
    return [one for one in state.replicas.values() if one.halt != "ScaledDown" and not one.proof]


def _running(meant: list[Replica]) -> str:
    run = [one for one in meant if one.phase == "Running"]
    return f"{_replicas(len(run))} running"


def _replicas(count: int) -> str:
    return "1 replica" if count == 1 else f"{count} replicas"


def _phase(replica: Replica) -> str:
    return "Suspended" if replica.phase == "Released" and replica.halt == "Suspended" else replica.phase


def _which(indices: list[int]) -> str:
    if len(indices) < 2:
        return f"replica {indices[0]}" if indices else "none yet"
    in_a_row = indices == list(range(len(indices)))
    return f"replicas 0 to {indices[-1]}" if in_a_row else f"replicas {', '.join(map(str, indices))}"


def _short(number: int) -> str:
    return str(number) if abs(number) < 10**9 else "of that number"
