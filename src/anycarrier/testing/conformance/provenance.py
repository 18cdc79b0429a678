"""Provenance: every cassette says where it came from, and holds nothing of anybody's."""

from __future__ import annotations

import pytest

from anycarrier.testing.cassettes import Provenance, files, provenance_of
from anycarrier.testing.conformance.kit import Kit
from anycarrier.testing.scrub import scan


class ProvenanceChecks(Kit):
    def test_every_cassette_says_where_it_came_from(self, request: pytest.FixtureRequest) -> None:
        kept = list(files(self.cassettes))
        assert kept, f"no cassettes below {self.cassettes}"
        counts = dict.fromkeys(Provenance, 0)
        for path in kept:
            said, source = provenance_of(path)
            assert said in list(Provenance), f"{path.name}: provenance must be one of {', '.join(Provenance)}"
            assert source, f"{path.name}: source must say which account, sandbox or document it is from"
            counts[Provenance(said)] += 1
        plugin = request.config.pluginmanager.get_plugin("anycarrier")
        if plugin is not None:
            plugin.count_cassettes(request.config, self.name, {str(said): n for said, n in counts.items() if n})

    def test_cassettes_hold_no_secret_and_no_real_number(self) -> None:
        assert scan(self.cassettes) == []
