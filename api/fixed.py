"""Fields that cannot be changed once something depends on them, with the way out that an error names.

The CEL rules of the CRDs and the guard of a job's workflow are made from this one list. The rules alone are not enough.
Kubernetes before 1.25 has none. They compare only what a schema declares, so in ``jobTemplate`` a container's ``env``
can become a ``command`` unseen. And an edit may be faster than the status that tells a rule that a job has begun.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from api.formats import misshapen
from api.model import Model

M = TypeVar("M", bound=Model)

OTHERWISE = "delete the SpotInstanceJob and create it again"
CONTINUE = f"{OTHERWISE}, with checkpointConfig.restoreFrom set to status.lastCheckpointImage to continue from there"


@dataclass(frozen=True)
class Fixed:
    """A field, by its path in the spec.

    With ``parts`` only these of its fields are fixed, and the field as a whole may still be added:
    ``Fixed("checkpointConfig.checkpointStorage", …, parts=("bucket",))`` allows a new bucket and keeps it from
    changing.
    """

    path: str
    remedy: str
    parts: tuple[str, ...] = ()
    from_start: bool = False  # only fixed once a pod has run, which the status shows by ``started``

    def message(self, while_: str) -> str:
        """Say that it cannot be changed in the situation ``while_``, and what to do."""
        return f"{self.path} cannot be changed {while_}: {self.remedy}"

    def differs(self, old: Model, new: Model) -> bool:
        """True if an edit from ``old`` to ``new`` changes, adds or removes it; what never worked may be corrected."""
        return self._is_edited(old, new) and not any(
            ".".join(map(str, each.path)).startswith(self.path) for each in misshapen(old)
        )

    def _is_edited(self, old: Model, new: Model) -> bool:
        before, after = _get(old, self.path), _get(new, self.path)
        if not self.parts:
            return bool(before != after)
        if before is None:
            return False
        return after is None or any(_get(before, part) != _get(after, part) for part in self.parts)

    def keep(self, old: M, new: M) -> M:
        """Return ``new`` with this field as it is in ``old``."""
        before, after = _get(old, self.path), _get(new, self.path)
        if self.parts and after is not None:
            for part in self.parts:
                after = _set(after, part, _get(before, part))
            before = after
        return _set(new, self.path, before)


JOB = (
    Fixed("jobTemplate", CONTINUE, from_start=True),
    Fixed("gang", f"edit its sizes, or {CONTINUE}", parts=("placement",), from_start=True),
    Fixed(
        "spotInstanceVMRef",
        f"edit the SpotInstanceVM that it names (the next VM is bought by it), or {CONTINUE}",
    ),
    Fixed(
        "instanceTemplateRef",
        f"edit the InstanceTemplate that it names (the next VM is bought by it), or {CONTINUE}",
    ),
    Fixed(
        "gcpCredentialsSecretRef",
        f"the VMs are deleted with it. Put the new key into the Secret that it names, or {CONTINUE}",
    ),
    Fixed("checkpointConfig.mode", f"neither mode can restore what the other has saved. To change it, {OTHERWISE}"),
    Fixed("checkpointConfig.checkpointImageRepo", CONTINUE),
    Fixed(
        "checkpointConfig.checkpointStorage",
        "what was saved there would not be found. Change nothing of it but credentialsSecretRef and layout, or "
        f"{OTHERWISE}",
        parts=("type", "bucket", "pathPrefix", "endpoint", "region"),
    ),
)
"""Fixed fields of a SpotInstanceJob once its replicas have begun, or if ``from_start``, once a pod of them has run."""
JOB_BEGUN = "once its replicas have begun"

VM = (
    Fixed(
        "gcp.project",
        "they are looked after and deleted there. Wait until status.provisionedInstances is empty (suspend or delete "
        "the jobs), or name another SpotInstanceVM in a new job",
    ),
)
"""Fixed fields of a SpotInstanceVM while VMs bought by it exist."""
VM_IN_USE = "while VMs that were bought by it exist"


def edited(fields: Iterable[Fixed], old: Model, new: Model) -> list[Fixed]:
    """List the fields that an edit from ``old`` to ``new`` would change."""
    return [field for field in fields if field.differs(old, new)]


def kept(fields: Iterable[Fixed], old: M, new: M) -> M:
    """Return ``new`` with these fields as they are in ``old``."""
    for field in fields:
        new = field.keep(old, new)
    return new


def _get(model: Any, path: str) -> Any:
    for part in path.split("."):
        if model is None:
            return None
        model = getattr(model, _attribute(type(model), part))
    return model


def _set(model: M, path: str, value: Any) -> M:
    head, _, rest = path.partition(".")
    name = _attribute(type(model), head)
    return model.model_copy(update={name: _set(getattr(model, name), rest, value) if rest else value})


def _attribute(model: type[Model], alias: str) -> str:
    return next(name for name, field in model.model_fields.items() if field.alias == alias)
