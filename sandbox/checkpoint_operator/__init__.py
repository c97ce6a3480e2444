"""The external checkpoint operator (CheckpointBackup, `migration.dcnlab.com/v1`), imitated with its traps."""

from sandbox.checkpoint_operator.operator import CheckpointOperator

__all__ = ["CheckpointOperator"]
