"""The base of every type that crosses a boundary: the CRDs, Temporal payloads and messages."""

from pydantic import BaseModel, ConfigDict

ACRONYMS = {"gb": "GB", "vm": "VM", "id": "ID", "ip": "IP", "uid": "UID"}


def to_kubernetes_case(snake: str) -> str:
    """``disk_size_gb`` → ``diskSizeGB``: camelCase with acronyms in capitals, as the Kubernetes API conventions ask."""
    first, *rest = snake.split("_")
    return first + "".join(ACRONYMS.get(word, word.capitalize()) for word in rest)


class Model(BaseModel):
    """A frozen value with Kubernetes-style field names on the wire; both spellings are read."""

    model_config = ConfigDict(
        frozen=True,
        alias_generator=to_kubernetes_case,
        populate_by_name=True,
        extra="ignore",  # what a newer writer adds must not break an older reader
    )
