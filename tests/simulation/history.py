"""The event history of a run, in the service's own form, so that the SDK can replay it."""

import functools
import re
from datetime import datetime

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.sdk.v1 import UserMetadata

SUGGEST_EVENTS, SUGGEST_BYTES = 4096, 4 << 20  # the service's defaults, of limit.historyCount and historySize


class History:
    """Events, numbered from one."""

    def __init__(self) -> None:
        self.events: list[HistoryEvent] = []
        self.size = 0

    def add(self, at: datetime, attributes: Message, metadata: UserMetadata | None = None) -> int:
        """Append an event, whose type is that of its attributes, and return its number."""
        number, field = _kind(type(attributes))
        event = HistoryEvent(event_id=len(self.events) + 1, event_type=number)
        event.event_time.CopyFrom(timestamp(at))
        getattr(event, field).CopyFrom(attributes)
        if metadata is not None:
            event.user_metadata.CopyFrom(metadata)
        self.events.append(event)
        self.size += event.ByteSize()
        return event.event_id

    @property
    def is_long(self) -> bool:
        """True if the service suggests to continue as new."""
        return len(self.events) > SUGGEST_EVENTS or self.size > SUGGEST_BYTES


@functools.lru_cache(maxsize=64)  # many events come at one moment
def timestamp(at: datetime) -> Timestamp:
    """Write a moment as the service does; the result must not be changed."""
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp


@functools.cache
def _kind(attributes: type[Message]) -> tuple[EventType.ValueType, str]:
    """Return the type of event that has such attributes, and its field for them."""
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", attributes.__name__.removesuffix("EventAttributes")).lower()
    return EventType.Value(f"EVENT_TYPE_{name.upper()}"), f"{name}_event_attributes"
