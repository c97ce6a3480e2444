"""Credentials that are revoked, deleted or broken, and restored later by whoever did it."""

from api import errors
from tests.chaos.faults.checkpoints import set_registry
from tests.chaos.faults.grammar import Kinds
from tests.chaos.stage import Stage

KINDS = Kinds()

WAYS = [errors.PERMISSION, errors.MISSING, errors.INVALID]
"""What activities report of a key that is revoked, of a Secret that is deleted, and of one that contains no key."""

CLOUD_KEY = [
    "create_vm", "observe_create", "observe_vm", "delete_vm", "read_price", "find_preempted", "watch_preempted",
    "start_join", "find_stored", "save_outputs", "write_report",
]  # fmt: skip
REGISTRY_KEY = ["find_image", "pin_images", "delete_images"]
SSH_KEY = ["start_join", "observe_join"]


@KINDS.lasting(days=4, why=WAYS)
def cloud_key_lost(stage: Stage) -> None:
    """Let the cloud refuse to buy, look and delete; a deleted Secret is reported among the job's problems."""
    _refuse(stage)
    lost = stage.said("cloud_key_lost", "why")
    stage.world.documents.missing = "gcp" if errors.MISSING in lost else None
    checks = stage.world.documents.failing_checks
    checks.add("CredentialsReady") if lost else checks.discard("CredentialsReady")


@KINDS.lasting(days=3, why=WAYS)
def registry_key_lost(stage: Stage) -> None:
    """Let nobody push to the registry, pull from it or delete in it."""
    _refuse(stage)
    set_registry(stage)


@KINDS.lasting(days=2, why=WAYS)
def ssh_key_lost(stage: Stage) -> None:
    """Let no machine accept the SSH key."""
    _refuse(stage)


def _refuse(stage: Stage) -> None:
    stage.world.denied = {
        name: str(why)
        for fault, uses in (
            ("cloud_key_lost", CLOUD_KEY),
            ("registry_key_lost", REGISTRY_KEY),
            ("ssh_key_lost", SSH_KEY),
        )
        for why in stage.said(fault, "why")
        for name in uses
    }
