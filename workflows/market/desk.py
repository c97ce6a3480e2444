"""What the parts of a market share."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from api.market import MarketStart
    from api.timings import Timings

from workflows.market.state import MarketState


class Desk:
    """The input of a market's run, whose timings may change in its long life, and its memory."""

    def __init__(self, start: MarketStart) -> None:
        self.start = start
        self.state = MarketState.model_validate(start.state or {})

    @property
    def project(self) -> str:
        """Return the cloud project."""
        return self.start.project

    @property
    def timings(self) -> Timings:
        """Return the installation's timings, as somebody who asked or reported had them last."""
        return self.start.timings

    def adopt(self, timings: Timings | None) -> None:
        """Use the latest settings."""
        if timings is not None:
            self.start = self.start.model_copy(update={"timings": timings})
