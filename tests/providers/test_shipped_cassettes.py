"""Each provider's package holds its cassettes: where they come from, and that nothing private is in them."""

from __future__ import annotations

import pytest

from anycarrier.testing.cassettes import Provenance, files, find, provenance_of, scan, shipped


@pytest.mark.parametrize("carrier", ["bandwidth", "signalwire", "telnyx", "twilio", "vonage"])
def test_a_provider_ships_its_cassettes_without_a_secret_or_a_real_number(carrier: str) -> None:
    assert len(list(files(shipped(carrier)))) > 20
    assert scan(shipped(carrier)) == []
    assert find(f"{carrier}/rest/dial", ".yaml", shipped(carrier)).parent == shipped(carrier) / "rest"


@pytest.mark.parametrize("carrier", ["bandwidth", "signalwire", "telnyx", "twilio", "vonage"])
def test_each_cassette_says_where_it_came_from_and_none_claims_a_live_account(carrier: str) -> None:
    told = {path: provenance_of(path) for path in files(shipped(carrier))}
    assert {said for said, _ in told.values()} <= {Provenance.SANDBOX, Provenance.DOCUMENTED}
    assert all(source for _, source in told.values())
