"""The grammar of faults: all those of docs/faults.md that the fakes can play, each with what is drawn for it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from random import Random

from api import errors
from api.messages import PreemptionNotice, Resize
from tests.chaos.script import Fault, Value
from tests.chaos.stage import OUTAGES, Stage

Args = dict[str, Value]
Draw = Callable[[Random], Args]

LONGEST_CALL = 60.0  # seconds until a call of a dead worker is made again
HANDLERS = [
    "cloud.google.com/impending-node-termination",
    "aws-node-termination-handler/spot-itn",
    "karpenter.sh/disrupted",
]
TRAPS = [
    "stick:Checkpointing", "stick:ImageBuilding", "stick:ImagePushing", "ignored", "empty", "unpushed", "not-deleted",
    "fail", "slow", "gone",
]  # fmt: skip
FROM_THE_BRIDGE = ["replica_changed", "node_changed", "checkpoint_changed", "preemption_notice"]
ZONES = ["us-central1-a", "us-central1-b"]


@dataclass(frozen=True)
class Kind:
    """A kind of fault: what is drawn for it, and what it does."""

    draw: Draw
    play: Callable[[Stage, Fault], None]
    weight: int = 2


KINDS: dict[str, Kind] = {}


def once(weight: int = 2, **choices: list[int] | list[str]) -> Callable[[Callable[[Stage, Args], None]], None]:
    """Something that happens in a moment."""

    def register(does: Callable[[Stage, Args], None]) -> None:
        KINDS[does.__name__] = Kind(_drawn(choices), lambda stage, fault: does(stage, fault.args), weight)

    return register


def lasting(weight: int = 2, **choices: list[int] | list[str]) -> Callable[[Callable[[Stage], None]], None]:
    """Something that lasts for so many seconds: the function sets the world by all such that last at present."""

    def register(switch: Callable[[Stage], None]) -> None:
        draw = _drawn({"seconds": [5, 20, 60, 180, 400, 900], **choices})
        KINDS[switch.__name__] = Kind(draw, lambda stage, fault: stage.begin(fault, switch), weight)

    return register


def _drawn(choices: dict[str, list[int] | list[str]]) -> Draw:
    return lambda rng: {name: rng.choice(values) for name, values in choices.items()}


REPLICA = [0, 0, 1, 1, 2]

# --- machines that are taken away


@once(weight=8, replica=REPLICA, seconds=[1, 5, 11, 25, 30, 30, 60, 120])
def notice(stage: Stage, args: Args) -> None:
    """A preemption with a notice, under a training or a machine on its way."""
    _preempt(stage, stage.machine(int(args["replica"])), int(args["seconds"]))


@once(weight=3, seconds=[1, 11, 30, 120])
def notice_to_all(stage: Stage, args: Args) -> None:
    """Every machine of the job in one tick."""
    for machine in stage.machines():
        _preempt(stage, machine.name, int(args["seconds"]))


@once(weight=3, replica=REPLICA, by=HANDLERS, seconds=[0, 30, 120])
def notice_of_another(stage: Stage, args: Args) -> None:
    """Another handler's mark; with 0 seconds nothing comes of it."""
    node = stage.node(int(args["replica"]))
    if node is not None:
        stage.world.cluster.mark(node, str(args["by"]))
        if args["seconds"]:
            stage.world.machines.notice(node, float(args["seconds"]), told=False)


@once(weight=3, replica=REPLICA, seconds=[0, 30, 120])
def notice_by_hand(stage: Stage, args: Args) -> None:
    """A person announces it, and nothing comes of it."""
    seconds = int(args["seconds"])
    stage.tell("preemption_notice", PreemptionNotice(replica=int(args["replica"]), seconds=seconds or None))


@once(weight=5, replica=REPLICA, lingering=[0, 0, 60, 120])
def lost(stage: Stage, args: Args) -> None:
    """Taken back without a word, and perhaps shown as running for a while."""
    _power_off(stage, stage.machine(int(args["replica"])), float(args["lingering"]))


@once(weight=2, lingering=[0, 60])
def all_lost(stage: Stage, args: Args) -> None:
    """All of them in one tick."""
    for machine in stage.machines():
        _power_off(stage, machine.name, float(args["lingering"]))


@once()
def newest_lost(stage: Stage, args: Args) -> None:
    """The machine made last, wherever it is in its life."""
    machines = stage.machines()
    if machines:
        _power_off(stage, machines[-1].name, 0.0)


def _preempt(stage: Stage, name: str | None, seconds: float) -> None:
    if name is None:
        return
    stage.world.machines.notice(name, seconds)
    if name not in stage.world.cloud.instances:  # a machine that nobody of us bought goes with its Node
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


# --- nodes


