"""Formats of the strings that people write: one definition for the CRD's rule and for the check in the activities.

A :class:`Format` is part of the annotation of a field. The CRD gets it as a rule with a message that says what to
write. The types themselves do not refuse a broken value, because they also read what was stored before the format
existed, which a teardown needs. Whoever works with a spec calls :func:`misshapen` first.

What becomes a piece of a path is checked once more when the path is built, by :func:`api.names.is_segment`.
"""

import re
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import GetJsonSchemaHandler

from api.duration import PATTERN
from api.model import Model
from api.names import shown

Json = dict[str, Any]


@dataclass(frozen=True)
class Format:
    """What a string has to look like. Both patterns mean the same to Python and to the API server's RE2.

    Attributes:
        pattern: matches the whole string.
        remedy: what to write instead; written right behind the value.
        example: a value that has the format; None if the field is better left out.
        max_length: the most characters that it may have.
        refused: a pattern that must not match anywhere in the string.
    """

    pattern: str
    remedy: str
    example: str | None
    max_length: int
    refused: str = ""

    def fits(self, value: str) -> bool:
        """True if the value has this format."""
        if len(value) > self.max_length or (self.refused and re.search(self.refused, value, re.ASCII)):
            return False
        return re.fullmatch(self.pattern, value, re.ASCII) is not None

    @property
    def rule(self) -> str:
        """Write the same in CEL, except for the length."""
        return self.rule_of("self")

    def rule_of(self, name: str) -> str:
        """Write the rule on the value that is called ``name`` in CEL."""
        matches = f"{name}.matches(r'{self.pattern}')"
        return f"{matches} && !{name}.matches(r'{self.refused}')" if self.refused else matches

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: GetJsonSchemaHandler) -> Json:
        schema = handler(core_schema)
        schema.setdefault("maxLength", self.max_length)
        return {**schema, "x-kubernetes-validations": [{"rule": self.rule, "message": self.remedy}]}


@dataclass(frozen=True)
class Misshapen:
    """A value that lacks its field's format. ``path`` leads to it from the spec, with the names used in YAML."""

    path: tuple[str | int, ...]
    value: str
    format: Format

    def __str__(self) -> str:
        """Name the field, its value, and what to write."""
        field = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.path).lstrip(".")
        return f"{field}: {shown(self.value)} is {self.format.remedy}"


def misshapen(model: Model) -> list[Misshapen]:
    """Find all values of a spec that lack their field's format."""
    return list(_in_model(model, ()))


def reshaped(document: Json, model: Model) -> Json:
    """Replace each value in a wrong format by an example; ``document`` was read as ``model``.

    The result is a merge patch: a None removes a field.
    """
    repaired = deepcopy(document)
    for found in misshapen(model):
        _put(repaired, found.path, found.format.example)
    return repaired


def formats_in(model: type[Model], path: str) -> Iterator[tuple[str, Format]]:
    """Find the formats at and below a field, each with its path: ("spotInstanceVMRef.name", NAME)."""
    head, _, rest = path.partition(".")
    hints = get_type_hints(model, include_extras=True)
    [hint] = [hints[name] for name, field in model.model_fields.items() if field.alias == head]
    inner = [each for each in (hint, *get_args(hint)) if isinstance(each, type) and issubclass(each, Model)]
    if not inner:
        yield from ((head, each) for each in _formats(hint))
    for each in inner:
        below = [rest] if rest else [field.alias or name for name, field in each.model_fields.items()]
        yield from ((f"{head}.{end}", found) for step in below for end, found in formats_in(each, step))


def _in_model(model: Model, path: tuple[str | int, ...]) -> Iterator[Misshapen]:
    hints = get_type_hints(type(model), include_extras=True)
    for name, field in type(model).model_fields.items():
        yield from _in_value(hints[name], getattr(model, name), (*path, field.alias or name))


def _in_value(hint: Any, value: Any, path: tuple[str | int, ...]) -> Iterator[Misshapen]:
    if isinstance(value, Model):
        yield from _in_model(value, path)
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _in_value(next(iter(get_args(hint)), None), each, (*path, number))
    elif isinstance(value, str):
        broken = (each for each in _formats(hint) if not each.fits(value))
        yield from (Misshapen(path, value, each) for each in broken)


def _formats(hint: Any) -> Iterator[Format]:
    """Find the formats of a type such as ``Annotated[str, FORMAT] | None``."""
    if get_origin(hint) is Annotated:
        yield from (each for each in hint.__metadata__ if isinstance(each, Format))
    for inner in get_args(hint):
        yield from _formats(inner)


def _put(node: Any, path: tuple[str | int, ...], value: str | None) -> None:
    first, *rest = path
    if not rest:
        node[first] = value
    elif isinstance(node[first], dict | list):
        _put(node[first], tuple(rest), value)
    else:  # a short form: only the name, for what is read as an object with a name
        node[first] = {rest[-1]: value}


_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_DOTS = r"(^|/)[.][.]?(/|$)"
_HOST = r"([A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])"

