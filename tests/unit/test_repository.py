"""How names of repositories and images are read."""

import pytest

from activities.registry.repository import parse_image, parse_repository

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "host", "path", "url"),
    [
        ("gcr.io/p/repo", "gcr.io", "p/repo", "https://gcr.io"),
        ("https://gcr.io/p/repo/", "gcr.io", "p/repo", "https://gcr.io"),
        ("europe-west4-docker.pkg.dev/p/r/i", "europe-west4-docker.pkg.dev", "p/r/i", None),
        ("docker.io/u/repo", "docker.io", "u/repo", "https://docker.io"),
        ("index.docker.io/u/repo", "docker.io", "u/repo", "https://docker.io"),
        ("u/repo", "docker.io", "u/repo", "https://docker.io"),
        ("repo", "docker.io", "library/repo", "https://docker.io"),
        ("registry.example.com:5000/x", "registry.example.com:5000", "x", "https://registry.example.com:5000"),
        ("registry:5000/x", "registry:5000", "x", "https://registry:5000"),
        ("localhost/x", "localhost", "x", "http://localhost"),
        ("localhost:5000/a/b", "localhost:5000", "a/b", "http://localhost:5000"),
        ("127.0.0.1:5000/x", "127.0.0.1:5000", "x", "http://127.0.0.1:5000"),
        ("127.64.0.9:5000/x", "127.64.0.9:5000", "x", "http://127.64.0.9:5000"),
        ("[::1]:5000/x", "[::1]:5000", "x", "http://[::1]:5000"),
        ("localhost.example.com/x", "localhost.example.com", "x", "https://localhost.example.com"),
    ],
)
def test_repository(text: str, host: str, path: str, url: str | None) -> None:
    repository = parse_repository(text)
    assert (repository.host, repository.path) == (host, path)
    assert repository.url == (url or f"https://{host}")


def test_docker_hub_answers_on_another_host() -> None:
    assert parse_repository("u/repo").api == "https://registry-1.docker.io/v2"


@pytest.mark.parametrize(
    "text", ["", "gcr.io/", "gcr.io/P/Repo", "gcr.io/p//r", "gcr.io/p/r:t", f"u/r@{DIGEST}", "a b"]
)
def test_what_is_no_repository_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write for example|leave it out"):
        parse_repository(text)


@pytest.mark.parametrize(
    ("text", "written", "reference"),
    [
        ("gcr.io/p/r:t", "gcr.io/p/r:t", "t"),
        ("u/r", "docker.io/u/r:latest", "latest"),
        (f"u/r@{DIGEST}", f"docker.io/u/r@{DIGEST}", DIGEST),
        (f"127.0.0.1:5000/r:t@{DIGEST}", f"127.0.0.1:5000/r:t@{DIGEST}", DIGEST),
    ],
)
def test_image(text: str, written: str, reference: str) -> None:
    image = parse_image(text)
    assert (str(image), image.reference) == (written, reference)


@pytest.mark.parametrize("text", ["u/r:-t", "u/r@sha256:12", "u/r@md5:0", "U/r:t"])
def test_what_is_no_image_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no "):
        parse_image(text)
