"""The machine answers by SSH, joins the cluster, and its Node becomes Ready with its GPUs."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import names

from workflows.calls import call
from workflows.stages.machine import POLL_SECONDS, Part

MAX_JOINS = 3
SHORTEST_POLL = 0.5


class Joining(Part):
    """Booting, Joining and Registering."""

    async def boot(self) -> None:
        """Until SSH answers and kubeadm join is under way."""
        self.state.reserved = self.state.reserved or workflow.patched("reserved-node")
        progress = await call(act.START_JOIN, self._join_request(), summary=f"connect to {self.machine.name} and join")
        self._take(progress)
        if progress.state in {"Running", "Joined"}:
            message = progress.message or "kubeadm join runs"
            self.machine.enter("Joining", seconds=self.timings.join_deadline, message=message)
        elif progress.state == "Failed":
            await self._join_failed(progress.message)
        else:
            await self._still_there(f"waits for SSH on {self.machine.name}: {progress.message}")

    async def join(self) -> None:
        """Until kubeadm join has ended."""
        progress = await call(act.OBSERVE_JOIN, self._join_request(), summary=f"kubeadm join on {self.machine.name}")
        self._take(progress)
        if progress.state == "Joined":
            self.machine.enter("Registering", seconds=self.timings.ready_deadline, message="waits for the Node")
        elif progress.state == "Failed":
            await self._join_failed(progress.message)
        else:
            await self._still_there(f"waits for kubeadm join: {progress.message}")

    async def _join_failed(self, message: str) -> None:
        self.state.joins += 1
        if self.state.joins >= MAX_JOINS:
            self.machine.give_up("JoinFailed", message)
            return
        self.state.reason, self.state.message = "JoinRetried", message
        self.machine.enter("Booting", seconds=self.timings.boot_deadline, reason="JoinRetried", message=message)
        await self.machine.until(lambda: False, self.machine.soon(), "before the next join")

    async def register(self) -> None:
        """Until the Node is Ready, with its GPUs."""
        name = self.machine.name
        readiness = await call(act.OBSERVE_NODE, act.NodeRef(name=name), summary=f"is {name} Ready with its GPUs?")
        if readiness.view.exists:
            self.machine.see_node(readiness.view)
            if self.state.prepared != readiness.view.uid or self.machine.is_open_to_others:
                await self.machine.prepare_node(readiness.view)
        waits_for = self._lacks(readiness)
        if waits_for is None:
            self.machine.see_agent(readiness.agent)
            await self.machine.revoke_token()
            self.machine.enter("Ready", message=f"node {name} is Ready")
            return
        await self._still_there(waits_for, self._pause())

    def _pause(self) -> float:
        """Seconds until the next look at the Node: a quarter of what it has taken, which holds up no quick one."""
        left = (self.state.deadline - workflow.now()).total_seconds() if self.state.deadline else 0
        return min(POLL_SECONDS, max(SHORTEST_POLL, (self.timings.ready_deadline - left) / 4))

    def _lacks(self, readiness: act.NodeReadiness) -> str | None:
        """What the node still waits for, None where it can take its replica."""
        view, gpu = readiness.view, self.machine.candidate.gpu
        if not view.exists:
            return f"waits for node {view.name} to register"
        if not view.ready:
            return f"waits for node {view.name} to be Ready"
        if gpu and view.gpus < gpu.count:
            return (
                f"waits for {gpu.count} GPUs on {view.name}: {view.gpus} allocatable (they take the NVIDIA driver in "
                "spec.vmImage, and pods of the device plugin or the GPU operator that tolerate nvidia.com/gpu)"
            )
        if gpu and readiness.gpu_operator and not readiness.validated:
            return f"waits for the GPU operator's validator on {view.name}"
        return None

    async def _still_there(self, waits_for: str, pause: float = POLL_SECONDS) -> None:
        """Between two looks: is the machine there, is it late? A machine lost while it joins is lost, not failed."""
        self.state.message = waits_for
        view = await self.machine.look()
        if self.machine.gone_or_stopped(view):
            self.machine.lose("PreemptedWhileJoining", f"{self.machine.name} was lost before it was Ready")
        elif self.machine.late():
            self.machine.give_up(f"{self.state.stage}Timeout", f"in vain: {waits_for}")
        else:
            await self.machine.tell()
            await self.machine.until(lambda: self.state.noticed_at is not None, self.machine.soon(pause), waits_for)

    def _join_request(self) -> act.StartJoin:
        start, view = self.start, self.state.view
        address = (view.external_ip or view.internal_ip or "") if view else ""
        return act.StartJoin(
            vm=self.machine.vm_ref(),
            spec=start.spec.model_copy(update={"startup_script": None}),  # long, and GCE's to run
            address=address,
            job_id=start.job_id,
            cluster_id=start.cluster_id,
            provider_id=f"gce://{start.spec.gcp.project}/{self.machine.current.zone}/{self.machine.name}",
            namespace=start.namespace,
            ssh_key=start.ssh_key,
            token_lifetime=self.timings.token_lifetime,
            workflow=names.job_workflow_id(start.namespace, start.job_name),
            reserved=self.state.reserved,
        )

    def _take(self, progress: act.JoinProgress) -> None:
        self.state.token_id = progress.token_id or self.state.token_id
        gpu = self.machine.candidate.gpu
        bought = {"gpu": gpu.type, "gpuCount": str(gpu.count)} if gpu else {}
        self.state.fingerprint = {**self.state.fingerprint, **progress.fingerprint, **bought}
