"""The activities on replicas and nodes of the world's cluster."""

from temporalio.exceptions import ApplicationError

from activities import signatures as act
from api import errors, names, reasons
from api.views import NodeView, ReplicaView
from tests.workflows.cluster import Cluster


class ClusterCalls:
    """Activities on one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    # --- replicas

    def check_pod(self, request: act.CheckPod) -> act.PodVerdict:
        if words := self.cluster.refuses_pods:
            return act.PodVerdict(admitted=False, reason=reasons.POD_REFUSED, message=words)
        jobs = self.cluster.jobs.items()
        alive = {key[0] for key, job in jobs if any(pod.exit_code is None for pod in job.pods.values())}
        index, members = request.incarnation.replica, request.incarnation.members
        if index not in alive and len(alive | set(request.waiting)) + members > self.cluster.quota:
            return act.PodVerdict(admitted=False, reason=reasons.POD_REFUSED, message="exceeded quota: gpus")
        return act.PodVerdict(admitted=True)

    def create_replica(self, request: act.CreateReplica) -> ReplicaView:
        cluster, key = self.cluster, (request.replica, request.incarnation)
        if not request.bought and request.place is None and cluster.claimed.issuperset(request.nodes):
            raise ApplicationError("another job was quicker", type=errors.BUSY, non_retryable=True)
        taken = [node.name for node in map(cluster.nodes.get, request.nodes) if node and node.strangers]
        if request.bought and cluster.cdi and taken:
            raise ApplicationError(f"other-team/notebook on {taken[0]}", type=errors.ROOM_TAKEN, non_retryable=True)
        if (latest := max(number for replica, number in [*cluster.jobs, key] if replica == key[0])) > key[1]:
            raise ApplicationError("a later one exists", latest, type=errors.SUPERSEDED, non_retryable=True)
        if key not in cluster.jobs:
            cluster.create(request)
        return cluster.view(key, request.job)

    def observe_replica(self, ref: act.ReplicaRef) -> ReplicaView:
        return self.cluster.view((ref.replica, ref.incarnation), ref.job)

    def look_at_replicas(self, look: act.LookAtReplicas) -> act.SeenReplicas:
        return act.SeenReplicas(
            replicas=[self.cluster.view(key, look.job) for key in look.replicas],
            nodes=[self.cluster.node_view(name) for name in look.nodes],
            readings=[self._reading(key) for key in look.replicas] if look.log_pattern is not None else [],
        )

    def read_start(self, ref: act.ReplicaRef) -> act.StartReading:
        return self.cluster.start_reading((ref.replica, ref.incarnation))

    def find_cause(self, request: act.FindCause) -> act.Cause:
        image = request.job_template["spec"]["template"]["spec"]["containers"][0]["image"]
        if request.reason != "ImagePullBackOff" or not self.cluster.missing_images:
            return act.Cause(known=request.reason == "ImagePullBackOff")
        return act.Cause(missing=f"image {image} does not exist" if image in self.cluster.missing_images else "")

    def stop_replica(self, request: act.StopReplica) -> ReplicaView:
        job = self.cluster.jobs.get((request.ref.replica, request.ref.incarnation))
        if job is not None:
            self.cluster.stop(job, delete=request.delete_job, force=request.force, grace=request.grace)
        return self.observe_replica(request.ref)

    def set_budget(self, request: act.SetBudget) -> act.Budget:
        self.cluster.budget = request.exists
        return act.Budget(exists=request.exists)

    def save_logs(self, request: act.SaveLogs) -> act.SavedLog:
        if self.cluster.no_logs:
            raise RuntimeError("the kubelet does not answer")
        self.cluster.logs.append((request.ref.replica, request.ref.incarnation))
        in_cluster = act.SavedLog(location="configmap/log", added_bytes=1)
        if request.storage is None:
            return in_cluster
        if self.cluster.bucket_refuses:
            return in_cluster.model_copy(update={"reason": "PermissionDenied", "problem": "the bucket refuses it"})
        return act.SavedLog(location="gs://b/logs/r0", added_bytes=1)

    def shorten_logs(self, request: act.ShortenLogs) -> act.ShortenedLogs:
        if request.storage is not None and self.cluster.bucket_refuses:
            return act.ShortenedLogs(reason="PermissionDenied", problem="the bucket refuses it")
        return act.ShortenedLogs(moved=1 if request.storage else 0)

    def read_progress(self, request: act.ReadProgress) -> act.ProgressReading:
        return self._reading((request.ref.replica, request.ref.incarnation))

    def _reading(self, key: tuple[int, int]) -> act.ProgressReading:
        job = self.cluster.jobs.get(key)
        if job is None or job.pod is None or self.cluster.no_logs:
            return act.ProgressReading(progress=None, readable=False)
        progress = float(int(self.cluster.progress(job)))
        late = self.cluster.gangs.reported
        members = {member: late.get(member, progress) for member in job.pods} if job.is_gang else {}
        return act.ProgressReading(progress=progress, members=members)

    # --- nodes

    def find_capacity(self, request: act.FindCapacity) -> act.Capacity:
        nodes = [node for node in self.cluster.nodes.values() if self.cluster.has_room(node, None)]
        free = [node for node in nodes if node.name not in request.avoid]
        zones = dict.fromkeys(node.zone for node in free) if request.one_zone else []
        for some in [[node for node in free if node.zone == zone] for zone in zones] or [free]:
            if len(some) >= request.members:
                return act.Capacity(nodes=[node.name for node in some], reason="" if some else "no node has a free GPU")
        return act.Capacity(nodes=[], reason=f"{len(free)} nodes have room, and the gang needs {request.members}")

    def find_strangers(self, request: act.FindStrangers) -> act.Strangers:
        node = self.cluster.nodes.get(request.node)
        pods = [f"other-team/{name}" for name in node.strangers] if node else []
        return act.Strangers(pods=pods, lacks="too few free GPUs" if pods else "")

    def prepare_node(self, request: act.PrepareNode) -> NodeView:
        node = self.cluster.nodes.get(request.node.name)
        if node is not None:
            node.workflow = request.annotations.get(names.ANNOTATION_WORKFLOW, node.workflow)
            node.place = request.labels.get(names.LABEL_PLACE, node.place)
            if request.reserved:
                node.joining = False
                self.cluster.cordon(node.name)
        return self.cluster.node_view(request.node.name)

    def observe_node(self, ref: act.NodeRef) -> act.NodeReadiness:
        agent = self.cluster.agent if names.vm_key_of(ref.name) else None
        return act.NodeReadiness(view=self.cluster.node_view(ref.name), agent=agent)

    def cordon_and_drain(self, ref: act.NodeRef) -> act.Drained:
        remaining = self.cluster.running_on(ref.name)
        for job, member in remaining:
            self.cluster.delete_pod(job, member)
        return act.Drained(remaining=[job.pods[member].name for job, member in remaining if member in job.pods])

    def delete_node(self, ref: act.NodeRef) -> NodeView:
        node = self.cluster.nodes.get(ref.name)
        if node is not None and ref.uid in {None, node.uid}:
            assert not node.alive, f"Node {ref.name} was deleted before its machine was gone"
            self.cluster.remove_node(ref.name)
        return self.cluster.node_view(ref.name)
