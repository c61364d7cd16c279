"""A passkey, made and used by a real browser whose authenticator is Chromium's own (the protocol's WebAuthn domain)."""

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.urls import reverse
from playwright.async_api import CDPSession, Page, async_playwright, expect

from accounts.roles import AccountRole
from projects.models import AuditLog
from tests.accounts.making import person
from tests.eklavya.test_live_browser import portal as portal
from tests.factories import PASSWORD

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
DEVICE = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


@pytest.fixture
async def page(portal: str, browser_type_launch_args: dict[str, Any]) -> AsyncIterator[Page]:
    """A tab with nobody signed in. What the browser complains about fails the test."""
    complaints: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(**browser_type_launch_args)
        # A passkey is for a name, and browsers take this one without TLS.
        context = await browser.new_context(base_url=portal.replace("127.0.0.1", "localhost"))
        tab = await context.new_page()
        tab.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        yield tab
        await browser.close()
    assert complaints == []


async def device_of(page: Page) -> tuple[CDPSession, str]:
    """Plug an authenticator in, that agrees to whatever it is asked."""
    protocol = await page.context.new_cdp_session(page)
    await protocol.send("WebAuthn.enable")
    made = await protocol.send("WebAuthn.addVirtualAuthenticator", {"options": DEVICE})
    return protocol, made["authenticatorId"]


async def type_password(page: Page) -> None:
    await page.goto(reverse("account_login"))
    await page.fill("input[name=login]", "asha")
    await page.fill("input[name=password]", PASSWORD)
    await page.get_by_role("button", name="Sign in", exact=True).click()


async def is_home(page: Page) -> None:
    await expect(page.get_by_role("heading", name="What shall we build?")).to_be_visible(timeout=10_000)


@sync_to_async
def trail() -> list[str]:
    return list(AuditLog.objects.filter(chain="account").order_by("seq").values_list("action", flat=True))


async def test_a_passkey_signs_in_and_stands_for_the_second_factor(page: Page) -> None:
    asha: User = await sync_to_async(person)(AccountRole.OPERATOR, "asha")
    protocol, device = await device_of(page)
    await type_password(page)
    await is_home(page)

    # made
    await page.goto(reverse("mfa_add_webauthn"))  # who has just signed in is not asked for the password again
    await page.fill("input[name=name]", "Laptop")
    await page.check("input[name=passwordless]")
    await page.locator("#mfa_webauthn_add").click()
    await expect(page).not_to_have_url(re.compile("/add/"), timeout=10_000)
    await sync_to_async(Authenticator.objects.get)(user=asha, type=Authenticator.Type.WEBAUTHN)
    kept = (await protocol.send("WebAuthn.getCredentials", {"authenticatorId": device}))["credentials"]
    assert [(one["isResidentCredential"], one["rpId"]) for one in kept] == [(True, "localhost")]

    # instead of the password
    await page.context.clear_cookies()
    await page.goto(reverse("account_login"))
    await page.get_by_role("button", name="Sign in with a passkey").click()
    await is_home(page)

    # besides the password
    await page.context.clear_cookies()
    await type_password(page)
    await page.get_by_role("button", name="Use a security key").click()
    await is_home(page)

    # The second factor that was added besides are recovery codes.
    signed_in, added = "account.signed_in", "account.factor_added"
    assert await trail() == [signed_in, added, added, signed_in, signed_in]
