"""The grammar of faults: what is drawn for each kind, and what it does to a stage."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tests.chaos.script import Fault, Value
from tests.chaos.stage import Stage

Args = dict[str, Value]
Choices = list[int] | list[str]
Draw = Callable[[Random], Args]

REPLICA = [0, 0, 1, 1, 2]
SECONDS = [5, 20, 60, 180, 400, 900]  # how long something may last
HOUR, DAY = 3600, 86_400
LONG_SECONDS = [HOUR, 2 * HOUR, 5 * HOUR, 5 * HOUR, 9 * HOUR, 9 * HOUR, 15 * HOUR, DAY, DAY, 2 * DAY, 3 * DAY, 7 * DAY]
"""The same in a schedule of days: from a maintenance window to a holiday without an operator."""


@dataclass(frozen=True)
class Kind:
    """A kind of fault: what is drawn for it, and what it does."""

    draw: Draw
    play: Callable[[Stage, Fault], None]
    weight: int
    days: int = 0  # its weight among those that last for days

    def draw_long(self, rng: Random) -> Args:
        """Draw one that lasts for hours or days."""
        args = self.draw(rng)
        longer = {name: rng.choice(LONG_SECONDS) for name in ("seconds", "after") if name in args}
        return args | longer


class Kinds(dict[str, Kind]):
    """Kinds of faults by their functions' names. Each argument of a fault is drawn from its choices."""

    def once(
        self, weight: int = 2, days: int = 0, **choices: Choices
    ) -> Callable[[Callable[[Stage, Args], None]], None]:
        """Register something that happens in a moment; what follows may come hours or days later."""

        def register(does: Callable[[Stage, Args], None]) -> None:
            self[does.__name__] = Kind(_drawn(choices), lambda stage, fault: does(stage, fault.args), weight, days)

        return register

    def lasting(self, weight: int = 2, days: int = 0, **choices: Choices) -> Callable[[Callable[[Stage], None]], None]:
        """Register something that lasts for so many seconds. The function sets the world by all present faults of its
        kind.

        With ``days`` it may last for hours or days as well; that is its weight among those that do.
        """

        def register(switch: Callable[[Stage], None]) -> None:
            draw = _drawn({"seconds": SECONDS, **choices})
            self[switch.__name__] = Kind(draw, lambda stage, fault: stage.begin(fault, switch), weight, days)

        return register


def _drawn(choices: dict[str, Choices]) -> Draw:
    return lambda rng: {name: rng.choice(values) for name, values in choices.items()}
