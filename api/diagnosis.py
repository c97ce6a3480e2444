"""What was found of one part of an installation, by whoever looks at it."""

from api.model import Model


class Finding(Model):
    """One part, and what to do if it is not well."""

    part: str
    well: bool
    told: str
    remedy: str = ""
