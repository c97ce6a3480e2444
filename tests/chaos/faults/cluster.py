"""Something happens to nodes and pods while their machines run."""

from tests.chaos.faults.grammar import REPLICA, Args, Kinds
from tests.chaos.stage import Stage

KINDS = Kinds()


# --- nodes


@KINDS.once(replica=REPLICA, seconds=[20, 120, 500, 700])
def not_ready(stage: Stage, args: Args) -> None:
    """Silence the kubelet for a while, though its machine runs."""
    node, cluster = stage.node(int(args["replica"])), stage.world.cluster
    if node is not None and node in cluster.nodes:
        cluster.set_ready(node, False)
        stage.world.clock.after(
            float(args["seconds"]), lambda: cluster.set_ready(node, node in cluster.nodes and cluster.nodes[node].alive)
        )


@KINDS.once(weight=1, replica=REPLICA)
def node_deleted(stage: Stage, args: Args) -> None:
    """Delete the Node, though its machine runs on."""
    stage.world.cluster.remove_node(stage.node(int(args["replica"])) or "")


@KINDS.once(weight=1)
def never_ready(stage: Stage, args: Args) -> None:
    """Let the newest machine never become a Node that is Ready."""
    stage.world.machines.never_ready.update(one.name for one in stage.machines()[-1:])


@KINDS.once(weight=1)
def free_gpu(stage: Stage, args: Args) -> None:
    """Add a node with a free GPU to the cluster."""
    stage.world.cluster.add_node(f"gpu-{len(stage.world.cluster.nodes)}-{stage.world.cluster.uids}")


@KINDS.once(weight=1)
def gpu_snatched(stage: Stage, args: Args) -> None:
    """Let another pod take the free GPUs before ours."""
    cluster = stage.world.cluster
    cluster.snatched.update(name for name, node in cluster.nodes.items() if node.owner is None)


# --- pods


@KINDS.once(weight=3, replica=REPLICA, code=[1, 137, 143, 143, 0])
def pod_ends(stage: Stage, args: Args) -> None:
    """Let the training exit."""
    job = stage.job(int(args["replica"]))
    if job is not None:
        stage.world.cluster.end_pod(job, int(args["code"]), stage.member(int(args["replica"])))


@KINDS.once(replica=REPLICA)
def pod_deleted(stage: Stage, args: Args) -> None:
    """Delete the pod, as somebody else does."""
    job = stage.job(int(args["replica"]))
    if job is not None:
        stage.world.cluster.delete_pod(job, stage.member(int(args["replica"])))


@KINDS.once(weight=1, replica=REPLICA, seconds=[30, 200])
def pod_stuck(stage: Stage, args: Args) -> None:
    """Let the pod stay for so long once it is deleted."""
    job, cluster = stage.job(int(args["replica"])), stage.world.cluster
    if job is not None:
        cluster.stuck_pods.add(job.key)
        stage.world.clock.after(float(args["seconds"]), lambda: cluster.unstick(job))


@KINDS.lasting(weight=1, by=[30, 200])
def slow_starts(stage: Stage) -> None:
    """Let images be pulled slowly."""
    stage.world.cluster.slow_start = max(stage.said("slow_starts", "by"), default=0)


@KINDS.lasting(weight=1)
def exits_0(stage: Stage) -> None:
    """Let trainings exit with 0 on SIGTERM."""
    stage.world.cluster.sigterm_exit = 0 if stage.of("exits_0") else 143


@KINDS.lasting(weight=1, days=2)
def no_logs(stage: Stage) -> None:
    """Let the kubelets return no logs."""
    stage.world.cluster.no_logs = bool(stage.of("no_logs"))
