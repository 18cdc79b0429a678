"""The bot and the front on a sandbox: a caller is repeated, interrupts, says goodbye; then the bot rings somebody."""

import asyncio
import os
import secrets

import httpx

from anycarrier.testing.live_server import listening, serve, serve_sandbox, url_of
from anycarrier.testing.sandbox import sandbox_type

os.environ["TWILIO_ACCOUNT_SID"] = f"AC{secrets.token_hex(16)}"
os.environ["TWILIO_AUTH_TOKEN"] = secrets.token_hex(16)

import bot
import front

OURS, THEIRS = "+14155550100", "+12125550123"
WORDS = bytes(range(0x20, 0x70)) * 100  # a second of mu-law


async def main(carrier: str) -> None:
    port = listening()
    os.environ["TWILIO_API_URL"] = url_of(port)
    async with serve_sandbox(sandbox_type(carrier)) as sandbox, serve(bot.app) as bot_url:
        sandbox.add_number(OURS)
        app = front.build(sandbox.credential(), number=OURS, public_url=url_of(port), bot=bot_url)
        async with serve(app, port):
            caller = await sandbox.ring(OURS, THEIRS)
            await caller.say(WORDS)
            await caller.wait_heard(0.5)
            await caller.press("1#")  # interrupts; says goodbye
            await caller.wait_for("ended")
            assert WORDS[:1600] in caller.heard, "the bot did not repeat what it heard"
            print(f"{carrier}: the caller heard {caller.heard_seconds():.1f} s, then the bot hung up")
            async with httpx.AsyncClient(trust_env=False) as http:
                made = await http.post(f"{bot_url}/call", params={"to": THEIRS, "from": OURS}, timeout=30)
            made.raise_for_status()
            callee = next(iter(set(sandbox.far_ends.values()) - {caller}))
            await callee.say(WORDS)
            await callee.wait_heard(0.5)
            await callee.press("#")
            await callee.wait_for("ended")
            print(f"{carrier}: the bot rang {callee.to} by Twilio's API, and hung up: {made.text[:4]}...")


if __name__ == "__main__":
    for carrier in ("telnyx", "twilio"):
        asyncio.run(main(carrier))
    print("a bot for Twilio, unchanged, on two carriers")
