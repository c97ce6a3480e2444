"""What is taken out of a support bundle: secrets, wherever people or programs wrote them. Pure.

By name: values of fields, environment variables, annotations and options whose names say that they are secret. By form:
private keys, SSH keys, tokens of well-known services, passwords in URLs. What was found once by its name is removed
wherever else it stands, for example in a log.
"""

import base64
import binascii
import json
import re
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

REDACTED = "[redacted]"
SHORTEST = 8
"""Characters of a value that is looked for in other places. Shorter ones stand there by chance."""

_SECRET = frozenset(
    ("pwd", "pass", "secrets", "credential", "credentials", "auth", "authorization", "cookie", "pat", "dsn", "sas")
)
_ENDS = ("password", "passwd", "passphrase", "secret", "token", "apikey", "accesskey", "privatekey")
_KEYS_OF = frozenset(
    ("api", "access", "private", "secret", "signing", "encryption", "ssh", "account", "license", "session")
)
_NAMES_ONE = frozenset(
    ("name", "names", "ref", "refs", "namespace", "path", "file", "dir", "seconds", "policy", "count", "type", "kind")
)
"""Last words of a field that names a secret, or says how long it lasts, and is none."""
_DROPPED = frozenset({"managedFields", "kubectl.kubernetes.io/last-applied-configuration"})
"""What says the same again, and is large."""
_HUMPS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

_FORMS = {
    "a private key": r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)",
    "an SSH key": r"\b(?:ssh-(?:rsa|ed25519|dss)|ecdsa-sha2-\S+|sk-\S+@openssh[.]com) +AAAA[0-9A-Za-z+/=]+",
    "a signed token": r"\beyJ[\w-]{8,}[.][\w-]{8,}[.][\w-]*",
    "a token of a service": (
        r"\b(?:ya29[.][\w-]+|AIza[\w-]{30,}|(?:AKIA|ASIA)[A-Z0-9]{16}|gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}"
        r"|hf_\w{20,}|sk-[\w-]{20,}|xox[abprs]-[\w-]{10,})"
    ),
    "a bootstrap token": r"(?<![\w.])[a-z0-9]{6}[.][a-z0-9]{16}(?![\w.])",
    "a header": r"(?i)\b(?:bearer|basic) +[\w.~+/=-]{8,}",
    "a signature in a URL": r"(?i)(?<=[?&])(?:x-goog-signature|x-amz-signature|x-amz-security-token|sig)=[^&\s\"']+",
    "a password in a URL": r"(?<=://)[^/\s:@\"']*:[^/\s@\"']+(?=@)",
}
_BY_FORM = {kind: re.compile(pattern, re.DOTALL) for kind, pattern in _FORMS.items()}
_WORDS = r"passw(?:or)?d|passphrase|token|secret|(?:api|access|private)[_-]?key|[_-]key"
_ASSIGNED = re.compile(
    rf"""(?ix) (?P<before> (?P<name> [\w.-]* (?:{_WORDS}) [\w.-]* ) ["']? \s* (?: = | :(?=\s*["']) ) \s* )
    (?P<value> "[^"]*" | '[^']*' | [^\s,;&"'}})]+ )"""
)
"""``HF_TOKEN=abc``, ``--password=abc``, ``"apiKey": "abc"`` within a longer text."""


