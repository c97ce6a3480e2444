"""Names and types of all activities: what workflows import instead of the implementations.

A test checks the implementations against these signatures. Input and output are one pydantic model each, so that a
field can be added while workflows are open.
"""

from typing import Any

from activities.signatures.base import *  # noqa: F403
from activities.signatures.base import Signature
from activities.signatures.checkpoints import *  # noqa: F403
from activities.signatures.diagnosis import *  # noqa: F403
from activities.signatures.jobs import *  # noqa: F403
from activities.signatures.machines import *  # noqa: F403
from activities.signatures.market import *  # noqa: F403
from activities.signatures.orphans import *  # noqa: F403
from activities.signatures.replicas import *  # noqa: F403

ALL: list[Signature[Any, Any]] = [value for value in list(globals().values()) if isinstance(value, Signature)]
