"""OS Login: the SSH keys of accounts, and the names under which they log in.

https://cloud.google.com/compute/docs/oslogin/rest/v1/users/importSshPublicKey
"""

from __future__ import annotations

import hashlib
import json
import zlib
from typing import Any

from aiohttp import web

from sandbox.gce.errors import bad_payload
from sandbox.gce.faults import Faults
from sandbox.gce.http import answer

ADMIN = "compute.instances.osAdminLogin"
"""Without this permission a VM refuses the account. (With ``osLogin`` alone it would accept it, without sudo.)"""


class OsLoginApi:
    """The one method that a joining machine needs. ``logins`` are the keys by user name, which the VMs see at once."""

    def __init__(self, logins: dict[str, list[str]], faults: Faults) -> None:
        self._logins = logins
        self._faults = faults

    async def import_key(self, request: web.Request) -> web.Response:
        """Add a key to an account's profile, unless it is there already."""
        self._faults.check_availability()
        self._faults.check_credentials()
        account, project = request.match_info["account"], request.query.get("projectId", "")
        try:
            key = str((await request.json())["key"])
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise bad_payload('Expected {"key": "ssh-ed25519 AAAA…"}.') from error
        user = f"sa_{int.from_bytes(hashlib.sha256(account.encode()).digest()[:8])}"
        keys = self._logins.setdefault(user, [])
        if key not in keys and self._faults.granted([ADMIN]):
            keys.append(key)
        uid = str(zlib.crc32(user.encode()))
        posix = {
            "primary": True,
            "username": user,
            "uid": uid,
            "gid": uid,
            "homeDirectory": f"/home/{user}",
            "operatingSystemType": "LINUX",
            "accountId": project,
        }
        profile: dict[str, Any] = {
            "name": account,
            "posixAccounts": [posix],
            "sshPublicKeys": {hashlib.sha256(each.encode()).hexdigest(): {"key": each} for each in keys},
        }
        return answer({"loginProfile": profile})
