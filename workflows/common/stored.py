"""The base of all parts of a workflow's state, which is stored as JSON and read by older and newer releases."""

from typing import Any, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from api.model import Slim


class Mutable(Slim):
    """A part of the state. Fields that this release does not know are ignored."""

    model_config = ConfigDict(extra="ignore")

    @classmethod
    def written(cls) -> list[str]:
        """List the names under which it stores its fields."""
        return list(cls.model_fields)


class Renamed(Mutable):
    """A state of which some fields are stored under the names that earlier releases gave them.

    Every release must read what any other has written, so a better name changes nothing of what is stored.
    """

    STORED_NAMES: ClassVar[dict[str, str]] = {}
    """The fields that are stored under another name than their own, with that name."""

    @classmethod
    def written(cls) -> list[str]:
        """List the names under which it stores its fields."""
        return [cls.STORED_NAMES.get(name, name) for name in cls.model_fields]

    @model_validator(mode="before")
    @classmethod
    def _read(cls, stored: Any) -> Any:
        """Give the stored fields their present names."""
        return cls._named(stored) if isinstance(stored, dict) else stored

    @model_serializer(mode="wrap")
    def _write(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write each field under its stored name."""
        return self._stored(handler(self))

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Describe what is stored."""
        described = handler(_unserialized(core_schema))
        own = handler.resolve_ref_schema(described)
        own["properties"] = cls._stored(own["properties"])
        return described

    @classmethod
    def _named(cls, stored: dict[str, Any]) -> dict[str, Any]:
        fields = {written: field for field, written in cls.STORED_NAMES.items()}
        return {fields.get(written, written): value for written, value in stored.items()}

    @classmethod
    def _stored(cls, named: dict[str, Any]) -> dict[str, Any]:
        return {cls.STORED_NAMES.get(field, field): value for field, value in named.items()}


class Flat(Renamed):
    """A state whose parts are stored beside its own fields, not below a key of their own.

    For example, ``replica.retry.at`` is stored as ``retry_at`` of the replica. Releases without parts wrote it so.
    """

    STORED_AS: ClassVar[dict[str, dict[str, str]]] = {}
    """For each part, the fields that are stored under another name than their own, with that name."""

    @classmethod
    def _parts(cls) -> dict[str, dict[str, str]]:
        """Return the fields of each part, each with the name under which it is stored."""
        parts = {}
        for name, renamed in cls.STORED_AS.items():
            part = cls.model_fields[name].annotation
            assert isinstance(part, type)
            assert issubclass(part, Mutable)
            parts[name] = {field: renamed.get(field, field) for field in part.written()}
        return parts

    @classmethod
    def written(cls) -> list[str]:
        """List the names under which it stores its fields: its own, and those of its parts."""
        parts = cls._parts()
        own = [cls.STORED_NAMES.get(name, name) for name in cls.model_fields if name not in parts]
        return [*own, *(name for fields in parts.values() for name in fields.values())]

    @model_validator(mode="before")
    @classmethod
    def _read(cls, stored: Any) -> Any:
        """Put the stored fields of each part below it. A part that is already an object is left as it is."""
        if not isinstance(stored, dict):
            return stored
        gathered = cls._named(stored)
        for name, fields in cls._parts().items():
            if not isinstance(stored.get(name), BaseModel):
                gathered[name] = {field: stored[written] for field, written in fields.items() if written in stored}
        return gathered

    @model_serializer(mode="wrap")
    def _write(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write the fields of each part beside the others."""
        stored = self._stored(handler(self))
        for name, fields in self._parts().items():
            values = stored.pop(name)
            stored |= {written: values[field] for field, written in fields.items() if field in values}
        return stored

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Describe what is stored: the fields of each part beside the others."""
        described = super().__get_pydantic_json_schema__(core_schema, handler)
        own = handler.resolve_ref_schema(described)
        properties = own["properties"]
        for name, fields in cls._parts().items():
            part = handler.resolve_ref_schema(properties.pop(name))["properties"]
            properties |= {written: part[field] for field, written in fields.items()}
        return described


def _unserialized(schema: Any) -> Any:
    """Take our serializers out of a schema: they say nothing of the fields that they write."""
    if isinstance(schema, dict):
        return {key: _unserialized(value) for key, value in schema.items() if key != "serialization"}
    return schema
