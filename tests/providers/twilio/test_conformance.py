"""Twilio passes the conformance kit that everybody's carrier passes."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import replace

from anycarrier.testing.cassettes import shipped
from anycarrier.testing.conformance import ProviderConformance
from anycarrier.webhooks import WebhookRequest
from anycarrier_twilio import TwilioCredential, TwilioProvider


class TestTwilio(ProviderConformance):
    provider = TwilioProvider
    credential = TwilioCredential(account_sid="AC" + "0" * 32, auth_token="kit-auth-token")
    cassettes = shipped("twilio")
    error_bodies = {
        401: {"code": 20003, "message": "Authenticate", "more_info": "", "status": 401},
        404: {"code": 20404, "message": "The requested resource was not found", "more_info": "", "status": 404},
        429: {"code": 20429, "message": "Too Many Requests", "more_info": "", "status": 429},
        500: {"code": 20500, "message": "An internal server error has occurred", "more_info": "", "status": 500},
    }

    def sign(self, request: WebhookRequest) -> WebhookRequest:
        pairs = [] if request.method == "GET" else sorted(set(request.form_items()))
        text = request.url + "".join(key + value for key, value in pairs)
        signature = base64.b64encode(hmac.new(b"kit-auth-token", text.encode(), hashlib.sha1).digest()).decode()
        return replace(request, headers={**request.headers, "x-twilio-signature": signature})
