"""Fetching a recording: its record by the API, its sound by the signed link in it, which lives ten minutes."""

from __future__ import annotations

from collections.abc import Mapping

from anycarrier.errors import NotFound
from anycarrier_telnyx.sdk import Sdk

OPERATION = "fetch_recording"


async def fetch(sdk: Sdk, recording_id: str) -> bytes:
    """The recording as WAV; ``NotFound`` when it was made as MP3 only."""
    import httpx

    provider = sdk.provider
    record = await sdk.record(OPERATION, lambda telnyx: telnyx.recordings.with_raw_response.retrieve(recording_id))
    urls = record.get("download_urls")
    url = urls.get("wav") if isinstance(urls, Mapping) else None
    if not isinstance(url, str):
        raise NotFound(provider.name, OPERATION, "the recording has no WAV file", next_step="Record as wav.")
    try:
        # A link into an object store: no login of ours goes there.
        response = await provider.http.get(url, timeout=provider.timeout, follow_redirects=True)
    except (httpx.HTTPError, httpx.InvalidURL) as failure:
        raise provider.error(OPERATION, None, message=type(failure).__name__) from failure
    if response.status_code != 200:
        raise provider.error(OPERATION, response.status_code, headers=response.headers)
    return response.content