class Redactor:
    """Takes secrets out of objects and texts, and counts what it has taken out."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._known: set[str] = set()

    def learn(self, value: Any) -> None:
        """Note the secrets of an object, before anything is cleaned: they are removed from all others, too."""
        self.clean(value)
        self.counts.clear()

    def clean(self, value: Any, name: str = "") -> Any:
        """Return a value without secrets. ``name`` is that of its field."""
        if isinstance(value, Mapping):
            return self._mapping(value)
        if isinstance(value, list):
            return self._list(value, name)
        if not isinstance(value, str):
            return value
        return self._taken(value, "a value by its name") if value and is_secret_field(name) else self.text(value)

    def text(self, text: str) -> str:
        """Return a text without secrets; one that is JSON is cleaned as what it says."""
        if text[:1] in ("{", "["):
            try:
                said = json.loads(text)
            except ValueError:
                pass
            else:
                cleaned = self.clean(said)
                return text if cleaned == said else json.dumps(cleaned)
        for secret in sorted(self._known, key=len, reverse=True):
            if secret in text:
                self.counts["a value known from elsewhere"] += text.count(secret)
                text = text.replace(secret, REDACTED)
        for kind, form in _BY_FORM.items():
            text, found = form.subn(REDACTED, text)
            self.counts[kind] += found
        return _ASSIGNED.sub(self._assigned, text)

    def _mapping(self, value: Mapping[str, Any]) -> dict[str, Any]:
        if isinstance(value.get("name"), str) and isinstance(value.get("value"), str) and is_secret_name(value["name"]):
            return {**self._fields({**value, "value": ""}), "value": self._taken(value["value"], "a value by its name")}
        if isinstance(value.get("data"), str) and isinstance(value.get("metadata"), Mapping):
            return self._payload(value)
        return self._fields(value)

    def _fields(self, value: Mapping[str, Any]) -> dict[str, Any]:
        if value.get("kind") == "Secret":
            value = {key: each for key, each in value.items() if key not in ("data", "stringData")}
        return {self.text(key): self.clean(each, key) for key, each in value.items() if key not in _DROPPED}

    def _list(self, values: list[Any], name: str) -> list[Any]:
        """Clean a list. In a command an option may stand before its value: ``--token``, ``abc``."""
        cleaned, before = [], ""
        for value in values:
            option = before.startswith("-") and "=" not in before and is_secret_name(before)
            cleaned.append(self.clean(value, "password" if option else name))
            before = value if isinstance(value, str) else ""
        return cleaned

    def _payload(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """Clean a payload of Temporal. One that is encrypted stays as it is."""
        try:
            encoding = base64.b64decode(value["metadata"].get("encoding") or "").decode()
            if not encoding.startswith("json/"):
                return dict(value)
            said = json.loads(base64.b64decode(value["data"]))
        except (binascii.Error, ValueError):
            return self._fields(value)
        cleaned = self.clean(said)
        data = value["data"] if cleaned == said else base64.b64encode(json.dumps(cleaned).encode()).decode()
        return {**value, "data": data}

    def _assigned(self, found: re.Match[str]) -> str:
        if found["value"].strip("\"'") in ("", REDACTED) or not is_secret_name(found["name"]):
            return found[0]
        quote = found["value"][0] if found["value"][0] in "\"'" else ""
        return (
            f"{found['before']}{quote}{self._taken(found['value'].strip(quote or None), 'a value by its name')}{quote}"
        )

    def _taken(self, secret: str, kind: str) -> str:
        if secret == REDACTED:
            return secret
        self.counts[kind] += 1
        self._known |= {each for each in (secret, secret.strip()) if len(each) >= SHORTEST}
        return REDACTED


def is_secret_field(name: str) -> bool:
    """True if a field of this name has a secret for its value.

    >>> is_secret_field("apiKey"), is_secret_field("secretName"), is_secret_field("topologyKey")
    (True, False, False)
    """
    words = _words(name)
    if not words or words[-1] in _NAMES_ONE:
        return False
    if any(word in _SECRET or word.endswith(_ENDS) for word in words):
        return True
    return any(first in _KEYS_OF and second == "key" for first, second in pairwise(words))


def is_secret_name(name: str) -> bool:
    """True if a variable or an option of this name has a secret for its value: any key, too.

    >>> is_secret_name("WANDB_KEY"), is_secret_name("--token"), is_secret_name("TOKENIZERS_PARALLELISM")
    (True, True, False)
    """
    words = _words(name)
    return is_secret_field(name) or (bool(words) and words[-1] in ("key", "keys"))


def _words(name: str) -> list[str]:
    return [word.lower() for word in _HUMPS.findall(name.rpartition("/")[2])]
