"""Serving certificates of our VMs' kubelets, in clusters with ``serverTLSBootstrap: true``.

In such a cluster the kubelet asks the cluster to sign the certificate that it shows to the API server. Until then it
answers nobody: no log, no progress, no checkpoint. kubeadm approves no such request, because an approver has to know
which addresses belong to the Node. A VM's cloud knows.

https://kubernetes.io/docs/tasks/administer-cluster/kubeadm/kubeadm-certs/#kubelet-serving-certs
"""

from temporalio import activity

from activities import signatures
from activities.certificates.approver import Approver
from activities.certificates.request import SERVING, Asked, own_names, serving_problem
from activities.cloud_errors import CloudError, to_application_error
from activities.compute import Cloud
from activities.signatures import AnswerCertificates, Done, VmRef
from api import names
from clients.informer import Informer
from clients.kube import Kube


class CertificateActivities:
    """Answers requests for serving certificates.

    Args:
        kube: the cluster, in which it may approve for the signer of kubelets' serving certificates.
        cloud: the cloud that runs the VMs.
        requests: what is asked, of the kind ``REQUESTS``.
    """

    def __init__(self, kube: Kube, cloud: Cloud, requests: Informer[Asked]) -> None:
        self._approver = Approver(kube, requests)
        self._cloud = cloud

    @activity.defn(name=signatures.ANSWER_CERTIFICATES.name)
    async def answer_certificates(self, request: AnswerCertificates) -> Done:
        """Approve each request that names only this VM, as its cloud reports it; deny the others of its Node."""
        vm = request.vm
        asked = [each for each in await self._approver.waiting(names.node_user(vm.name)) if each.signer == SERVING]
        if not asked:
            return Done()
        own = await self._own_names(vm)
        problems = [(each, serving_problem(each, vm.name, own)) for each in asked]
        for each, problem in problems:
            if problem is None:
                await self._approver.approve(each, f"{vm.name}, and nothing but its own names and addresses")
        refused = [(each, problem) for each, problem in problems if problem is not None]
        await self._approver.deny(refused, request.job, f"the kubelet of {vm.name}")
        return Done()

    async def _own_names(self, vm: VmRef) -> set[str]:
        """Ask the cloud for the VM's names and addresses; an empty set if it is gone."""
        try:
            compute = await self._cloud.open(vm.credentials, vm.namespace)
            found = await compute.get(vm.project, vm.zone, vm.name)
        except CloudError as error:
            raise to_application_error(error) from error
        if found is None or (vm.instance_id and found.instance_id != vm.instance_id):
            return set()
        return own_names(found, vm.project)
