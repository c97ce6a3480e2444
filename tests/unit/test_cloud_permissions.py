"""The permissions on GCP that docs/security.md lists are those of the methods that the code calls: no more, no less."""

import ast
import re
from pathlib import Path

from activities.compute import preflight

ROOT = Path(__file__).parents[2]
# What each method asks for, by Google's reference of the REST methods (Authorization requires …). Creating an instance
# asks for those of what it is made of; deleting and describing need no other.
# https://cloud.google.com/compute/docs/reference/rest/v1/instances/insert
PERMISSIONS = {
    ("InstancesClient", "insert_unary"): {
        "compute.instances.create", "compute.instances.setLabels", "compute.instances.setMetadata",
        "compute.disks.create", "compute.subnetworks.use",
        "compute.subnetworks.useExternalIp", "compute.instances.setServiceAccount", "compute.instances.setTags",
        "compute.images.useReadOnly", "iam.serviceAccounts.actAs",
    },
    ("InstancesClient", "get"): {"compute.instances.get"},
    ("InstancesClient", "aggregated_list"): {"compute.instances.list"},
    ("InstancesClient", "delete_unary"): {"compute.instances.delete"},
    ("InstancesClient", "get_guest_attributes"): {"compute.instances.getGuestAttributes"},
    ("ZoneOperationsClient", "get"): {"compute.zoneOperations.get"},
    ("ZoneOperationsClient", "list"): {"compute.zoneOperations.list"},
    ("ZonesClient", "get"): {"compute.zones.get"},
    ("MachineTypesClient", "get"): {"compute.machineTypes.get"},
    ("AcceleratorTypesClient", "get"): {"compute.acceleratorTypes.get"},
    ("ImagesClient", "get"): {"compute.images.get"},
    ("ImagesClient", "get_from_family"): {"compute.images.getFromFamily"},
    ("AdviceClient", "capacity_history"): {"compute.advice.capacityHistory"},
}  # fmt: skip


def called() -> set[tuple[str, str]]:
    """(client, method) of Google's library that gcp.py calls: ``self._zones.get`` of the ``ZonesClient``."""
    tree = ast.parse((ROOT / "activities" / "compute" / "gcp.py").read_text())
    clients = {
        node.targets[0].attr: node.value.func.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Attribute)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Attribute)
        and node.value.func.attr.endswith("Client")
    }
    return {
        (clients[node.value.attr], node.attr)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr in clients
    }


def listed() -> set[str]:
    """The first column of the table of docs/security.md."""
    text = (ROOT / "docs" / "security.md").read_text()
    return set(re.findall(r"^\| `((?:compute|iam)\.[a-zA-Z.]+)` \|", text, re.MULTILINE))


def test_each_method_that_is_called_has_its_permissions_here() -> None:
    assert called() == set(PERMISSIONS)


def test_the_docs_list_what_the_methods_ask_for() -> None:
    assert listed() == set().union(*PERMISSIONS.values())


def test_a_job_is_not_admitted_without_what_its_life_needs() -> None:
    """What preflight asks for is in the list; what can be lacking without harm, it does not ask for."""
    assert set(preflight._PERMISSIONS) <= listed()
    life = [("InstancesClient", name) for name in ("get", "aggregated_list", "delete_unary", "get_guest_attributes")]
    needed = set().union(*(PERMISSIONS[one] for one in life))
    assert needed <= set(preflight._PERMISSIONS)