@once(replica=REPLICA, seconds=[20, 120, 500, 700])
def not_ready(stage: Stage, args: Args) -> None:
    """The kubelet is silent for a while, and its machine runs."""
    node, cluster = stage.node(int(args["replica"])), stage.world.cluster
    if node is not None and node in cluster.nodes:
        cluster.set_ready(node, False)
        stage.world.clock.after(
            float(args["seconds"]), lambda: cluster.set_ready(node, node in cluster.nodes and cluster.nodes[node].alive)
        )


@once(weight=1, replica=REPLICA)
def node_deleted(stage: Stage, args: Args) -> None:
    """Somebody deletes the Node; its machine runs on."""
    stage.world.cluster.remove_node(stage.node(int(args["replica"])) or "")


@once(weight=1)
def never_ready(stage: Stage, args: Args) -> None:
    """The machine made last never becomes a node that is Ready."""
    stage.world.machines.never_ready.update(one.name for one in stage.machines()[-1:])


@once(weight=1)
def free_gpu(stage: Stage, args: Args) -> None:
    """A node with a free GPU comes into the cluster."""
    stage.world.cluster.add_node(f"gpu-{len(stage.world.cluster.nodes)}-{stage.world.cluster.uids}")


@once(weight=1)
def gpu_snatched(stage: Stage, args: Args) -> None:
    """Another pod takes the free GPUs before ours."""
    cluster = stage.world.cluster
    cluster.snatched.update(name for name, node in cluster.nodes.items() if node.owner is None)


# --- pods


@once(weight=3, replica=REPLICA, code=[1, 137, 143, 143, 0])
def pod_ends(stage: Stage, args: Args) -> None:
    """The training exits."""
    job = stage.job(int(args["replica"]))
    if job is not None:
        stage.world.cluster.end_pod(job, int(args["code"]))


@once(replica=REPLICA)
def pod_deleted(stage: Stage, args: Args) -> None:
    """Somebody deletes the pod."""
    job = stage.job(int(args["replica"]))
    if job is not None:
        stage.world.cluster.delete_pod(job)


@once(weight=1, replica=REPLICA, seconds=[30, 200])
def pod_stuck(stage: Stage, args: Args) -> None:
    """The pod, once it is deleted, stays for so long."""
    job, cluster = stage.job(int(args["replica"])), stage.world.cluster
    if job is not None:
        cluster.stuck_pods.add(job.key)
        stage.world.clock.after(float(args["seconds"]), lambda: cluster.unstick(job))


@lasting(weight=1, by=[30, 200])
def slow_starts(stage: Stage) -> None:
    """Images are pulled slowly."""
    stage.world.cluster.slow_start = max(stage.said("slow_starts", "by"), default=0)


@lasting(weight=1)
def exits_0(stage: Stage) -> None:
    """Trainings exit 0 on SIGTERM."""
    stage.world.cluster.sigterm_exit = 0 if stage.of("exits_0") else 143


@lasting(weight=1)
def no_logs(stage: Stage) -> None:
    """The kubelets give no log."""
    stage.world.cluster.no_logs = bool(stage.of("no_logs"))


# --- the cloud


@once(count=[1, 3])
def stockouts(stage: Stage, args: Args) -> None:
    """So many creations fail later."""
    stage.world.cloud.stockouts += int(args["count"])


@once(kind=[errors.NO_CAPACITY, errors.QUOTA, errors.PERMISSION], count=[1, 2])
def creations_refused(stage: Stage, args: Args) -> None:
    """So many creations fail at once."""
    stage.world.cloud.refuse_creates += [str(args["kind"])] * int(args["count"])


@once(count=[2, 8])
def deletions_refused(stage: Stage, args: Args) -> None:
    """So many deletions are refused."""
    stage.world.cloud.refuse_deletes += int(args["count"])


@lasting(zone=ZONES)
def exhausted(stage: Stage) -> None:
    """A zone has nothing."""
    stage.world.cloud.exhausted = set(stage.said("exhausted", "zone"))


@lasting(zone=ZONES)
def unclear(stage: Stage) -> None:
    """A zone's answers say nothing."""
    stage.world.cloud.unclear = set(stage.said("unclear", "zone"))


@once(count=[1, 3])
def joins_fail(stage: Stage, args: Args) -> None:
    """So many joins fail."""
    stage.world.machines.failing_joins += int(args["count"])


@lasting(weight=1)
def ssh_closed(stage: Stage) -> None:
    """No machine answers."""
    stage.world.machines.ssh_closed = bool(stage.of("ssh_closed"))


# --- checkpoints


@once(weight=4, plan=TRAPS, count=[1, 1, 2])
def trap(stage: Stage, args: Args) -> None:
    """The checkpoint operator does with the next ones what it does with some."""
    stage.world.checkpoints.plans += [str(args["plan"])] * int(args["count"])


@once(weight=1, seconds=[20, 100, 400])
def operator_busy(stage: Stage, args: Args) -> None:
    """Another job's checkpoint occupies the nodes."""
    stage.world.checkpoints.busy_until = stage.world.clock.now + timedelta(seconds=int(args["seconds"]))


