"""Whose fault a training's end is: its own, that of the image it was restored from, or that of our own checkpoint."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from api.views import RestorePoint
from workflows.state import Death, Dump, Replica

PROVING_SECONDS = 60.0
"""A restored training shows by then that it trains: a process that lacks its sockets or its GPU ends within seconds."""
SOON_SECONDS = 300.0
"""After a restore an end says more of the image than of the training: time-outs of collectives come minutes later."""
IDLE_SECONDS = 3600.0
"""The same of a training that reported nothing new since its restore: some wait half an hour for a lost peer."""
SAME_PLACE_SECONDS = 30.0
"""By so much the seconds of two trainings differ that end at the same step: each stood still while it was dumped."""
AFTERMATH = timedelta(seconds=60)
"""After a checkpoint: three failed probes of ten seconds each, and thirty seconds until SIGKILL."""
BY_SIGNAL = 128
"""Exit codes from here on are those of processes that a signal ended: 137 is SIGKILL."""
DEATHS_KEPT = 16


def is_proven(ran: float, first: float | None, newest: float | None, *, reported: bool) -> bool:
    """True if a restored training has run for long enough, and made progress between two looks if it reports any.

    A single figure beyond its image's says nothing: the process may have been dumped with a line half written.
    """
    progress = first is not None and newest is not None and newest != first
    return ran >= PROVING_SECONDS and (progress or not reported)


def ended_soon(restore: RestorePoint | None, ran: float, *, unproven: bool) -> bool:
    """True if a training ended so soon after its restore that the image may be at fault."""
    is_image = restore is not None and restore.kind == "Image"
    return is_image and ran < (IDLE_SECONDS if unproven else SOON_SECONDS)


def death_of(replica: Replica, ran: float) -> Death:
    """Say where in the training it ended: by what it reported last, else by the seconds that it has trained."""
    restore, reading = replica.restore, replica.reading
    start = restore.label if restore else ""
    if reading is None and restore is not None and restore.reported:
        reading = restore.progress
    if reading is not None:
        return Death(start=start, position=reading, reported=True)
    return Death(start=start, position=replica.base_seconds + ran)


def at_the_same_place(death: Death, before: Iterable[Death]) -> bool:
    """True if the training had already ended there after another start: then no image is to blame."""
    return any(
        other.start != death.start
        and other.reported == death.reported
        and abs(other.position - death.position) <= (0 if death.reported else SAME_PLACE_SECONDS)
        for other in before
    )


def killed_by(dump: Dump | None, incarnation: int, exit_code: int | None, ended_at: datetime) -> bool:
    """True if a signal ended the process while it was checkpointed or shortly afterwards.

    A dump needs memory beside the training's, and a process that stands still answers no probe.
    """
    if dump is None or dump.incarnation != incarnation or exit_code is None or exit_code < BY_SIGNAL:
        return False
    return dump.requested_at <= ended_at and (dump.ended_at is None or ended_at - dump.ended_at <= AFTERMATH)
