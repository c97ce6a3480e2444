"""Who is to blame for a training's end: the training, the image that it was restored from, or our own checkpoint."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from api.views import RestorePoint
from workflows.job.state.checkpoint import Death
from workflows.job.state.replica import Dump, Replica

PROVING_SECONDS = 60.0
"""After this long a restored training has shown that it trains: without its sockets or its GPU it ends in seconds."""

SOON_SECONDS = 300.0
"""An end this soon after a restore blames the image: time-outs of collectives come only after minutes."""

IDLE_SECONDS = 3600.0
"""The same for a training that has reported nothing new since its restore: some wait half an hour for a lost peer."""

SAME_PLACE_SECONDS = 30.0
"""The training times of two trainings that end at the same step differ by this much, because dumps froze them."""

AFTERMATH = timedelta(seconds=60)
"""How long after a checkpoint it may kill: three failed probes of ten seconds, and thirty seconds until SIGKILL."""

BY_SIGNAL = 128
"""Exit codes from here on mean that a signal ended the process: 137 is SIGKILL."""

DEATHS_KEPT = 16
"""How many deaths of trainings are remembered."""


def is_proven(ran: float, first: float | None, newest: float | None, *, reported: bool) -> bool:
    """True if a restored training has run for long enough and, if it reports progress, has made some.

    Progress is made between two reads. A single figure beyond that of the image proves nothing: the process may have
    been dumped with a line half written.

    Args:
        ran: The seconds since its start.
        first: The progress that it first reported.
        newest: The progress that it last reported.
        reported: Whether it reports progress.
    """
    progress = first is not None and newest is not None and newest != first
    return ran >= PROVING_SECONDS and (progress or not reported)


def ended_soon(restore: RestorePoint | None, ran: float, *, unproven: bool) -> bool:
    """True if a training ended, ``ran`` seconds after its restore, so soon that the image may be at fault."""
    is_image = restore is not None and restore.kind == "Image"
    return is_image and ran < (IDLE_SECONDS if unproven else SOON_SECONDS)


def death_of(replica: Replica, ran: float) -> Death:
    """Record where in the training it ended: by its reported progress, or else by its training time."""
    restore, reading = replica.run.restore, replica.run.reading
    start = restore.label if restore else ""
    if reading is None and restore is not None and restore.reported:
        reading = restore.progress
    if reading is not None:
        return Death(start=start, position=reading, reported=True)
    return Death(start=start, position=replica.run.base_seconds + ran)


def at_the_same_place(death: Death, before: Iterable[Death]) -> bool:
    """True if the training had already ended at that place after another start, so that no image is to blame."""
    return any(
        other.start != death.start
        and other.reported == death.reported
        and abs(other.position - death.position) <= (0 if death.reported else SAME_PLACE_SECONDS)
        for other in before
    )


def killed_by(dump: Dump | None, incarnation: int, exit_code: int | None, ended_at: datetime) -> bool:
    """True if a signal ended the process while it was checkpointed, or shortly afterwards.

    A dump needs memory beside the training's, and a frozen process answers no probe.
    """
    if dump is None or dump.incarnation != incarnation or exit_code is None or exit_code < BY_SIGNAL:
        return False
    return dump.requested_at <= ended_at and (dump.ended_at is None or ended_at - dump.ended_at <= AFTERMATH)
