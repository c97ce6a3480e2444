"""Machines are preempted."""

from api.messages import PreemptionNotice
from tests.chaos.faults.grammar import REPLICA, Args, Kinds
from tests.chaos.stage import Stage

KINDS = Kinds()

HANDLERS = [
    "cloud.google.com/impending-node-termination",
    "aws-node-termination-handler/spot-itn",
    "karpenter.sh/disrupted",
]


@KINDS.once(weight=8, replica=REPLICA, seconds=[1, 5, 11, 25, 30, 30, 60, 120])
def notice(stage: Stage, args: Args) -> None:
    """Preempt the machine under a training, or one that is being bought, with a notice."""
    _preempt(stage, stage.machine(int(args["replica"])), int(args["seconds"]))


@KINDS.once(weight=3, seconds=[1, 11, 30, 120])
def notice_to_all(stage: Stage, args: Args) -> None:
    """Preempt every machine of the job in one tick."""
    for machine in stage.machines():
        _preempt(stage, machine.name, int(args["seconds"]))


@KINDS.once(weight=3, replica=REPLICA, by=HANDLERS, seconds=[0, 30, 120])
def notice_of_another(stage: Stage, args: Args) -> None:
    """Set the taint of another handler; with 0 seconds the machine stays."""
    node = stage.node(int(args["replica"]))
    if node is not None:
        stage.world.cluster.mark(node, str(args["by"]))
        if args["seconds"]:
            stage.world.machines.notice(node, float(args["seconds"]), told=False)


@KINDS.once(weight=3, replica=REPLICA, seconds=[0, 30, 120])
def notice_by_hand(stage: Stage, args: Args) -> None:
    """Announce a preemption, as a person does, while the machine stays."""
    seconds = int(args["seconds"])
    stage.tell("preemption_notice", PreemptionNotice(replica=int(args["replica"]), seconds=seconds or None))


@KINDS.once(weight=5, replica=REPLICA, lingering=[0, 0, 60, 120])
def lost(stage: Stage, args: Args) -> None:
    """Preempt a machine without a notice, and perhaps show it as running for a while."""
    _power_off(stage, stage.machine(int(args["replica"])), float(args["lingering"]))


@KINDS.once(weight=2, lingering=[0, 60])
def all_lost(stage: Stage, args: Args) -> None:
    """Preempt all of them in one tick."""
    for machine in stage.machines():
        _power_off(stage, machine.name, float(args["lingering"]))


@KINDS.once()
def newest_lost(stage: Stage, args: Args) -> None:
    """Preempt the newest machine, whatever its stage."""
    machines = stage.machines()
    if machines:
        _power_off(stage, machines[-1].name, 0.0)


def _preempt(stage: Stage, name: str | None, seconds: float) -> None:
    if name is None:
        return
    stage.world.machines.notice(name, seconds)
    if name not in stage.world.cloud.instances:  # a machine that we did not buy goes with its Node
        stage.world.clock.after(seconds, lambda: stage.world.cluster.machine_died(name))
        stage.world.clock.after(seconds + 5, lambda: stage.world.cluster.remove_node(name))


def _power_off(stage: Stage, name: str | None, lingering: float) -> None:
    cloud = stage.world.cloud
    if name in cloud.instances:
        cloud.lingering = lingering
        cloud.power_off(name)
        cloud.lingering = 0.0
    elif name is not None:
        stage.world.cluster.machine_died(name)
        stage.world.clock.after(60, lambda: stage.world.cluster.remove_node(name))
