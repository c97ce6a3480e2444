"""Names of image repositories and images, read as container runtimes read them. Pure.

The grammar is that of the distribution project's reference. The first component is a registry's host only if it has a
dot or a port, or is ``localhost``; everything else is on Docker Hub.
"""

import re
from dataclasses import dataclass

from api.names import shown

DOCKER_HUB = "docker.io"
DOCKER_HUB_API = "registry-1.docker.io"

# Each is matched against the whole text, because "$" alone would let a line break pass.
_NAME = "[a-zA-Z0-9_]([a-zA-Z0-9_-]*[a-zA-Z0-9])?"
_HOST = re.compile(rf"({_NAME}([.]{_NAME})*|\[[0-9a-fA-F:]+\])(:[0-9]{{1,5}})?")
_PATH = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LOOPBACK = re.compile(r"(localhost|127\.[0-9.]+|\[::1\])(:[0-9]+)?")


def is_google(host: str) -> bool:
    """True if a registry is Google's: Artifact Registry, or the gcr.io names that lead there."""
    return host == "gcr.io" or host.endswith((".gcr.io", ".pkg.dev"))


def is_tag(text: str) -> bool:
    """True if this can be a tag; what a registry lists, or a container's name makes of one, may be something else."""
    return _TAG.fullmatch(text) is not None


def is_digest(text: str) -> bool:
    """True if this is a digest by which an image can be named here."""
    return _DIGEST.fullmatch(text) is not None


@dataclass(frozen=True)
class Repository:
    """The place to which images are pushed: ``host`` with its port, ``path`` without one."""

    host: str
    path: str

    @property
    def name(self) -> str:
        """Give the full name, to which a tag can be added."""
        return f"{self.host}/{self.path}"

    @property
    def url(self) -> str:
        """Give the registry's URL, as the checkpoint operator's ``registry.url`` wants it."""
        return f"{self.scheme}://{self.host}"

    @property
    def api(self) -> str:
        """Give the root of the registry's HTTP API; Docker Hub's is on another host than its name."""
        return f"{self.scheme}://{DOCKER_HUB_API if self.host == DOCKER_HUB else self.host}/v2"

    @property
    def scheme(self) -> str:
        """Choose plain HTTP for loopback hosts, as container runtimes do."""
        return "http" if _LOOPBACK.fullmatch(self.host) else "https"


@dataclass(frozen=True)
class Image:
    """One image, named by its tag, its digest, or both; then the digest counts."""

    repository: Repository
    tag: str | None
    digest: str | None

    @property
    def reference(self) -> str:
        """Give the reference by which a registry finds it."""
        return self.digest or self.tag or "latest"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.repository.name}{tag}{f'@{self.digest}' if self.digest else ''}"


def parse_repository(text: str) -> Repository:
    """Read a repository, with or without a registry's host.

    Raises:
        ValueError: it is no repository, or names a tag; the message says how to write it.
    """
    image = _split(text)
    if image.tag or image.digest:
        raise ValueError(f"{shown(text)} names a tag or a digest: leave it out, every checkpoint gets its own tag")
    return image.repository


def parse_image(text: str) -> Image:
    """Read an image; without a tag or digest, its tag is ``latest``.

    Raises:
        ValueError: it is no image; the message says how to write it.
    """
    image = _split(text)
    return image if image.tag or image.digest else Image(image.repository, "latest", None)


def _split(text: str) -> Image:
    rest, _, digest = re.sub(r"^https?://", "", text.strip()).rstrip("/").partition("@")
    first, slash, more = rest.partition("/")
    if slash and (first == "localhost" or any(sign in first for sign in ".:[")):
        host, rest = first, more
    elif not slash and "." in first:
        host, rest = first, ""  # only a registry
    else:
        host = DOCKER_HUB
    path, _, tag = rest.partition(":")
    if host in (DOCKER_HUB, "index.docker.io"):
        host = DOCKER_HUB
        path = path if "/" in path else f"library/{path}"
    if not (_HOST.fullmatch(host) and _PATH.fullmatch(path)):
        raise ValueError(
            f"{shown(text)} is no repository: write for example gcr.io/project/name or docker.io/user/name"
        )
    if tag and not is_tag(tag):
        raise ValueError(f"{shown(text)}: {shown(tag)} is no tag")
    if digest and not is_digest(digest):
        raise ValueError(f"{shown(text)}: {shown(digest)} is no digest: sha256: and 64 hex digits")
    return Image(Repository(host, path), tag or None, digest or None)