@lasting(weight=1, by=[40, 90])
def slow_dumps(stage: Stage) -> None:
    """Dumps take longer."""
    stage.world.checkpoints.dump_seconds = max(stage.said("slow_dumps", "by"), default=8)


@once(weight=1)
def image_broken(stage: Stage, args: Args) -> None:
    """The image made last starts on no node."""
    for image in list(stage.world.checkpoints.registry)[-1:]:
        stage.world.cluster.bad[image] = "RunContainerError: CRIU could not restore it"


@lasting()
def registry_down(stage: Stage) -> None:
    """The registry gives the kubelets nothing, and us no answer."""
    stage.world.cluster.registry_down = stage.world.checkpoints.registry_down = bool(stage.of("registry_down"))


@lasting(weight=1)
def bucket_down(stage: Stage) -> None:
    """The bucket does not answer."""
    stage.world.bucket.down = bool(stage.of("bucket_down"))


@once(weight=1, replica=REPLICA)
def saved_in_part(stage: Stage, args: Args) -> None:
    """A training that saves itself was killed while it did."""
    job = stage.job(int(args["replica"]))
    if job is not None and job.request.storage is not None:
        stage.world.bucket.save(job, complete=False)


@lasting(weight=1)
def deletes_no_image(stage: Stage) -> None:
    """The registry deletes nothing."""
    stage.world.checkpoints.deletes_nothing = bool(stage.of("deletes_no_image"))


@once(weight=1, replica=REPLICA)
def saves_itself(stage: Stage, args: Args) -> None:
    """A training in mode Application saves itself, as it does now and then."""
    job = stage.job(int(args["replica"]))
    if job is not None and job.request.storage is not None and job in stage.world.cluster.training():
        stage.world.bucket.save(job)


# --- calls and signals


@lasting(weight=4, what=sorted(OUTAGES))
def down(stage: Stage) -> None:
    """All calls to one of the systems fail."""


@lasting(every=[2, 3, 7])
def answers_lost(stage: Stage) -> None:
    """Calls take effect, and every so-many-th answer is lost."""


@lasting(every=[2, 3, 7])
def calls_fail(stage: Stage) -> None:
    """Every so-many-th call fails."""


@lasting(every=[1, 3])
def calls_twice(stage: Stage) -> None:
    """Every so-many-th call takes effect twice."""


@lasting(weight=3, kind=["all", *FROM_THE_BRIDGE])
def signals_lost(stage: Stage) -> None:
    """What the bridge tells is lost."""
    stage.world.bridge.lost = _kinds(stage, "signals_lost")


@lasting(weight=3, kind=["all", *FROM_THE_BRIDGE])
def signals_late(stage: Stage) -> None:
    """What the bridge tells comes when this is over."""
    held = _kinds(stage, "signals_late")
    if not held:
        stage.world.bridge.let_go()
    stage.world.bridge.held = held


@lasting()
def signals_twice(stage: Stage) -> None:
    """Everything is told twice."""
    stage.world.bridge.twice = bool(stage.of("signals_twice"))


def _kinds(stage: Stage, fault: str) -> set[str]:
    said = stage.said(fault, "kind")
    return set(FROM_THE_BRIDGE) if "all" in said else set(said)


@once(weight=4)
def worker_killed(stage: Stage, args: Args) -> None:
    """The worker dies with all that it knew and was doing; another one replays the histories."""
    stage.worker_killed = True
    stage.ledger.trouble(begins=True)
    stage.world.clock.after(LONGEST_CALL, stage.note_trouble)


# --- what people do


@once(weight=2, after=[20, 90, 300])
def suspend(stage: Stage, args: Args) -> None:
    """Suspend, and resume a while later."""
    stage.tell("suspend")
    stage.world.clock.after(float(args["after"]), lambda: stage.tell("resume"))


@once(weight=2)
def checkpoint_now(stage: Stage, args: Args) -> None:
    """A checkpoint is wanted."""
    stage.tell("checkpoint_now")


@once(weight=2, replicas=[1, 2, 3])
def resize(stage: Stage, args: Args) -> None:
    """Another number of replicas."""
    stage.tell("resize", Resize(replicas=int(args["replicas"])))


@once(weight=1, minutes=[1, 5, 20])
def interval(stage: Stage, args: Args) -> None:
    """The checkpoint interval is edited."""
    stage.world.documents.edit(checkpoint={"checkpoint_interval": f"{args['minutes']}m"})


@once(weight=1)
def delete(stage: Stage, args: Args) -> None:
    """kubectl delete."""
    stage.delete()


# --- the end of all faults


def cease(stage: Stage) -> None:
    """All is well again from now on, and what is counted down is forgotten."""
    stage.end_all()
    world = stage.world
    world.cloud.stockouts = world.cloud.refuse_deletes = world.machines.failing_joins = 0
    world.cloud.refuse_creates, world.checkpoints.plans, world.cluster.snatched = [], [], set()
    for job in list(world.cluster.jobs.values()):
        world.cluster.unstick(job)
    stage.tell("resume")
