"""What helps when a condition of a job is not as it should be: a sentence or two for whoever sees it.

The message of a condition says what is wrong, with names. ``docs/conditions.md`` explains at length.
"""

from api import conditions

HELPS = {
    conditions.ACCEPTED: "Correct the field or the object that the message names. Nothing is bought before that.",
    conditions.CREDENTIALS_READY: "Give the key the permission that is named, or put a valid key into its Secret.",
    conditions.CLOUD_READY: "Correct the zone, machine type, GPU or image of the SpotInstanceVM.",
    conditions.REGISTRY_READY: "Check checkpointImageRepo, and that the credentials may push to it and pull from it.",
    conditions.STORAGE_READY: "Check the bucket of checkpointStorage, its endpoint, and the credentials.",
    conditions.OPERATOR_READY: "Install the checkpoint operator, or use mode Application.",
    conditions.MACHINE_FITS: "Let the template ask for less, or the SpotInstanceVM allow larger machines.",
    conditions.QUEUED: "Nothing, if a queue has its turn to give. Otherwise resume the Job that the message names.",
    conditions.PODS_START: "Correct the image, Secret, volume or quota that the message names.",
    conditions.RESTORABLE: "Set onUnrestorable to ColdStart to train from the beginning, or restoreFrom to an image.",
    conditions.CAPACITY_AVAILABLE: (
        "It is tried again by itself. More zones or alternatives in the SpotInstanceVM, or onDemandFallback, make it "
        "likelier to succeed."
    ),
    conditions.STABLE: "See who ends the pods, as the message says: a drain, an eviction, or the training itself.",
    conditions.SUSPENDED: "Nothing: it is checkpointed first. suspendUnsaved gives up what is not saved yet.",
    conditions.PROGRESSING: "See its log. It is restarted from its last checkpoint at the time that the message says.",
    conditions.CHECKPOINTS_SUCCEED: "Training goes on. Correct what the message names, or a loss falls back further.",
    conditions.CHECKPOINTS_PROVEN: "See in its log why the restored training ended, and what a checkpoint takes along.",
    conditions.CHECKPOINT_PUBLISHED: "Let the training publish a checkpoint, as the page on mode Application says.",
    conditions.AGENT_READY: "Let the node agent run on that node. Until then its machine goes without notice.",
    conditions.OUTPUTS_SAVED: "Correct what the message names.",
    conditions.LOGS_SAVED: "Check the bucket. The end of the log is in a ConfigMap.",
    conditions.REPORT_WRITTEN: "Check the bucket of checkpointStorage and its credentials.",
    conditions.FAILED: "See its log. To train on, delete the job and create it again, with restoreFrom to continue.",
    conditions.TORN_DOWN: "Nothing, for some minutes. After that, let what the message names answer again.",
}
"""What helps, by the type of the condition."""

BAD_IF_TRUE = frozenset({conditions.QUEUED, conditions.FAILED})
"""The conditions for which True, and not False, is what people should know."""
