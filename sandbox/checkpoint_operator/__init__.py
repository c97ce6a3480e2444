"""An imitation of the external checkpoint operator (CheckpointBackup, ``migration.dcnlab.com/v1``), traps included."""

from sandbox.checkpoint_operator.operator import ACCOUNT, ACCOUNT_NAMESPACE, RBAC, CheckpointOperator

__all__ = ["ACCOUNT", "ACCOUNT_NAMESPACE", "RBAC", "CheckpointOperator"]
