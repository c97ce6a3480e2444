"""The world's machines: what runs on an instance, from SSH to the Node, and how the cloud preempts it."""

from activities import signatures as act
from api import names
from api.messages import CertificateAsked
from tests.workflows.cloud import Cloud
from tests.workflows.cluster import Cluster

SSH_SECONDS = 5.2  # from RUNNING until SSH answers
JOIN_SECONDS = 7.3
TOKEN_SECRET = "planted-secret-of-a-bootstrap-token"  # the part of each token that nobody else may see
READY_SECONDS = 5.4  # from the end of the join until the Node is Ready


class Machines:
    """SSH to the cloud's instances, and their Nodes in the cluster."""

    def __init__(self, cloud: Cloud, cluster: Cluster) -> None:
        self.cloud = cloud
        self.cluster = cluster
        self.joining: dict[str, str] = {}  # instance → Running, Joined, Failed
        self.tokens: set[str] = set()
        self.certificates: list[str] = []  # Nodes whose certificate requests were answered
        self.failing_joins = 0
        self.never_ready: set[str] = set()
        self.ssh_closed = False
        # Of the machines that join.
        self.fingerprint = {"gpu": "t4", "driver": "570", "kernel": "6.1", "cpu": "Skylake"}
        cloud.died = cluster.machine_died

    # --- activities

    def start_join(self, request: act.StartJoin) -> act.JoinProgress:
        name = request.vm.name
        if self.ssh_closed or not self.cloud.up_for(name, SSH_SECONDS):
            return act.JoinProgress(state="Unreachable", message="connection refused")
        if self.joining.get(name) in {None, "Failed"}:
            self.joining[name] = "Running"
            self.tokens.add(f"{name}.{TOKEN_SECRET}")
            instance = self.cloud.instances[name]
            self.cloud.clock.after(JOIN_SECONDS, lambda: self._joined(name, instance.instance_id, request))
        return self.observe_join(request)

    def observe_join(self, request: act.StartJoin) -> act.JoinProgress:
        name = request.vm.name
        if not self.cloud.up_for(name, 0):
            return act.JoinProgress(state="Unreachable", message="no route to host")
        if self.joining.get(name) in {"Joined", "Failed"}:
            self.tokens = {token for token in self.tokens if not token.startswith(f"{name}.")}
        return act.JoinProgress(
            state=self.joining.get(name, "Booting"), token_id=f"t-{name}"[:6], fingerprint=dict(self.fingerprint)
        )

    def revoke_token(self, ref: act.TokenRef) -> act.Done:
        self.tokens.clear()
        return act.Done()

    def answer_certificates(self, request: act.AnswerCertificates) -> act.Done:
        self.certificates.append(request.vm.name)
        return act.Done()

    # --- what happens

    def ask_certificate(self, name: str) -> None:
        """Let the kubelet of a Node ask for its serving certificate."""
        workflow = names.vm_workflow_id(names.vm_key_of(name) or "")
        self.cluster.tell(workflow, "certificate_asked", CertificateAsked(node=name))

    def _joined(self, name: str, instance_id: str, request: act.StartJoin) -> None:
        instance = self.cloud.instances.get(name)
        if instance is None or instance.instance_id != instance_id or not self.cloud.up_for(name, 0):
            return
        if self.failing_joins:
            self.failing_joins -= 1
            self.joining[name] = "Failed"
            return
        self.joining[name] = "Joined"
        self.cluster.add_node(name, owner=request.job_id, ready=False, joining=request.reserved, zone=instance.zone)
        self.cloud.clock.after(READY_SECONDS, lambda: self._ready(name))

    def _ready(self, name: str) -> None:
        node = self.cluster.nodes.get(name)
        if node is not None and node.alive and name not in self.never_ready:
            self.cluster.set_ready(name, True)

    def notice(self, name: str, seconds: float, *, told: bool = True) -> None:
        """Preempt a machine: its notice, if anybody gets one, the soft off at its end, and then the machine is gone."""
        if told:
            self.cluster.mark(name)
        self.cloud.clock.after(max(0.0, seconds - 1), lambda: self.cluster.terminate_pods(name))
        self.cloud.clock.after(seconds, lambda: self.cloud.power_off(name))
