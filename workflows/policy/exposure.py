"""How often machines are lost: a Bayesian estimate from losses and the hours in which they could have happened.

Kept are sums alone, one each zone and range of age, for zones differ and so do young machines from old ones.
"""

from datetime import datetime, timedelta

from pydantic import BaseModel

from workflows.policy.hazard import PRIOR_PER_HOUR, losses_per_hour

AGES_HOURS = (1.0, 6.0, 24.0)
"""Where one range of a machine's age ends and the next begins."""
TICK = timedelta(seconds=60)
"""Losses in one zone within so long are one event, however many machines it takes."""


class Exposure(BaseModel):
    """What was seen of some machines: losses, and the hours for which they ran."""

    losses: float = 0
    hours: float = 0


class Observations(BaseModel):
    """What was seen of all machines, by zone and by range of age; bounded by the number of zones."""

    cells: dict[str, list[Exposure]] = {}
    last_loss: dict[str, datetime] = {}

    def ran(self, zone: str, since_hours: float, until_hours: float) -> None:
        """A machine of this zone ran from one age to another."""
        edges = (0.0, *AGES_HOURS, float("inf"))
        for cell, begin, end in zip(self._of(zone), edges, edges[1:], strict=False):
            cell.hours += max(0.0, min(until_hours, end) - max(since_hours, begin))

    def lost(self, zone: str, age_hours: float, at: datetime) -> None:
        """A machine of this zone was lost at this age; one event takes many machines, and counts once."""
        last = self.last_loss.get(zone)
        if last is not None and at - last < TICK:
            return
        self.last_loss[zone] = at
        self._of(zone)[_range(age_hours)].losses += 1

    def _of(self, zone: str) -> list[Exposure]:
        return self.cells.setdefault(zone, [Exposure() for _ in range(len(AGES_HOURS) + 1)])


def hazard(observations: Observations, zone: str, age_hours: float) -> float:
    """Losses per hour to expect of a machine of this zone and age.

    From the prior to the other zones, to this zone's other ages, to this very cell: each is the prior of the next and
    weighs a day, so that every observation counts once and the nearest ones count most.
    """
    index = _range(age_hours)
    elsewhere = [cell for other, cells in observations.cells.items() if other != zone for cell in cells]
    here = observations.cells.get(zone, [])
    rate = _updated(PRIOR_PER_HOUR, elsewhere)
    rate = _updated(rate, [cell for number, cell in enumerate(here) if number != index])
    return _updated(rate, here[index : index + 1])


def _updated(prior: float, seen: list[Exposure]) -> float:
    return losses_per_hour(sum(cell.losses for cell in seen), sum(cell.hours for cell in seen), expected=prior)


def _range(age_hours: float) -> int:
    return sum(age_hours >= end for end in AGES_HOURS)
