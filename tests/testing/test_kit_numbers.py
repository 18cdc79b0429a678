"""The number that the conformance kit asks for is the one on the cassette, however the carrier writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from anycarrier.testing.conformance.capabilities import number_on


@pytest.mark.parametrize("written", ["+14155550147", "%2B14155550147", "msisdn=14155550147", '"14155550147"'])
def test_a_number_is_found_with_its_plus_and_without(tmp_path: Path, written: str) -> None:
    cassette = tmp_path / "release_number.yaml"
    cassette.write_text(f"id: 9914155550188\nbody: {written}\n")
    assert number_on(cassette) == "+14155550147"


def test_without_a_number_it_is_ours(tmp_path: Path) -> None:
    assert number_on(tmp_path / "none.yaml") == "+14155550100"
