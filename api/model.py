"""The base of every type that crosses a boundary: CRDs, Temporal payloads and messages."""

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict

EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2999, 1, 1, tzinfo=UTC)


def _moment(value: datetime) -> datetime:
    aware = value if value.tzinfo else value.replace(tzinfo=UTC)
    return min(max(aware, EARLIEST), LATEST)


Moment = Annotated[datetime, AfterValidator(_moment)]
"""A time that somebody else tells, made one that can be reckoned with: times without a zone are UTC's, for they cannot
be compared with others, and next to the years 1 and 9999 no duration can be added or taken away."""

ACRONYMS = {"gb": "GB", "vm": "VM", "id": "ID", "ip": "IP", "uid": "UID"}


def to_kubernetes_case(snake: str) -> str:
    """Convert ``disk_size_gb`` to ``diskSizeGB``: camelCase with acronyms in capitals, as the Kubernetes API asks."""
    first, *rest = snake.split("_")
    return first + "".join(ACRONYMS.get(word, word.capitalize()) for word in rest)


class _Unnoted(set[str]):
    """The one set of all slim models: it stays empty, and a copy of it is itself."""

    def add(self, _: str) -> None:
        """Note nothing."""

    def update(self, *_: object) -> None:
        """Note nothing."""

    def __copy__(self) -> "_Unnoted":
        return self

    def __deepcopy__(self, _: object) -> "_Unnoted":
        return self


_UNNOTED = _Unnoted()


class Slim(BaseModel):
    """A model that does not remember which of its fields were given.

    Pydantic notes that in a set for each value, which was 43 KB of a job's 118. Nobody asks for it.
    """

    def model_post_init(self, _: Any) -> None:
        """Drop the set."""
        object.__setattr__(self, "__pydantic_fields_set__", _UNNOTED)


class Model(Slim):
    """A frozen value with Kubernetes-style field names on the wire; both spellings can be read."""

    model_config = ConfigDict(
        frozen=True,
        alias_generator=to_kubernetes_case,
        populate_by_name=True,
        extra="ignore",  # a newer writer's additions must not break an older reader
    )
