"""Nodes and pods to which something happens while their machines run."""

from tests.chaos.faults.grammar import REPLICA, Args, Kinds
from tests.chaos.stage import Stage

KINDS = Kinds()


# --- nodes


@KINDS.once(replica=REPLICA, seconds=[20, 120, 500, 700])
def not_ready(stage: Stage, args: Args) -> None:
    """The kubelet is silent for a while, and its machine runs."""
    node, cluster = stage.node(int(args["replica"])), stage.world.cluster
    if node is not None and node in cluster.nodes:
        cluster.set_ready(node, False)
        stage.world.clock.after(
            float(args["seconds"]), lambda: cluster.set_ready(node, node in cluster.nodes and cluster.nodes[node].alive)
        )


@KINDS.once(weight=1, replica=REPLICA)
def node_deleted(stage: Stage, args: Args) -> None:
    """Somebody deletes the Node; its machine runs on."""
    stage.world.cluster.remove_node(stage.node(int(args["replica"])) or "")


@KINDS.once(weight=1)
def never_ready(stage: Stage, args: Args) -> None:
    """The machine made last never becomes a node that is Ready."""
    stage.world.machines.never_ready.update(one.name for one in stage.machines()[-1:])


@KINDS.once(weight=1)
def free_gpu(stage: Stage, args: Args) -> None:
    """A node with a free GPU comes into the cluster."""
    stage.world.cluster.add_node(f"gpu-{len(stage.world.cluster.nodes)}-{stage.world.cluster.uids}")


@KINDS.once(weight=1)
def gpu_snatched(stage: Stage, args: Args) -> None:
    """Another pod takes the free GPUs before ours."""
    cluster = stage.world.cluster
    cluster.snatched.update(name for name, node in cluster.nodes.items() if node.owner is None)


# --- pods


@KINDS.once(weight=3, replica=REPLICA, code=[1, 137, 143, 143, 0])
def pod_ends(stage: Stage, args: Args) -> None:
    """The training exits."""
    job = stage.job(int(args["replica"]))
    if job is not None:
        stage.world.cluster.end_pod(job, int(args["code"]))


@KINDS.once(replica=REPLICA)
def pod_deleted(stage: Stage, args: Args) -> None:
    """Somebody deletes the pod."""
    job = stage.job(int(args["replica"]))
    if job is not None:
        stage.world.cluster.delete_pod(job)


@KINDS.once(weight=1, replica=REPLICA, seconds=[30, 200])
def pod_stuck(stage: Stage, args: Args) -> None:
    """The pod, once it is deleted, stays for so long."""
    job, cluster = stage.job(int(args["replica"])), stage.world.cluster
    if job is not None:
        cluster.stuck_pods.add(job.key)
        stage.world.clock.after(float(args["seconds"]), lambda: cluster.unstick(job))


@KINDS.lasting(weight=1, by=[30, 200])
def slow_starts(stage: Stage) -> None:
    """Images are pulled slowly."""
    stage.world.cluster.slow_start = max(stage.said("slow_starts", "by"), default=0)


@KINDS.lasting(weight=1)
def exits_0(stage: Stage) -> None:
    """Trainings exit 0 on SIGTERM."""
    stage.world.cluster.sigterm_exit = 0 if stage.of("exits_0") else 143


@KINDS.lasting(weight=1)
def no_logs(stage: Stage) -> None:
    """The kubelets give no log."""
    stage.world.cluster.no_logs = bool(stage.of("no_logs"))
