"""A schedule of faults as a short text, which people can read, shorten and paste into a test."""

from dataclasses import dataclass, field, replace

Value = int | str


@dataclass(frozen=True)
class Fault:
    """Something that happens so many seconds after the job was submitted."""

    at: int
    kind: str
    args: dict[str, Value] = field(default_factory=dict)

    @property
    def ends(self) -> int:
        """Return when it ends, in seconds from the job's beginning."""
        return self.at + int(self.args.get("seconds", self.args.get("after", 0)))

    def __str__(self) -> str:
        return " ".join([f"{self.at:5d}", self.kind, *_words(self.args)])


@dataclass(frozen=True)
class Script:
    """A job, and what happens to it."""

    job: dict[str, Value]
    faults: list[Fault]

    @property
    def lasts(self) -> int:
        """Return the seconds until all faults are over."""
        return max((fault.ends for fault in self.faults), default=0)

    def __str__(self) -> str:
        return "\n".join([" ".join(["  job", *_words(self.job)]), *map(str, self.faults)])

    def with_faults(self, faults: list[Fault]) -> "Script":
        """Make the same job with other faults."""
        return replace(self, faults=faults)


def parse(text: str) -> Script:
    """Read a script: a line for the job, then one for each fault."""
    head, *rest = [line.split() for line in text.strip().splitlines() if line.strip()]
    return Script(_args(head[1:]), [Fault(int(words[0]), words[1], _args(words[2:])) for words in rest])


def _words(args: dict[str, Value]) -> list[str]:
    return [f"{key}={value}" for key, value in args.items()]


def _args(words: list[str]) -> dict[str, Value]:
    pairs = [word.split("=", 1) for word in words]
    return {key: int(value) if value.lstrip("-").isdigit() else value for key, value in pairs}
