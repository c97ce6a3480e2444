"""The stages Booting, Joining and Registering: from SSH and kubeadm join to a Ready Node with its GPUs."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import names, reasons
    from api.views import NodeView

from workflows.common.calls import call
from workflows.common.patches import patched
from workflows.vm.machine import POLL_SECONDS, Part

MAX_JOINS = 3
"""How often kubeadm join may fail before the machine is released."""

SLOW_SECONDS = 120.0
"""How long one call watches a boot or a join. What takes longer is told to people, stage by stage."""

LOOK_SECONDS = 60.0
"""How long the bridge's word of a joining Node is waited for, before the Node is read."""

SHORTEST_POLL = 0.5
"""Seconds between the first polls of a joining Node."""


class Joining(Part):
    """The stages Booting, Joining and Registering."""

    async def boot(self) -> None:
        """Wait until SSH answers and kubeadm join has begun."""
        self.state.reserved = self.state.reserved or patched("reserved-node")
        progress = await self._watch(act.START_JOIN, f"connect to {self.machine.name} and join")
        if progress is None:
            return
        self._take(progress)
        if progress.state in {"Running", "Joined"}:
            message = progress.message or "kubeadm join runs"
            self.machine.enter("Joining", seconds=self.timings.join_deadline, message=message)
        elif progress.state == "Failed":
            await self._join_failed(progress.message)
        else:
            await self._wait(f"waiting for SSH on {self.machine.name}: {progress.message}")

    async def join(self) -> None:
        """Wait until kubeadm join has ended."""
        progress = await self._watch(act.OBSERVE_JOIN, f"kubeadm join on {self.machine.name}")
        if progress is None:
            return
        self._take(progress)
        if progress.state == "Joined":
            if self.machine.watches:
                self.state.token_id = None  # the activity has revoked it
            self.machine.enter("Registering", seconds=self.timings.ready_deadline, message="waiting for the Node")
        elif progress.state == "Failed":
            await self._join_failed(progress.message)
        else:
            await self._wait(f"waiting for kubeadm join: {progress.message}")

    async def _watch(
        self, signature: act.Signature[act.StartJoin, act.JoinProgress], summary: str
    ) -> act.JoinProgress | None:
        """Watch a step of the join; None if the machine was released or had a notice meanwhile."""
        if not self.machine.watches:
            return await call(signature, self._join_request(), summary=summary)
        seconds = min(SLOW_SECONDS, self.machine.left())
        return await self.machine.watch(
            signature, self._join_request(), self._is_noticed, seconds=seconds, summary=summary
        )

    def _is_noticed(self) -> bool:
        return self.state.noticed_at is not None

    async def _join_failed(self, message: str) -> None:
        self.state.joins += 1
        if self.state.joins >= MAX_JOINS:
            self.machine.give_up(reasons.JOIN_FAILED, message)
            return
        self.state.reason, self.state.message = "JoinRetried", message
        self.machine.enter("Booting", seconds=self.timings.boot_deadline, reason="JoinRetried", message=message)
        await self.machine.until(lambda: False, self.machine.soon(), "the next join")

    async def register(self) -> None:
        """Wait until the Node is Ready with its GPUs."""
        if self.machine.watches and await self._await_node():
            return
        name = self.machine.name
        readiness = await self._observe_node(name)
        if readiness is None:
            return
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
        await self._wait(waits_for, 0.0 if self.machine.watches else self._pause())

    async def _observe_node(self, name: str) -> act.NodeReadiness | None:
        """Read the Node, and wait a while for the GPU operator's validator; None if the wait for it ended first."""
        ref, summary = act.NodeRef(name=name), f"is {name} Ready with its GPUs?"
        if not self.machine.watches:
            return await call(act.OBSERVE_NODE, ref, summary=summary)
        return await self.machine.watch(
            act.OBSERVE_NODE, ref, self._is_noticed, seconds=self._patience(), summary=summary
        )

    async def _await_node(self) -> bool:
        """Wait for the bridge's word that the Node is Ready with its GPUs. True if something else came first.

        A Node that just appeared is prepared at once, so that pods of others stay away. From time to time it is read
        all the same, in case a message was lost.
        """
        node = self.state.node
        if node is not None and node.exists and self.state.prepared != node.uid:
            await self.machine.prepare_node(node)
        look_at = self.machine.soon(self._patience())
        seen = self._node_facts()
        if self._node_lacks() is not None:
            waits_for = f"waiting for node {self.machine.name}"
            await self.machine.until(lambda: self._is_noticed() or self._node_facts() != seen, look_at, waits_for)
        return self._is_noticed() or self.state.released is not None or self._node_facts() != seen

    def _patience(self) -> float:
        """Return for how long to wait for the bridge's word."""
        if self.state.deadline is None:
            return LOOK_SECONDS
        return min(LOOK_SECONDS, max(self.machine.left(), SHORTEST_POLL))

    def _node_facts(self) -> tuple[object, ...]:
        node = self.state.node
        return (node.uid, node.exists, node.ready, node.gpus, node.schedulable) if node is not None else ()

    def _node_lacks(self) -> str | None:
        """Say what the Node lacks, as far as the bridge has told; None if nothing."""
        node = self.state.node or NodeView(name=self.machine.name, exists=False)
        return self._lacks(act.NodeReadiness(view=node))

    def _pause(self) -> float:
        """Return the seconds until the next poll of the Node: a quarter of what it took so far, but within limits.

        So a Node that is Ready quickly is noticed quickly.
        """
        left = (self.state.deadline - workflow.now()).total_seconds() if self.state.deadline else 0
        return min(POLL_SECONDS, max(SHORTEST_POLL, (self.timings.ready_deadline - left) / 4))

    def _lacks(self, readiness: act.NodeReadiness) -> str | None:
        """Say what the node still lacks; None if it can take its replica."""
        view, gpu = readiness.view, self.machine.candidate.gpu
        if not view.exists:
            return f"waiting for node {view.name} to register"
        if not view.ready:
            return f"waiting for node {view.name} to be Ready"
        if gpu and view.gpus < gpu.count:
            return (
                f"waiting for {gpu.count} GPUs on {view.name}: {view.gpus} allocatable (they need the NVIDIA driver in "
                "spec.vmImage, and pods of the device plugin or the GPU operator that tolerate nvidia.com/gpu)"
            )
        if gpu and readiness.gpu_operator and not readiness.validated:
            return f"waiting for the GPU operator's validator on {view.name}"
        return None

    async def _wait(self, waits_for: str, pause: float = POLL_SECONDS) -> None:
        """Wait ``pause`` seconds for the next poll, unless the machine is lost or late.

        A machine that goes while it joins was lost: its join did not fail.
        """
        self.state.message, self.state.slow = waits_for, True
        view = await self.machine.observe()
        if self.machine.gone_or_stopped(view):
            self.machine.lose("PreemptedWhileJoining", f"{self.machine.name} was lost before it was Ready")
        elif self.machine.late():
            self.machine.give_up(reasons.timeout_of(self.state.stage), f"too late, still {waits_for}")
        else:
            await self.machine.report()
            await self.machine.until(lambda: self.state.noticed_at is not None, self.machine.soon(pause), waits_for)

    def _join_request(self) -> act.StartJoin:
        start, view = self.start, self.state.view
        address = (view.external_ip or view.internal_ip or "") if view else ""
        return act.StartJoin(
            vm=self.machine.vm_ref(),
            spec=start.spec.model_copy(update={"startup_script": None}),  # it is long, and only GCE runs it
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
