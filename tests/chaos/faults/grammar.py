"""The grammar of faults: a kind has what is drawn for it, and what it does to a stage."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tests.chaos.script import Fault, Value
from tests.chaos.stage import Stage

Args = dict[str, Value]
Choices = list[int] | list[str]
Draw = Callable[[Random], Args]

REPLICA = [0, 0, 1, 1, 2]
SECONDS = [5, 20, 60, 180, 400, 900]  # that something may last


@dataclass(frozen=True)
class Kind:
    """A kind of fault: what is drawn for it, and what it does."""

    draw: Draw
    play: Callable[[Stage, Fault], None]
    weight: int


class Kinds(dict[str, Kind]):
    """Kinds of faults by their functions' names. Each argument of a fault is drawn from its choices."""

    def once(self, weight: int = 2, **choices: Choices) -> Callable[[Callable[[Stage, Args], None]], None]:
        """Something that happens in a moment."""

        def register(does: Callable[[Stage, Args], None]) -> None:
            self[does.__name__] = Kind(_drawn(choices), lambda stage, fault: does(stage, fault.args), weight)

        return register

    def lasting(self, weight: int = 2, **choices: Choices) -> Callable[[Callable[[Stage], None]], None]:
        """Something that lasts for so many seconds: the function sets the world by all such that last at present."""

        def register(switch: Callable[[Stage], None]) -> None:
            draw = _drawn({"seconds": SECONDS, **choices})
            self[switch.__name__] = Kind(draw, lambda stage, fault: stage.begin(fault, switch), weight)

        return register


def _drawn(choices: dict[str, Choices]) -> Draw:
    return lambda rng: {name: rng.choice(values) for name, values in choices.items()}
