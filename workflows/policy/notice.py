"""A notice's time: when the machine goes, whether a dump of what runs on it fits in, and how long it is awaited."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from workflows.policy.bounds import bounded

# Memory grows, and a push shares its link: beside a survivor's dump, which is as good, only a safe one is made.
MARGIN_FACTOR = 1.25
MARGIN_SECONDS = 5.0

# From ACPI soft off until the power goes at the latest (https://cloud.google.com/compute/docs/instances/spot).
SOFT_OFF = timedelta(seconds=30)


def ends_at(
    now: datetime, *, told: float | None = None, began: datetime | None = None, usual: float | None = None
) -> datetime | None:
    """When a machine is shut down, None where nobody knows.

    ``told`` is how many seconds it has left in the words of who announces it. ``began`` is when the cloud gave its
    notice, by the machine's own clock, and ``usual`` how many seconds of notice the machine was bought with.
    """
    if told is not None:
        return now + timedelta(seconds=bounded(told))
    if began is None or usual is None:
        return None
    return min(began, now) + timedelta(seconds=bounded(usual))


def fits(left: float | None, dumps: Sequence[float], *, survivor: bool) -> tuple[bool, str]:
    """Whether the dying replica itself is checkpointed in the ``left`` seconds, and why.

    ``dumps`` are the seconds that this job's last checkpoints took, from the request to the pushed image. Without a
    ``survivor`` there is nothing to lose: the margin is left out, and what was never measured is tried.
    """
    if left is None:
        return False, "nobody says how long its machine has left"
    if left <= 0:
        return False, "its notice leaves no time"
    if not dumps:
        return not survivor, f"{left:.0f} s are left, and how long a checkpoint takes is not known yet"
    longest = max(dumps)
    needed = _safe(longest) if survivor else longest
    return needed <= left, f"{left:.0f} s are left, and a checkpoint takes {longest:.0f} s"


def last_moment(ends: datetime, dumps: Sequence[float]) -> datetime:
    """When a checkpoint has to begin at the latest to be safely done before the machine is shut down."""
    return ends - timedelta(seconds=_safe(max(dumps, default=0)))


def once_more(left: float, dumps: Sequence[float], gain: float, *, awaited: bool) -> bool:
    """Whether a dying replica that was checkpointed, and trains on, is checkpointed a second time.

    It is for more training than a checkpoint takes: ``gain`` are the seconds of it that nothing else holds. Where the
    new machine is Ready and ``awaited`` its start is put off by it, and it has to be worth that, too.
    """
    longest = max(dumps, default=0)
    return longest <= left and gain > longest * (2 if awaited else 1)


def _safe(seconds: float) -> float:
    return bounded(seconds * MARGIN_FACTOR + MARGIN_SECONDS)


def wait_until(now: datetime, due: datetime, ahead: float) -> datetime:
    """Until when to wait for an image that holds ``ahead`` more seconds of training than the best finished one.

    Not at all where it is ``due`` later than that gains; and once it is late, no longer than that gains.
    """
    gain = timedelta(seconds=bounded(ahead))
    return now if not gain or due > now + gain else due + gain
