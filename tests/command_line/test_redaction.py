"""No secret that somebody wrote into an object, a log or a history is in a support bundle."""

import base64
import json
from typing import Any

import pytest

from cli.redaction import REDACTED, Redactor, is_secret_field, is_secret_name

SECRET = "hunter2-and-more"


def payload(said: Any, encoding: str = "json/plain") -> dict[str, Any]:
    data = said if isinstance(said, bytes) else json.dumps(said).encode()
    metadata = {"encoding": base64.b64encode(encoding.encode()).decode()}
    return {"metadata": metadata, "data": base64.b64encode(data).decode()}


@pytest.mark.parametrize(
    "hostile",
    [
        {"env": [{"name": "WANDB_API_KEY", "value": SECRET}]},
        {"env": [{"name": "HF_TOKEN", "value": SECRET}]},
        {"annotations": {"example.com/api-token": SECRET}},
        {"annotations": {"note": json.dumps({"deep": {"password": SECRET}})}},
        {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": f"x {SECRET}"}},
        {"args": ["--token", SECRET]},
        {"args": [f"--hf-token={SECRET}"]},
        {"command": ["sh", "-c", f"export WANDB_API_KEY={SECRET}; python train.py"]},
        {"message": f'refused: {{"apiKey": "{SECRET}"}}'},
        {"startupScript": f"#!/bin/sh\nPASSWORD='{SECRET}'\n"},
        {"url": f"https://me:{SECRET}@registry.example.com/v2/"},
        {"url": f"https://storage.example.com/o?x=1&X-Goog-Signature={SECRET}&y=2"},
        {"said": f"Authorization: Bearer {SECRET}"},
        {"kind": "Secret", "data": {"x": SECRET}, "stringData": {"y": SECRET}},
    ],
    ids=lambda hostile: "-".join(hostile),
)
def test_a_secret_does_not_stay(hostile: dict[str, Any]) -> None:
    assert SECRET not in json.dumps(Redactor().clean(hostile))
    inside = Redactor().clean({"input": {"payloads": [payload(hostile)]}})["input"]["payloads"][0]
    assert SECRET not in base64.b64decode(inside["data"]).decode()


@pytest.mark.parametrize(
    "secret",
    [
        "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\ndef\n-----END OPENSSH PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\ncut off here",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEfake",
        "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJl",
        "ya29.a0AfH6SMC",
        "AKIAABCDEFGHIJKLMNOP",
        "hf_abcdefghijklmnopqrstuvwxyz",
        "ghp_abcdefghijklmnopqrstuvwxyz",
        "abcdef.0123456789abcdef",
    ],
)
def test_a_form_is_known_wherever_it_stands(secret: str) -> None:
    assert Redactor().text(f"before {secret} after").startswith(f"before {REDACTED}")


def test_what_is_known_by_its_name_is_removed_from_all_other_places() -> None:
    redactor = Redactor()
    redactor.learn({"env": [{"name": "DB_PASSWORD", "value": SECRET}]})
    assert redactor.text(f"could not log in with {SECRET}!") == f"could not log in with {REDACTED}!"
    assert redactor.counts["a value known from elsewhere"] == 1


def test_what_is_no_secret_stays() -> None:
    harmless = {
        "secretName": "outlast-ssh",
        "gcpCredentialsSecretRef": {"name": "gcp", "namespace": "shared"},
        "topologyKey": "kubernetes.io/hostname",
        "tolerations": [{"key": "training.dcnlab.com/preempted", "value": "20260131T120000Z"}],
        "logPattern": r"tokens=(\d+)",
        "env": [{"name": "TOKENIZERS_PARALLELISM", "value": "false"}, {"name": "SEED", "value": "1"}],
        "image": "gcr.io/team/train:0a1b2c3d-p000000000012-1769860800@sha256:abcdef",
        "message": "the Secret team/registry lacks password: add it",
        "automountServiceAccountToken": False,
        "expirationSeconds": 3600,
    }
    redactor = Redactor()
    assert redactor.clean(harmless) == harmless
    assert redactor.counts.total() == 0


def test_an_encrypted_payload_stays_as_it_is() -> None:
    encrypted = payload(b"\x00\x01password=x", "binary/encrypted")
    assert Redactor().clean(encrypted) == encrypted


@pytest.mark.parametrize(
    ("name", "secret"),
    [("apiKey", True), ("PASSWORD", True), ("example.com/token", True), ("secretName", False), ("key", False)],
)
def test_fields_are_judged_by_their_names(name: str, secret: bool) -> None:
    assert is_secret_field(name) is secret


@pytest.mark.parametrize(
    ("name", "secret"), [("WANDB_KEY", True), ("--token", True), ("MAX_TOKENS", False), ("KEYBOARD", False)]
)
def test_variables_are_judged_more_strictly(name: str, secret: bool) -> None:
    assert is_secret_name(name) is secret
