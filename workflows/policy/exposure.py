"""How often machines are lost: a Bayesian estimate from losses and the hours in which they could have happened.

Kept are sums alone, one each kind (``zone/machine type``) and range of age, for kinds differ and so do young machines
from old ones.
"""

from datetime import datetime, timedelta

from pydantic import BaseModel

from workflows.policy.hazard import PRIOR_PER_HOUR, losses_per_hour

AGES_HOURS = (1.0, 6.0, 24.0)
"""Where one range of a machine's age ends and the next begins."""
TICK = timedelta(minutes=2)
"""Losses in one zone within so long are one event, however many machines and kinds it takes."""
MEMORY = 720.0
"""Hours of a kind's machine time after which older experience fades."""


class Exposure(BaseModel):
    """What was seen of some machines: losses, and the hours for which they ran."""

    losses: float = 0
    hours: float = 0


class Observations(BaseModel):
    """What was seen of all machines, by kind and by range of age; bounded by the number of kinds."""

    cells: dict[str, list[Exposure]] = {}
    last_loss: dict[str, datetime] = {}  # by zone

    def ran(self, kind: str, since_hours: float, until_hours: float) -> None:
        """A machine of this kind ran from one age to another."""
        cells, edges = self._of(kind), (0.0, *AGES_HOURS, float("inf"))
        for cell, begin, end in zip(cells, edges, edges[1:], strict=False):
            cell.hours += max(0.0, min(until_hours, end) - max(since_hours, begin))
        hours = sum(cell.hours for cell in cells)
        for cell in cells if hours > MEMORY else ():
            cell.losses, cell.hours = cell.losses * MEMORY / hours, cell.hours * MEMORY / hours

    def lost(self, kind: str, age_hours: float, at: datetime) -> None:
        """A machine of this kind was lost at this age; one event takes many machines of a zone, and counts once."""
        zone = kind.partition("/")[0]
        last = self.last_loss.get(zone)
        if last is not None and at - last < TICK:
            return
        self.last_loss[zone] = at
        self._of(kind)[_range(age_hours)].losses += 1

    def of_kind(self, kind: str) -> Exposure:
        """All ages together."""
        cells = self.cells.get(kind, [])
        return Exposure(losses=sum(cell.losses for cell in cells), hours=sum(cell.hours for cell in cells))

    def forget_all_but(self, kept: int) -> None:
        """Keep the kinds that were seen last."""
        self.cells = dict(list(self.cells.items())[-kept:])
        self.last_loss = dict(list(self.last_loss.items())[-kept:])

    def _of(self, kind: str) -> list[Exposure]:
        return self.cells.setdefault(kind, [Exposure() for _ in range(len(AGES_HOURS) + 1)])


def hazard(observations: Observations, kind: str, age_hours: float) -> float:
    """Losses per hour to expect of a machine of this kind and age; of a kind never seen, what all others say.

    From the prior to the other kinds, to this kind's other ages, to this very cell: each is the prior of the next and
    weighs a day, so that every observation counts once and the nearest ones count most.
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