NAME = Format(
    rf"^{_LABEL}([.]{_LABEL})*$",
    'not the name of an object: write lower case letters, digits, "-" and ".", for example "registry-credentials"',
    "no-name",
    253,
)
NAMESPACE = Format(
    rf"^({_LABEL})?$",
    'not the name of a namespace: write lower case letters, digits and "-", for example "team-a"',
    "no-namespace",
    63,
)
CONTAINER = Format(
    rf"^{_LABEL}$",
    'not the name of a container: write one of jobTemplate\'s, lower case letters, digits and "-"',
    "no-container",
    63,
)
PROJECT = Format(
    r"^[a-z0-9]([-a-z0-9.:]*[a-z0-9])?$",
    "not a project: write its ID as `gcloud projects list` shows it, for example my-project",
    "no-project",
    63,
)
ZONE = Format(
    r"^[a-z]+-[a-z0-9]+-(ai[0-9]+)?[a-z]$",
    "not a zone: write one of `gcloud compute zones list`, for example us-central1-a",
    "us-central1-a",
    63,
)
REGION = Format(
    rf"^{_LABEL}$", "not a region: leave it out, it is derived from zone, or write for example us-central1", None, 63
)
MACHINE_TYPE = Format(
    rf"^{_LABEL}$",
    "not a machine type: write one of `gcloud compute machine-types list`, for example n1-standard-4",
    "no-machine-type",
    63,
)
DISK_TYPE = Format(
    rf"^{_LABEL}$", "not a disk type: write one of `gcloud compute disk-types list`, for example pd-ssd", "pd-ssd", 63
)
GPU_TYPE = Format(
    rf"^{_LABEL}$",
    "not a GPU: write one of `gcloud compute accelerator-types list`, for example nvidia-tesla-t4",
    "no-gpu",
    63,
)
NETWORK_TAG = Format(
    rf"^{_LABEL}$", 'not a network tag: write lower case letters, digits and "-", for example gpu-node', "no-tag", 63
)
SERVICE_ACCOUNT = Format(
    r"^(default|[A-Za-z0-9._-]+@[A-Za-z0-9.-]+)?$",
    "not a service account: write its e-mail address, for example trainer@my-project.iam.gserviceaccount.com",
    "default",
    253,
)
NETWORK = Format(
    r"^([A-Za-z0-9][A-Za-z0-9._:/-]*)?$",
    "not a network: write its name, or its path such as projects/my-host/global/networks/shared",
    "no-network",
    500,
    refused=_DOTS,
)
SUBNETWORK = Format(
    r"^([A-Za-z0-9][A-Za-z0-9._:/-]*)?$",
    "not a subnetwork: write its name, or its path such as projects/my-host/regions/us-central1/subnetworks/gpu",
    "no-subnetwork",
    500,
    refused=_DOTS,
)
CPU_PLATFORM = Format(
    r"^([A-Za-z0-9][A-Za-z0-9 ._()-]*)?$", 'not a CPU platform: write for example "Intel Ice Lake"', "no-platform", 63
)
VM_IMAGE = Format(
    r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$",
    "not an image: write family, project/family or projects/PROJECT/global/images/IMAGE",
    "no-image",
    500,
    refused=_DOTS,
)
LABEL_KEY = Format(
    r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$",
    "not a label that may be set: write a key of your own, for example disktype or example.com/pool",
    "example.com/no-label",
    253,
    refused=r"(^|[.])(kubernetes[.]io|k8s[.]io|dcnlab[.]com)/",
)
LABEL_VALUE = Format(
    r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$",
    'not the value of a label: write letters, digits, "-", "_" and ".", for example ssd',
    "",
    63,
)
PRICE = Format(r"^[0-9]+([.][0-9]+)?$", 'not a price: write USD per hour, for example "2.48"', None, 12)
SSH_USER = Format(
    r"^[a-z_][a-z0-9_-]{0,31}$",
    'not a user\'s name: write lower case letters, digits, "-" and "_", for example outlast',
    "outlast",
    32,
)
OUTPUT = Format(
    r"^/[^\n]+$", "not a path in a container: write it from the root, for example /workspace/out", "/x", 256
)
NOTICE = Format(PATTERN, 'not a duration that GCE knows: write "120s", or leave it out for none', None, 32)
ENDPOINT = Format(
    rf"^\s*((https://)?{_HOST}(:[0-9]+)?/*)?\s*$",
    "not the address of an API server: write host:port, for example 10.0.0.2:6443",
    "127.0.0.1:6443",
    300,
)
CRI_SOCKET = Format(
    r"^(unix://)?/[A-Za-z0-9._/-]+$",
    "not the socket of a container runtime: write its path, for example unix:///var/run/crio/crio.sock",
    "unix:///var/run/containerd/containerd.sock",
    107,
    refused=_DOTS,
)
URL = Format(
    rf"^https?://{_HOST}(:[0-9]+)?$",
    "not a URL that works here: a URL without a path is expected, for example https://minio.example.com:9000",
    "https://localhost",
    253,
)
BUCKET = Format(
    r"^[A-Za-z0-9$][A-Za-z0-9._-]*$",
    "not a bucket: write its name alone, without gs://, s3:// and slashes",
    "no-bucket",
    222,
    refused=r"[.][.]",
)
STORAGE_REGION = Format(
    r"^([A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?)?$",
    "not a region: write for example eu-central-1",
    "us-east-1",
    63,
)
_PATH = r"^[^\x00-\x1f\x7f]*$"
KEY = Format(
    _PATH,
    'not a path in a bucket: write for example team-a/runs, without parts "." and ".." and without line breaks',
    "x",
    512,
    refused=_DOTS,
)
RESTORE_FROM = Format(
    _PATH,
    "nothing to start from: write an image, for example gcr.io/my-project/checkpoints:TAG, or LatestTag; in mode "
    "Application a path in the bucket, for example team-a/runs",
    "LatestTag",
    500,
    refused=_DOTS,
)
_COMPONENT = "[a-z0-9]+([._-]+[a-z0-9]+)*"
REPOSITORY = Format(
    rf"^\s*(https?://)?({_HOST}(:[0-9]+)?/)?{_COMPONENT}(/{_COMPONENT})*/?\s*$",
    "not a repository: a repository without a tag or digest is expected, for example gcr.io/my-project/checkpoints: "
    "each checkpoint gets a tag of its own",
    "gcr.io/no-project/no-repository",
    400,
)
