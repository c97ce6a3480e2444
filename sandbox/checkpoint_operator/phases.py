"""The phases of a CheckpointBackup, as the operator writes them into ``status.phase``."""

CHECKPOINTING = "Checkpointing"
CHECKPOINTED = "Checkpointed"
STORING = "StoringCheckpoint"
STORED = "CheckpointStored"
BUILDING = "ImageBuilding"
BUILT = "ImageBuilt"
PUSHING = "ImagePushing"
PUSHED = "ImagePushed"
COMPLETED = "Completed"
COMPLETED_POD_DELETED = "CompletedPodDeleted"
COMPLETED_WITH_ERROR = "CompletedWithError"
FAILED = "Failed"

MIDDLE_PHASES = (CHECKPOINTING, CHECKPOINTED, STORING, STORED, BUILDING, BUILT, PUSHING, PUSHED)
"""Phases of a checkpoint that is under way, in their order."""
