"""The plan of a recovery: one value that says what to do, made before anything is changed."""

from dataclasses import dataclass
from datetime import datetime

from workflows.job.checkpoints.policy.rescue import RescuePlan, plan_rescue
from workflows.job.checkpoints.policy.source import (
    SurvivorChoice,
    choose_survivor,
    takes_images,
)
from workflows.job.machines.policy.losses import lost_members, silent_nodes
from workflows.job.state.job import JobState
from workflows.job.state.replica import Old, Place, Replica
from workflows.job.state.seats import Seat


@dataclass(frozen=True)
class Loss:
    """Why an incarnation is replaced, and what is known of its machine."""

    cause: str
    machine_stays: bool
    """True if the next incarnation runs on the same machines."""
    ask_survivor: bool = True
    """False if no survivor's checkpoint is needed, because there is something better to start from."""
    announce: bool = True
    """False if the VM's workflow already knows of the loss, or learns of it in another way."""
    members: frozenset[int] | None = None
    """The members whose machines are left; None for those that are known to be lost, or for all if none is."""


@dataclass(frozen=True)
class RecoveryPlan:
    """What to do about one loss, from the end of the present incarnation to the search for the next place."""

    loss: Loss
    rescue: RescuePlan | None
    """The checkpoint of the dying replica itself; None if it cannot be made, or if there was no notice."""
    ends: Old | None
    """The incarnation that ends; None if its Job has ended before."""
    saves_itself: bool
    """True if SIGTERM makes its training save itself: mode Application."""
    leaves: list[int]
    """The members whose machines are left. The others keep theirs, for the next incarnation."""
    hangs: bool
    """True if its training can save nothing any more, because a member of it is gone: the others wait for that one."""
    warned_vms: list[str]
    """The keys of the VMs whose workflows receive a notice."""
    silent_vms: list[str]
    """The keys of the VMs of a gang that are released at once, because they are silent while the others wait."""
    candidates: list[str]
    """The nodes with a free GPU on which the next incarnation may run at once."""
    settled: bool
    """True if each member keeps a node, so that nothing has to be looked for."""
    survivor: SurvivorChoice | None
    """The replica whose checkpoint to wait for; None if the recovery goes on waiting for the one that is under way."""


def plan_recovery(state: JobState, replica: Replica, loss: Loss, now: datetime) -> RecoveryPlan:
    """Decide everything that one workflow task does about a replica that is lost or has failed."""
    place, leaves = replica.place, _leaves(state, replica, loss, now)
    left = [key for member in leaves if (key := place.seats[member].vm_key) is not None]
    silent = _silent_vms(state, place, now)
    kept = [seat for member, seat in enumerate(place.seats) if member not in leaves]
    return RecoveryPlan(
        loss=loss,
        rescue=plan_rescue(state, replica, now) if leaves else None,
        ends=replica.as_old(leaves) if replica.run.live else None,
        saves_itself=replica.run.live and not takes_images(state),
        leaves=leaves,
        warned_vms=[key for key in left if loss.announce and key not in silent],
        silent_vms=silent,
        hangs=place.is_gang and replica.run.live and _hangs(state, replica, now),
        candidates=_candidates(place, kept),
        settled=not leaves and place.settled,
        survivor=_survivor(state, replica, now) if loss.ask_survivor else None,
    )


def _silent_vms(state: JobState, place: Place, now: datetime) -> list[str]:
    nodes = silent_nodes(state, place, now)
    return [seat.vm_key for seat in place.seats if seat.node in nodes and seat.vm_key is not None]


def _candidates(place: Place, kept: list[Seat]) -> list[str]:
    """List the nodes among which the scheduler chooses: it gives out free GPUs, also to those that just had one.

    What is left of a gang's nodes is kept, because others are looked for that suit them.
    """
    if place.is_gang and len(kept) < len(place.seats):
        return []
    return [seat.node for seat in kept if seat.node and seat.vm_key is None] or place.candidates


def _hangs(state: JobState, replica: Replica, now: datetime) -> bool:
    """True if a pod has ended, or if a machine was lost without a notice that leaves time to save anything."""
    if any(pod.ended for pod in replica.run.pods.values()) or len(replica.run.pods) < len(replica.members):
        return True
    lost = [replica.place.seats[member] for member in lost_members(state, replica.place, now)]
    return any(seat.node not in state.notices for seat in lost)


def _leaves(state: JobState, replica: Replica, loss: Loss, now: datetime) -> list[int]:
    """Number the members whose machines are left: those that the loss names, else those that are lost, else all."""
    if loss.machine_stays:
        return []
    members = range(len(replica.place.seats))
    if loss.members is not None:
        return [member for member in members if member in loss.members]
    return lost_members(state, replica.place, now) or list(members)


def _survivor(state: JobState, replica: Replica, now: datetime) -> SurvivorChoice | None:
    recovery = replica.recovery
    awaited = state.checkpoint(recovery.checkpoint) if recovery else None
    if awaited is not None and awaited.outcome is None:
        return None  # this recovery already waits for one
    asked = recovery.asked if recovery else []
    return choose_survivor(state, asked, now, lost=replica.index)
