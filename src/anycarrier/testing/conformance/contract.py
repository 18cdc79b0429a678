"""The contract itself: found as a plugin, named right, discreet, and silent until asked."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from pydantic import ValidationError

from anycarrier import plugins
from anycarrier.errors import AnycarrierError, ConfigurationError
from anycarrier.plugins import abstract_methods
from anycarrier.provider import CONTRACT, Capability, Provider
from anycarrier.testing.cassettes import Provenance, files, provenance_of, scan
from anycarrier.testing.conformance.kit import CALL_ID, QUERY, SECRET, Kit, NoNetwork, fail_with_the_next
from anycarrier.testing.replay import answering

SOUNDS_SECRET = re.compile(r"(?i)(secret|token|password|passphrase|(api|private)_?key$)")


class ContractChecks(Kit):
    def test_every_required_method_is_written(self) -> None:
        """Says what to write next. Checks that need a method that is not written wait: see the pytest plugin."""
        fail_with_the_next(self.name, "required methods", self.required(), self.unwritten())

    def test_the_installed_plugin_provides_it(self) -> None:
        """The entry point in group ``anycarrier`` loads and gives this very class."""
        broken = plugins.broken_plugins()
        assert self.name in plugins.provider_names(), (
            f"no installed entry point of group 'anycarrier' provides {self.name!r}: install the plugin "
            f"(pip install -e .) and check [project.entry-points.anycarrier]. Broken: {broken or 'none'}"
        )
        assert plugins.get_provider(self.name) is self.provider

    def test_the_name_is_the_credentials_name_too(self) -> None:
        assert re.fullmatch(r"[a-z0-9][a-z0-9_-]*", self.name), f"name {self.name!r}: lower case, a-z 0-9 _ - only"
        assert isinstance(self.credential, self.provider.credential_type)
        assert self.credential.provider == self.name, f"credential says provider {self.credential.provider!r}"

    def test_it_is_written_for_this_contract_and_lacks_nothing(self) -> None:
        assert self.provider.contract == CONTRACT
        assert abstract_methods(self.provider) == []

    def test_secret_fields_are_secret(self) -> None:
        """What sounds like a secret is a ``SecretStr``, so that nothing prints it."""
        held = type(self.credential).model_fields
        open_fields = [n for n in held if SOUNDS_SECRET.search(n) and isinstance(getattr(self.credential, n), str)]
        assert not open_fields, f"make these SecretStr: {', '.join(open_fields)}"

    def test_what_copying_adds_to_a_field_is_taken_off(self) -> None:
        """A line end, a space, an invisible character, quotation marks: the key is meant without them."""
        for field, value in self.texts().items():
            for before, after in (("", "\n"), (" ", "\r\n"), ("\ufeff", "\u200b"), ("\u00a0", "\t"), ('"', '"\n')):
                made = type(self.credential).model_validate({**self.texts(), field: before + value + after})
                assert self.texts(made)[field] == value, f"{field} keeps {(before, after)!r} around it"

    def test_what_no_key_holds_is_refused_when_it_is_entered(self) -> None:
        """Said then, naming provider and field and showing nothing; later it would look like the network's fault."""
        for field, value in self.texts().items():
            for wrong in ("\n", "\u200b", "\x00", *(() if field in self.any_letters else ("\u00e9",))):
                with pytest.raises((ValidationError, ConfigurationError)) as caught:
                    type(self.credential).model_validate({**self.texts(), field: value[:1] + wrong + value[1:]})
                told = str(caught.value)
                whose = self.credential.provider
                assert field in told and whose in told, f"the error does not name {whose} and {field}"
                assert len(value) < 4 or value[1:] not in told, f"the error shows {field}"

    def test_secrets_are_in_no_repr(self) -> None:
        credential = self.with_secret(value=SECRET)
        provider = self.provider(credential)
        for text in (repr(credential), str(credential), repr(provider), str(provider), credential.model_dump_json()):
            assert SECRET not in text

    def test_secrets_are_in_no_error_and_no_log(self, caplog: pytest.LogCaptureFixture) -> None:
        """Not even when the carrier repeats them in its complaint."""
        caplog.set_level(logging.DEBUG)
        body = {"message": f"key {SECRET} may not ring +14155550123", "code": "kit"}
        for status in (400, 401, 500):
            with pytest.raises(AnycarrierError) as caught:
                self.ask(answering(status, json=body), lambda p: p.dial(self.dial_request()), value=SECRET)
            shown = f"{caught.value} {caught.value!r} {vars(caught.value)}"
            assert SECRET not in shown, f"the error to a {status} shows the secret"
            assert "4155550123" not in shown, f"the error to a {status} shows a whole phone number"
        for status in (401, 500):
            for act in (lambda p: p.hang_up(CALL_ID), lambda p: p.search_numbers(QUERY)):
                shown = self._complaint(status, body, act)
                assert SECRET not in shown, f"the error to a {status} shows the secret"
        assert SECRET not in caplog.text, "a log line shows the secret"

    def _complaint(self, status: int, body: Any, act: Callable[[Provider], Coroutine[Any, Any, Any]]) -> str:
        """All that the error of a refused operation shows."""
        try:
            self.ask(answering(status, json=body), act, value=SECRET)
        except AnycarrierError as refused:
            return f"{refused} {refused!r} {vars(refused)}"
        return ""

    def test_making_one_touches_no_network(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with NoNetwork(monkeypatch):
            made = self.make()
            made.serializer()
            repr(made.capabilities)


class CassetteChecks(Kit):
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

    def test_every_cassette_is_one_that_a_check_plays(self) -> None:
        """A cassette that no check plays proves nothing."""
        names = {"search_numbers", "dial", "answer", "hang_up", "hang_up_ended"}
        names |= {*self.provider.capabilities, *self.also_played}
        unplayed = []
        for path in sorted(self.cassettes.rglob("[!.]*")):
            if path.is_dir():
                continue
            place = path.relative_to(self.cassettes)
            if path in {*self.kept("webhooks", "json"), *self.kept("streams", "jsonl")}:
                continue
            if path not in self.kept("rest", "yaml"):
                unplayed.append(f"{place} is none of rest/*.yaml, webhooks/*.json, streams/*.jsonl")
            elif path.stem in set(Capability) - names:
                unplayed.append(f"{place} shows {path.stem}, which {self.provider.__name__} does not declare")
            elif path.stem not in names:
                unplayed.append(f"{place} has no operation's name: rename it, or list it in also_played")
        assert not unplayed, f"no check plays these cassettes: {'; '.join(unplayed)}"

    def test_a_cassette_of_ones_own_plays_to_its_end(self) -> None:
        for name, act in self.also_played.items():
            assert self.cassette(name).exists(), f"also_played names {name}, but there is no rest/{name}.yaml"
            self.played(name, act)

    def test_cassettes_hold_no_secret_and_no_real_number(self) -> None:
        assert scan(self.cassettes) == []
