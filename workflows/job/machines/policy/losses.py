"""Which machines under a replica are lost: each member has one, and one loss stops the training on all of them."""

from datetime import datetime, timedelta

from api.views import ReplicaView
from workflows.job.checkpoints.policy.survivor import going
from workflows.job.state.job import JobState
from workflows.job.state.replica import Old
from workflows.job.state.seats import Seat, Seated


def failed(state: JobState, key: str | None) -> bool:
    """True if a VM is of no more use: it has reported so, or its machine has had a notice."""
    vm = state.vm(key)
    if vm is None or vm.report is None:
        return False
    name = vm.report.vm_name  # the Node has the same name
    return vm.failed or (name is not None and going(name, state.nodes, state.notices))


def unready_for(state: JobState, node: str | None, now: datetime) -> timedelta:
    """Return how long a node has been NotReady; zero if it is Ready or unknown."""
    since = state.unready.get(node or "")
    return now - since if since else timedelta()


def abandoned(state: JobState, seat: Seat, now: datetime) -> bool:
    """True if a node is NotReady for too long and was not bought, so that no cloud can be asked about it."""
    patience = timedelta(seconds=state.timings.not_ready_grace)
    return seat.vm_key is None and unready_for(state, seat.node, now) >= patience


def is_lost(state: JobState, seat: Seat, now: datetime) -> bool:
    """True if the machine of a member is gone, or about to go by a notice."""
    if failed(state, seat.vm_key) or seat.node is None:
        return failed(state, seat.vm_key)
    return abandoned(state, seat, now) or going(seat.node, state.nodes, state.notices)


def is_dead(state: JobState, seat: Seat, now: datetime) -> bool:
    """True if the machine that a member had is confirmed not to run."""
    vm, node = state.vm(seat.vm_key), state.node(seat.node)
    forgotten = seat.vm_key is not None and vm is None  # a VM is forgotten once it is gone
    gone = node is not None and not node.exists
    return forgotten or gone or (vm is not None and vm.dead) or abandoned(state, seat, now)


def has_stopped(state: JobState, old: Old, now: datetime) -> bool:
    """True if each pod of an old incarnation is confirmed to have stopped, or its machine is gone."""
    return all(is_dead(state, seat, now) or _pod_stopped(old.view, member) for member, seat in enumerate(old.seats))


def lost_members(state: JobState, place: Seated, now: datetime) -> list[int]:
    """Number the members whose machines are lost."""
    silent = silent_nodes(state, place, now)
    return [
        member
        for member, seat in enumerate(place.seats)
        if is_lost(state, seat, now) or (seat.node is not None and seat.node in silent)
    ]


def silent_nodes(state: JobState, place: Seated, now: datetime) -> list[str]:
    """List the nodes of a gang that are NotReady for so long that the other members only wait for them.

    If all of them are, the network to the cluster is more likely to be at fault than each machine.
    """
    patience = timedelta(seconds=state.timings.gang_silence)
    unready = [node for node in place.nodes if node in state.unready]
    if not place.others or len(unready) == len(place.nodes):
        return []
    return [node for node in unready if now - state.unready[node] >= patience]


def _pod_stopped(view: ReplicaView | None, member: int) -> bool:
    if view is None:
        return False
    if (pod := view.pods.get(member)) is None:
        return not view.job_exists or view.job_failed is not None
    return pod.ended
