"""``python -m tests.audit``: what can be known of our dependencies without asking anybody, and advisories if possible.

On every machine these are refused: a requirement that is not pinned by version and hash, or does not come from an
index; a direct dependency that the lock does not satisfy; an installed version that is not the lock's; a licence that
nobody has looked at. If ``pip-audit`` is installed and reaches its service, it looks up known vulnerabilities;
otherwise that is printed.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCKS = ("requirements.lock", "deploy/requirements.lock")
SECONDS = 120
_PINNED = re.compile(r"^[a-z0-9._-]+==[^\s;]+(\s*;[^\\]*)?((\s*\\)?\s*--hash=sha256:[0-9a-f]{64})+$")
_PIN = re.compile(r"^([\w.-]+)==([^\s;]+)", re.MULTILINE)
# Licences, as packages write them, that allow us to ship the packages with Apache-2.0 code.
_LICENCES = re.compile(
    r"^(Apache[- ]2\.0|Apache Software License|MIT(-0| License)?|(3-Clause )?BSD([- ][23]-Clause| License)?|ISC"
    r"|PSF-2\.0|MPL-2\.0|EPL-2\.0)$"
)


def main() -> int:
    """Print what was found; return 1 if anything is refused."""
    problems = [problem for lock in LOCKS for problem in unpinned(lock, (ROOT / lock).read_text())]
    locked = pins((ROOT / LOCKS[0]).read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    problems += unsatisfied(wanted, locked)
    problems += foreign({each.name: each.version for each in metadata.distributions()}, locked)
    problems += [problem for name in pins((ROOT / LOCKS[1]).read_text()) for problem in licence_problems(name)]
    problems += advisories()
    for problem in problems:
        print(f"audit: {problem}", file=sys.stderr)
    return 1 if problems else 0


def unpinned(lock: str, text: str) -> Iterator[str]:
    """List requirements that do not say which bytes are meant."""
    joined = re.sub(r"[ \t]+#.*|^#.*", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    for line in filter(None, map(str.strip, joined.splitlines())):
        if not _PINNED.match(line):
            yield f"{lock}: {line[:80]!r} is not a package pinned by version and hash"


def pins(text: str) -> dict[str, str]:
    """Map names to versions."""
    return {canonicalize_name(name): version for name, version in _PIN.findall(text)}


def unsatisfied(wanted: list[str], locked: dict[str, str]) -> Iterator[str]:
    """List direct dependencies that the lock lacks, or has in a version that we do not want."""
    for requirement in map(Requirement, wanted):
        version = locked.get(canonicalize_name(requirement.name))
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            yield f"pyproject.toml wants {requirement}, {LOCKS[0]} has {version}"


def foreign(installed: dict[str, str], locked: dict[str, str]) -> Iterator[str]:
    """List what is installed here in another version than the lock's, because then the tests tested something else."""
    for name, version in sorted(installed.items()):
        known = locked.get(canonicalize_name(name), version)
        if version != known:
            yield f"{name} {version} is installed, {LOCKS[0]} has {known}: make clean"


def licence_problems(name: str) -> Iterator[str]:
    """List packages that are shipped under a licence that nobody has looked at."""
    try:
        said = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return  # for another platform than this
    classified = [each.rpartition(" :: ")[2] for each in said.get_all("Classifier") or [] if each.startswith("License")]
    told = said.get("License-Expression") or said.get("License") or ", ".join(classified)
    # Of alternatives one is enough; of joined ones all count.
    if not any(all(_LICENCES.match(one) for one in each.split(" AND ")) for each in told.strip("()").split(" OR ")):
        yield f"{name}: the licence {told!r} has not been looked at: is it one that we may ship? (tests/audit.py)"


def advisories() -> list[str]:
    """List known vulnerabilities. If nobody could be asked, that is printed and is no failure."""
    tool = shutil.which("pip-audit", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if tool is None:
        print("audit: known vulnerabilities were NOT looked up: there is no pip-audit here")
        return []
    command = [tool, "--requirement", LOCKS[0], "--require-hashes", "--disable-pip", "--format", "json"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)
        found = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, OSError, ValueError, KeyError, TypeError):
        print("audit: known vulnerabilities were NOT looked up: pip-audit did not reach its service")
        return []
    return [
        f"{package['name']} {package['version']}: {', '.join(each['id'] for each in package['vulns'])}"
        for package in found
        if package.get("vulns")
    ]


if __name__ == "__main__":
    sys.exit(main())
