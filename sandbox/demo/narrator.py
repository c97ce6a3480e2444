"""How the story is told: with a live table on a terminal, else with plain lines and times."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

NEWS_SHOWN = 8
REFRESH_PER_SECOND = 4


@dataclass(frozen=True)
class Row:
    """One line of the table of replicas."""

    replica: str
    phase: str
    machine: str
    step: str
    restored_from: str
    preemptions: str


@dataclass
class Step:
    """One step of the story. Times are from ``time.monotonic``."""

    title: str
    began: float = field(default_factory=time.monotonic)
    ended: float | None = None
    failed: bool = False
    remark: str = ""

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return (self.ended or time.monotonic()) - self.began


class Narrator:
    """Tells the story in plain lines: ``   12.3 s  what happened``."""

    def __init__(self, console: Console) -> None:
        self.steps: list[Step] = []
        self.rows: Callable[[], list[Row]] = list
        self._console = console
        self._began = time.monotonic()

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """Tell the story while the context lasts."""
        yield

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Announce a step, and say in the end whether it is done or failed."""
        step = Step(title)
        self.steps.append(step)
        self._announce(step)
        try:
            yield step
        except BaseException:
            step.failed = True
            raise
        finally:
            step.ended = time.monotonic()
            self._conclude(step)

    def say(self, text: str) -> None:
        """Report some news."""
        self._line("", text)

    def print(self, thing: RenderableType) -> None:
        """Print something that stays."""
        self._console.print(thing, soft_wrap=isinstance(thing, str))

    def _announce(self, step: Step) -> None:
        self._line("▶", f"[bold]{escape(step.title)}[/bold]", markup=True)

    def _conclude(self, step: Step) -> None:
        mark = "[red]✗[/red]" if step.failed else "[green]✓[/green]"
        self._line(mark, escape(f"{step.title} ({step.seconds:.1f} s) {step.remark}".rstrip()), markup=True)

    def _line(self, mark: str, text: str, *, markup: bool = False) -> None:
        shown = text if markup else escape(text)
        stamp = f"{time.monotonic() - self._began:7.1f} s"
        self._console.print(f"{stamp}  {mark or ' '} {shown}", highlight=False, soft_wrap=True)


class LiveNarrator(Narrator):
    """Tells the story in a part of the screen that is drawn again and again: steps, replicas, latest news."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._news: list[tuple[float, str]] = []

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """Draw while the context lasts; the last picture stays."""
        with Live(
            get_renderable=self._picture,
            console=self._console,
            refresh_per_second=REFRESH_PER_SECOND,
            vertical_overflow="crop",
        ):
            yield

    def say(self, text: str) -> None:
        """Report some news; the last few are shown."""
        self._news = [*self._news, (time.monotonic() - self._began, text)][-NEWS_SHOWN:]

    def _announce(self, step: Step) -> None:
        pass  # the picture shows it

    def _conclude(self, step: Step) -> None:
        pass

    def _picture(self) -> RenderableType:
        parts: list[RenderableType] = [self._line_of(step) for step in self.steps]
        if rows := self.rows():
            parts += ["", replicas_table(rows)]
        if self._news:
            parts += ["", *(Text(f"{at:7.1f} s  {text}", style="dim", overflow="ellipsis") for at, text in self._news)]
        for part in parts:
            if isinstance(part, Text):
                part.no_wrap = True
        return Group(*parts)

    def _line_of(self, step: Step) -> Text:
        mark, style = ("▶", "bold") if step.ended is None else ("✗", "red") if step.failed else ("✓", "green")
        line = Text(f"{step.seconds:7.1f} s  {mark} {step.title}", style=style if step.ended is None else "")
        line.stylize(style, 11, 12)
        if step.remark:
            line.append(f"  {step.remark}", style="cyan")
        return line


def narrator() -> Narrator:
    """Return the narrator that suits the output; ``NO_COLOR`` and pipes are respected."""
    console = Console()
    return LiveNarrator(console) if console.is_terminal else Narrator(console)


def replicas_table(rows: list[Row]) -> Table:
    """Format the replicas as a table."""
    table = Table("replica", "phase", "machine", "step", "restored from", "preempted", box=None, pad_edge=False)
    for row in rows:
        table.add_row(row.replica, row.phase, row.machine, row.step, row.restored_from, row.preemptions)
    return table
