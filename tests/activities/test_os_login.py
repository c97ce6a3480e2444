"""VMs of a project whose organisation demands OS Login, against the emulated cloud through Google's own client."""

from typing import Any

import asyncssh
import pytest
from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import AuthorizedSession
from google.oauth2.credentials import Credentials as PersonsCredentials
from temporalio.exceptions import ApplicationError

from activities.cloud_errors import Invalid
from activities.compute.os_login import OsLogin, _user_in
from activities.compute.preflight import check_cloud
from activities.join.ssh import login, public_key
from api import errors
from api.common import LocalReference, SecretReference
from tests.activities.compute_setting import ZONE, Setting, create_vm, setting, vm_ref
from tests.activities.test_preflight_cloud import preflight

__all__ = ["setting"]

OS_LOGIN = {"gcp": {"project": "demo", "zone": ZONE, "machineType": "n1-standard-4", "sshAccess": "OSLogin"}}
KEY = public_key(asyncssh.generate_private_key("ssh-ed25519"))


async def test_a_vm_lets_in_the_accounts_of_os_login_alone(setting: Setting) -> None:
    setting.gce.faults.require_os_login()
    progress = await setting.created(create_vm(**OS_LOGIN))
    assert progress.vm.status == "RUNNING"
    [instance] = setting.gce.instances()
    items = {item["key"]: item["value"] for item in instance["metadata"]["items"]}
    assert items["enable-oslogin"] == "TRUE"
    assert "ssh-keys" not in items
    [(user, keys)] = setting.gce.fleet.logins.items()
    assert user.startswith("sa_")
    assert [key.split()[0] for key in keys] == ["ssh-ed25519"]


async def test_the_policy_refuses_a_vm_without_and_the_message_says_what_to_do(setting: Setting) -> None:
    setting.gce.faults.require_os_login()
    with pytest.raises(ApplicationError, match=r"set gcp\.sshAccess: OSLogin in the SpotInstanceVM") as refused:
        await setting.created(create_vm())
    assert refused.value.type == errors.INVALID
    assert setting.gce.instances() == []


async def test_a_tenants_key_is_not_imported_into_an_account_that_is_lent_to_it(setting: Setting) -> None:
    compute = await setting.cloud.open(None, "default")
    key, own = asyncssh.generate_private_key("ssh-ed25519"), LocalReference(name="mine")
    with pytest.raises(Invalid, match="leave sshKeySecretRef out"):
        await login(compute, vm_ref(), key, own)
    shared = vm_ref().model_copy(update={"credentials": SecretReference(name="gcp", namespace="vault")})
    with pytest.raises(Invalid, match="leave sshKeySecretRef out"):
        await login(compute, shared, key, own)
    assert dict(setting.gce.fleet.logins) == {}
    owned = vm_ref().model_copy(update={"credentials": SecretReference(name="gcp")})
    assert await login(compute, owned, key, own) == await login(compute, vm_ref(), key, None)


async def test_a_key_is_imported_once_a_while(setting: Setting) -> None:
    compute = await setting.cloud.open(None, "default")
    first = await compute.login("demo", KEY)
    setting.gce.faults.unavailable(60)
    assert await compute.login("demo", KEY) == first


async def test_nothing_is_bought_if_the_key_cannot_be_imported(setting: Setting) -> None:
    setting.gce.faults.expire_credentials(60)
    with pytest.raises(ApplicationError):
        await setting.created(create_vm(**OS_LOGIN))
    setting.gce.faults.expire_credentials(0)
    assert setting.gce.instances() == []


async def test_preflight_asks_for_the_right_to_be_root_there(setting: Setting) -> None:
    setting.gce.faults.withdraw_permissions("compute.instances.osAdminLogin")
    [credentials, _] = await check_cloud(setting.cloud, preflight(**OS_LOGIN))
    assert credentials.status == "False"
    assert "roles/compute.osAdminLogin" in credentials.message
    [credentials, _] = await check_cloud(setting.cloud, preflight())
    assert credentials.status == "True"


def test_a_persons_credentials_are_refused() -> None:
    person = PersonsCredentials(token="x")  # type: ignore[no-untyped-call]
    login = OsLogin(person, AuthorizedSession(AnonymousCredentials()))  # type: ignore[no-untyped-call]
    with pytest.raises(Invalid, match="needs the credentials of a service account"):
        login.user_of("demo", KEY)


@pytest.mark.parametrize(
    ("accounts", "user"),
    [
        ([{"username": "sa_1", "primary": True}], "sa_1"),
        ([{"username": "sa_1", "primary": True}, {"username": "sa_2", "accountId": "demo"}], "sa_2"),
        ([{"username": "sa_1"}, {"username": "sa_2", "primary": True}], "sa_2"),
        ([{"username": "a b"}, {"username": "sa_2"}], "sa_2"),
    ],
)
def test_user_in_a_profile(accounts: list[dict[str, Any]], user: str) -> None:
    assert _user_in({"posixAccounts": accounts}, "demo") == user


@pytest.mark.parametrize("profile", [{}, {"posixAccounts": []}, {"posixAccounts": [{"username": "-oProxyCommand=x"}]}])
def test_a_profile_without_a_usable_name_is_told(profile: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="no user name that can be used"):
        _user_in(profile, "demo")
