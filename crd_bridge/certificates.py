"""Certificate requests: the bridge reports them to a VM's workflow when its kubelet asks for a serving certificate.

There are none in a cluster whose kubelets sign their own (``serverTLSBootstrap: false``, the default).
"""

from functools import partial

from api import names
from api.messages import CertificateAsked
from clients.kube import Json
from crd_bridge.queues import Queues
from crd_bridge.reported import Reported
from crd_bridge.temporal import Gateway

PLURAL = "certificatesigningrequests"
SERVING = "spec.signerName=kubernetes.io/kubelet-serving"


class Certificates:
    """All requests for serving certificates."""

    def __init__(self, gateway: Gateway, queues: Queues, reported: Reported) -> None:
        self._reported = reported
        self._gateway = gateway
        self._queues = queues

    def changed(self, key: str, item: Json | None, version: int) -> None:
        """Report a request that was made; one that was answered or, without ``item``, is gone is ignored."""
        if item is None or (item.get("status") or {}).get("conditions") or self._reported.covers(PLURAL, version):
            return
        node = (item["spec"].get("username") or "").removeprefix(names.node_user(""))
        vm = names.vm_key_of(node)
        if vm is not None:
            # One signal for all that this Node asks for at once: the newest replaces the others.
            work = partial(self._tell, names.vm_workflow_id(vm), node)
            self._queues.put(("certificate", node), work, owed=(PLURAL, version))

    async def _tell(self, workflow: str, node: str) -> None:
        await self._gateway.signal(workflow, "certificate_asked", CertificateAsked(node=node))
