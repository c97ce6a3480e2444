"""What the checks of a job's documents find."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from api.common import Condition


@dataclass(frozen=True)
class Findings:
    """What a check found.

    Attributes:
        problems: what the job cannot be accepted with, the most important first.
        warnings: what a person should know, though nothing is wrong.
    """

    problems: list[Condition] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def __add__(self, other: Self) -> "Findings":
        return Findings([*self.problems, *other.problems], [*self.warnings, *other.warnings])


def together(found: Iterable[Findings]) -> Findings:
    """Join the findings of several checks."""
    return sum(found, Findings())
