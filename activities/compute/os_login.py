"""Google's OS Login, in which SSH keys belong to an account of IAM instead of a VM's metadata.

https://cloud.google.com/compute/docs/oslogin/rest/v1/users/importSshPublicKey
"""

import time
from typing import Any
from urllib.parse import quote

from google.api_core.exceptions import from_http_response
from google.auth.credentials import AnonymousCredentials, Credentials
from google.auth.transport.requests import AuthorizedSession, Request

from activities.cloud_errors import Invalid
from activities.compute import CALL_SECONDS
from api.formats import SSH_USER
from api.names import shown

ENDPOINT = "https://oslogin.googleapis.com"
REMEMBERED_SECONDS = 600.0  # a join polls every few seconds, and somebody may remove the key from the profile
ANONYMOUS = "anonymous@localhost"  # for another OS Login, which is called without credentials
UNKNOWN = "default"  # the metadata server's credentials have this address before their first refresh


class OsLogin:
    """The login profile of the account that the credentials belong to. Its calls block.

    Args:
        credentials: those of a service account.
        session: a session authorised by them.
        endpoint: the URL of another OS Login.
    """

    def __init__(self, credentials: Credentials, session: AuthorizedSession, endpoint: str | None = None) -> None:
        self._credentials = credentials
        self._session = session
        self._endpoint = endpoint or ENDPOINT
        self._users: dict[tuple[str, str], tuple[float, str]] = {}

    def user_of(self, project: str, public_key: str) -> str:
        """Import a key, unless this object did so recently, and return the POSIX user name.

        Raises:
            Invalid: the credentials do not belong to a service account, or the profile has no usable name.
            GoogleAPICallError: Google refused.
        """
        until, user = self._users.get((project, public_key), (0.0, ""))
        if time.monotonic() >= until:
            user = _user_in(self._import(project, public_key), project)
            self._users[project, public_key] = time.monotonic() + REMEMBERED_SECONDS, user
        return user

    def _import(self, project: str, public_key: str) -> dict[str, Any]:
        url = f"{self._endpoint}/v1/users/{quote(self._account(), safe='@')}:importSshPublicKey"
        answer = self._session.post(url, params={"projectId": project}, json={"key": public_key}, timeout=CALL_SECONDS)
        if answer.status_code != 200:
            raise from_http_response(answer)
        profile: dict[str, Any] = answer.json().get("loginProfile") or {}
        return profile

    def _account(self) -> str:
        """Give the account's e-mail address."""
        if getattr(self._credentials, "service_account_email", None) == UNKNOWN:
            self._credentials.refresh(Request())
        if isinstance(self._credentials, AnonymousCredentials):
            return ANONYMOUS
        email = getattr(self._credentials, "service_account_email", None)
        if not isinstance(email, str) or "@" not in email:
            raise Invalid(
                "gcp.sshAccess: OSLogin needs the credentials of a service account: name a Secret with its key in "
                "gcpCredentialsSecretRef"
            )
        return email


def _user_in(profile: dict[str, Any], project: str) -> str:
    """Read the user name in a login profile; if there are several, prefer the project's."""
    accounts = [each for each in profile.get("posixAccounts") or [] if each.get("username")]
    own = [each for each in accounts if each.get("accountId") == project]
    primary = [each for each in accounts if each.get("primary")]
    for account in [*own, *primary, *accounts]:
        if SSH_USER.fits(str(account["username"])):
            return str(account["username"])
    names = ", ".join(shown(each["username"]) for each in accounts) or "none"
    raise Invalid(f"OS Login gives the service account of the credentials no user name that can be used: {names}")
