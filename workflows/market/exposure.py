"""How often machines are lost: a Bayesian estimate from losses and from the hours in which they could have happened.

Only sums are kept, one for each kind of machine (``zone/machine type``) and range of age, because kinds differ, and so
do young machines and old ones.
"""

from datetime import datetime, timedelta

from api.model import Slim
from workflows.policy.loss_rate import PRIOR_PER_HOUR, losses_per_hour

AGES_HOURS = (1.0, 6.0, 24.0)
"""The ages at which one range ends and the next begins."""

SAME_EVENT = timedelta(minutes=2)
"""Losses in one zone that are less than this apart are one event, however many machines and kinds it takes."""

MEMORY = 720.0
"""The hours of a kind's machine time after which older experience fades."""


class Exposure(Slim):
    """The losses of some machines, and the hours for which they ran."""

    losses: float = 0
    hours: float = 0


class Observations(Slim):
    """The exposure of all machines, by kind and range of age. The number of kinds bounds it."""

    cells: dict[str, list[Exposure]] = {}
    last_loss: dict[str, datetime] = {}  # by zone

    def ran(self, kind: str, since_hours: float, until_hours: float) -> None:
        """Record that a machine of this kind ran from one age to another, both in hours."""
        cells, edges = self._of(kind), (0.0, *AGES_HOURS, float("inf"))
        for cell, begin, end in zip(cells, edges, edges[1:], strict=False):
            cell.hours += max(0.0, min(until_hours, end) - max(since_hours, begin))
        hours = sum(cell.hours for cell in cells)
        for cell in cells if hours > MEMORY else ():
            cell.losses, cell.hours = cell.losses * MEMORY / hours, cell.hours * MEMORY / hours

    def lost(self, kind: str, age_hours: float, at: datetime) -> None:
        """Record that a machine of this kind was lost at this age.

        One event often takes many machines of a zone. It counts once.
        """
        zone = kind.partition("/")[0]
        last = self.last_loss.get(zone)
        if last is not None and at - last < SAME_EVENT:
            return
        self.last_loss[zone] = at
        self._of(kind)[_range(age_hours)].losses += 1

    def of_kind(self, kind: str) -> Exposure:
        """Add up the exposure of a kind over all ages."""
        cells = self.cells.get(kind, [])
        return Exposure(losses=sum(cell.losses for cell in cells), hours=sum(cell.hours for cell in cells))

    def forget_all_but(self, kept: int) -> None:
        """Keep the ``kept`` kinds that were seen last."""
        self.cells = dict(list(self.cells.items())[-kept:])
        self.last_loss = dict(list(self.last_loss.items())[-kept:])

    def _of(self, kind: str) -> list[Exposure]:
        return self.cells.setdefault(kind, [Exposure() for _ in range(len(AGES_HOURS) + 1)])


def loss_rate(observations: Observations, kind: str, age_hours: float) -> float:
    """Estimate the losses per hour of a machine of this kind and age; for an unknown kind, those of all others.

    The estimate starts from the prior and takes in the other kinds, then this kind's other ages, then this very cell.
    Each result is the prior of the next step and weighs a day, so that every observation counts once and the nearest
    ones count most.
    """
    index = _range(age_hours)
    elsewhere = [cell for other, cells in observations.cells.items() if other != kind for cell in cells]
    here = observations.cells.get(kind, [])
    rate = _updated(PRIOR_PER_HOUR, elsewhere)
    rate = _updated(rate, [cell for number, cell in enumerate(here) if number != index])
    return _updated(rate, here[index : index + 1])


def _updated(prior: float, seen: list[Exposure]) -> float:
    return losses_per_hour(sum(cell.losses for cell in seen), sum(cell.hours for cell in seen), expected=prior)


def _range(age_hours: float) -> int:
    return sum(age_hours >= end for end in AGES_HOURS)
