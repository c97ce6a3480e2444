"""Certificate requests: when the kubelet of a VM asks for the certificate that it shows, the VM's workflow hears of it.

There are none in a cluster whose kubelets sign their own (``serverTLSBootstrap: false``, the default).
"""

from functools import partial

from api import names
from api.messages import CertificateAsked
from clients.kube import Json
from crd_bridge.queues import Queues
from crd_bridge.temporal import Gateway

SERVING = "spec.signerName=kubernetes.io/kubelet-serving"


class Certificates:
    """All requests for serving certificates."""

    def __init__(self, gateway: Gateway, queues: Queues) -> None:
        self._gateway = gateway
        self._queues = queues

    def changed(self, key: str, item: Json | None, version: int) -> None:
        """A request was made, answered or, without ``item``, is gone; the VM is told only of the first."""
        if item is None or (item.get("status") or {}).get("conditions"):
            return
        node = (item["spec"].get("username") or "").removeprefix(names.node_user(""))
        vm = names.vm_key_of(node)
        if vm is not None:
            # One signal for all that this Node asks for at once: the newest counts, and says that there are some.
            self._queues.put(("certificate", node), partial(self._tell, names.vm_workflow_id(vm), node))

    async def _tell(self, workflow: str, node: str) -> None:
        await self._gateway.signal(workflow, "certificate_asked", CertificateAsked(node=node))
