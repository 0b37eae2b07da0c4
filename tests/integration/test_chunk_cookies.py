"""CloudFront as the CDN: cookies that open a tenant's prefix, checked as CloudFront checks them."""

from __future__ import annotations

import json
import time
from base64 import b64decode
from http.cookies import Morsel
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.test import Client
from pytest_django.fixtures import Settings

from sessions.actions.snapshots import fork_snapshot
from sessions.actions.vms import create_vm
from sessions.models import VM, Snapshot
from tests.support.machines import block, bring, make_image, make_user, save
from tests.support.pages import browser
from webvm.accounts.models import Membership, Role, Tenant

pytestmark = pytest.mark.django_db
KEY = rsa.generate_private_key(65537, 2048)
BASE = "https://cdn.example.org/c/"


@pytest.fixture(autouse=True)
def cloudfront(settings: Settings) -> None:
    settings.CHUNK_SIGNING = "cloudfront"
    settings.CHUNK_BASE_URL = BASE
    settings.CLOUDFRONT_KEY_ID = "K2JCJMDEHXQW5F"
    pem = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    settings.CLOUDFRONT_PRIVATE_KEY = pem.decode()
    settings.CLOUDFRONT_COOKIE_DOMAIN = "example.org"


class Jar:
    """What a browser keeps of an answer, and what CloudFront makes of it."""

    def __init__(self, answer: Any) -> None:
        self.morsels: list[Morsel[str]] = list(answer.cookies.values())

    def opens(self, url: str, now: float | None = None) -> bool:
        """As CloudFront decides about a request that a browser makes to `url`."""
        path = urlsplit(url).path
        sent = {morsel.key: morsel.value for morsel in self.morsels if path.startswith(morsel["path"])}
        try:
            policy = decoded(sent["CloudFront-Policy"])
            signature = decoded(sent["CloudFront-Signature"])
            assert sent["CloudFront-Key-Pair-Id"] == "K2JCJMDEHXQW5F"
            KEY.public_key().verify(signature, policy, padding.PKCS1v15(), SHA1())  # noqa: S303 - CloudFront's
        except (KeyError, InvalidSignature):
            return False
        (statement,) = json.loads(policy)["Statement"]
        ends = statement["Condition"]["DateLessThan"]["AWS:EpochTime"]
        prefix, star = statement["Resource"][:-1], statement["Resource"][-1]
        return star == "*" and url.startswith(prefix) and (now or time.time()) < ends


def decoded(text: str) -> bytes:
    return b64decode(text.translate(str.maketrans("-_~", "+=/")), validate=True)


def locate(client: Client, vm: VM, snapshot: Snapshot) -> tuple[dict[str, str], Jar, Any]:
    body = {"snapshot": str(snapshot.pk), "device": "disk", "leaves": [0, 1]}
    answer = client.post(f"/api/v1/vms/{vm.pk}/locate", json.dumps(body), content_type="application/json")
    assert answer.status_code == 200
    return answer.json()["urls"], Jar(answer), answer


def test_the_cookies_open_the_tenants_prefix_for_a_quarter_of_an_hour() -> None:
    machine = make_image()[1]
    ada = make_user("ada@example.org")
    vm = create_vm("tiny", acting_user=ada)
    snapshot = save(vm, machine, "one", ada)
    urls, jar, answer = locate(browser(ada), vm, snapshot)
    assert urls
    for url in urls.values():
        assert url.startswith(f"{BASE}t/{vm.tenant_id}/")
        assert urlsplit(url).query == "", "the URL is the same for everybody, for ever"
        assert jar.opens(url)
        assert jar.opens(url, time.time() + 10 * 60 - 5)
        assert not jar.opens(url, time.time() + 15 * 60 + 1)
    eve = make_user("eve@example.org")
    other = create_vm("tiny", acting_user=eve)
    theirs, _, _ = locate(browser(eve), other, save(other, make_image()[1], "two", eve))
    assert not any(jar.opens(url) for url in theirs.values())
    for morsel in answer.cookies.values():
        assert (morsel["domain"], morsel["path"]) == ("example.org", f"/c/t/{vm.tenant_id}/")
        assert morsel["secure"]
        assert morsel["httponly"]
        assert morsel["samesite"] == "Strict"
        assert int(morsel["max-age"]) <= 15 * 60
    opened = browser(ada).get(f"/api/v1/vms/{vm.pk}/open").json()
    assert (opened["chunk_base_url"], opened["chunk_cookies"]) == (BASE, True)


def test_a_fork_gets_the_cookies_of_every_tenant_that_has_its_chunks() -> None:
    machine = make_image()[1]
    ada, bob = make_user("ada@example.org"), make_user("bob@example.org")
    vm = create_vm("tiny", acting_user=ada)
    bring(vm.tenant, machine, machine.disk.write({1500: block("in another leaf")}))
    snapshot = save(vm, machine, "one", ada)
    second = Tenant.objects.create(name="second")
    Membership.objects.create(tenant=second, user=ada, role=Role.OWNER)
    fork = fork_snapshot(snapshot.pk, acting_user=ada, tenant=second)
    urls, jar, _ = locate(browser(ada), fork, save(fork, machine, "two", ada))
    assert {urlsplit(url).path.split("/")[3] for url in urls.values()} == {str(vm.tenant_id), str(second.pk)}
    assert all(jar.opens(url) for url in urls.values())
    body = json.dumps({"device": "disk", "leaves": [0]})
    answer = browser(bob).post(f"/api/v1/vms/{fork.pk}/locate", body, content_type="application/json")
    assert answer.status_code == 404
    assert not answer.cookies


def test_nothing_private_nothing_signed(settings: Settings) -> None:
    make_image()
    ada = make_user("ada@example.org")
    vm = create_vm("tiny", acting_user=ada)
    body = json.dumps({"snapshot": None, "device": "disk", "leaves": [0]})
    for kind in ("cloudfront", "secure_link"):
        settings.CHUNK_SIGNING = kind
        answer = browser(ada).post(f"/api/v1/vms/{vm.pk}/locate", body, content_type="application/json")
        assert answer.json()["urls"] == {}
        assert not any(name.startswith("CloudFront") for name in answer.cookies)
