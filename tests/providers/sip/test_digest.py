"""Digest authentication against the RFCs' vectors, and the two halves of ours against each other."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from anycarrier_sip.digest import Challenge, DigestClient, DigestServer, Refusal, answer, challenges
from anycarrier_sip.message import Headers, Request, Response

ALICE = {"alice": "wonder land"}.get


def register(**headers: str) -> Request:
    return Request("REGISTER", "sip:example.com", Headers(headers.items()))


def refused(status: int = 401, *lines: str, name: str = "WWW-Authenticate") -> Response:
    return Response(status, "Unauthorized", Headers((name, line) for line in lines))


def challenge(server: DigestServer, address: str, now: float, algorithm: str = "MD5") -> str:
    return next(line for line in server.challenges(address, now) if f"algorithm={algorithm}," in line)


def field(request: Request, name: str, header: str = "Authorization") -> str | None:
    found = re.search(rf'\b{name}="?([^",]*)', request.headers.get(header) or "")
    return found and found[1]


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_vectors_of_rfc_7616_section_3_9_1(algorithm: str, expected: str) -> None:
    challenge = Challenge("http-auth@example.org", "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", algorithm, "auth")
    cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
    assert answer(challenge, "Mufasa", "Circle of Life", "GET", "/dir/index.html", cnonce=cnonce) == expected


def test_vector_of_rfc_7616_section_3_9_2_as_its_erratum_4897_has_it() -> None:
    challenge = Challenge("api@example.org", "5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK", "SHA-512-256", "auth")
    cnonce = "NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v"
    expected = "3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5"
    assert answer(challenge, "Jäsøn Doe", "Secret, or not?", "GET", "/doe.json", cnonce=cnonce) == expected


def test_vectors_without_qop_and_with_a_session() -> None:
    old = Challenge("testrealm@host.com", "dcd98b7102dd2f0e8b11d0f600bfb0c093")  # RFC 2069's way, RFC 2617's values
    assert answer(old, "Mufasa", "Circle Of Life", "GET", "/dir/index.html") == "670fd8c2df070c60b045671b8b24ff02"
    session = Challenge("r", "n", "MD5-sess", "auth")
    plain = Challenge("r", "n", "MD5", "auth")
    assert answer(session, "u", "p", "M", "sip:a", cnonce="c") != answer(plain, "u", "p", "M", "sip:a", cnonce="c")
    # H(H(H(u:r:p):n:c):n:00000001:c:auth:H(M:sip:a)), worked out with md5sum
    assert answer(session, "u", "p", "M", "sip:a", cnonce="c") == "8025554e2fde911631ec012b0d640580"


def test_the_strongest_comes_first_and_what_cannot_be_answered_not_at_all() -> None:
    found = challenges(
        refused(
            401,
            'Digest realm="a", nonce="1"',
            'Digest realm="a", nonce="2", algorithm=SHA-256, qop="auth,auth-int", opaque="o", stale=TRUE',
            'Digest realm="a", nonce="3", algorithm=AKAv1-MD5, qop="auth"',
            'Digest realm="a", nonce="4", algorithm=SHA-256, qop="auth-int"',
            'Digest realm="a", nonce="5", algorithm=SHA-512-256-sess, qop=auth',
            'Digest realm="a"', "Basic realm=a", "NoOneKnowsThisScheme opaque-data=here", 'Digest realm="a, nonce="6',
        )
    )  # fmt: skip
    assert [challenge.nonce for challenge in found] == ["5", "2", "1"]
    assert len(challenges(refused(401, 'Digest realm="a", nonce="1", '))) == 1, "a comma too many harms nobody"
    assert found[1] == Challenge("a", "2", "SHA-256", "auth", "o", stale=True)


def test_the_client_answers_once() -> None:
    client, request = DigestClient("alice", "wonder land", cnonce=lambda: "c"), register()
    challenge = refused(401, r'Digest realm="the \"realm\"", nonce="n", qop="auth", opaque="o\\"')
    assert client.authorize(request, challenge, 0)
    assert request.headers.lines("Authorization") == [
        r'Digest username="alice", realm="the \"realm\"", nonce="n", uri="sip:example.com", response="'
        + answer(challenges(challenge)[0], "alice", "wonder land", "REGISTER", "sip:example.com", cnonce="c")
        + r'", algorithm=MD5, qop=auth, nc=00000001, cnonce="c", opaque="o\\"'
    ]
    assert not client.authorize(request, challenge, 1)


def test_a_stale_nonce_is_replaced_once() -> None:
    client, request = DigestClient("alice", "x"), register()
    assert client.authorize(request, refused(401, 'Digest realm="r", nonce="1", qop="auth"'), 0)
    assert client.authorize(request, refused(401, 'Digest realm="r", nonce="2", qop="auth", stale=true'), 0)
    assert field(request, "nonce") == "2"
    assert len(request.headers.lines("Authorization")) == 1
    assert not client.authorize(request, refused(401, 'Digest realm="r", nonce="3", qop="auth", stale=true'), 0)


def test_proxies_and_the_server_are_answered_at_once_each_with_its_own() -> None:
    client, request = DigestClient("alice", "x"), register()
    both = refused(407, 'Digest realm="proxy", nonce="p", qop="auth"', name="Proxy-Authenticate")
    both.headers.add("Proxy-Authenticate", 'Digest realm="proxy2", nonce="q", qop="auth"')
    both.headers.add("WWW-Authenticate", 'Digest realm="server", nonce="s", algorithm=SHA-256, qop="auth"')
    both.headers.add("WWW-Authenticate", 'Digest realm="server", nonce="s", algorithm=MD5, qop="auth"')
    assert client.authorize(request, both, 0)
    assert len(request.headers.lines("Proxy-Authorization")) == 2
    assert len(request.headers.lines("Authorization")) == 1
    assert field(request, "algorithm") == "SHA-256"
    # Each hop challenges when it is the request's turn; what another was told stays.
    assert client.authorize(request, refused(401, 'Digest realm="other", nonce="o"'), 0)
    assert [len(request.headers.lines(name)) for name in ("Proxy-Authorization", "Authorization")] == [2, 2]
    assert not client.authorize(request, both, 0)


def test_sessions_without_qop_tell_their_cnonce() -> None:
    client, request = DigestClient("alice", "x", cnonce=lambda: "c"), register()
    challenge = refused(401, 'Digest realm="r", nonce="1", algorithm=MD5-sess')
    assert client.authorize(request, challenge, 0)
    assert field(request, "cnonce") == "c"
    plain = register()
    assert client.authorize(plain, refused(401, 'Digest realm="r", nonce="1"'), 0)
    assert field(plain, "cnonce") is None


def test_a_proxy_renews_its_own_nonce() -> None:
    client, first = DigestClient("alice", "x"), register()
    proxy = refused(407, 'Digest realm="p", nonce="1", qop="auth, auth-int", stale=true', name="Proxy-Authenticate")
    assert client.authorize(first, proxy, 0)
    client.succeeded(Response(200, "OK", Headers([("Authentication-Info", 'nextnonce="2"')])), 0)
    client.succeeded(Response(200, "OK", Headers([("Proxy-Authentication-Info", 'nextnonce="3"')])), 0)
    second = register()
    client.prepare(second, 1)
    assert field(second, "nonce", "Proxy-Authorization") == "3"
    third = register()
    client.prepare(third, 300)
    assert "Proxy-Authorization" not in third.headers


def test_nothing_to_answer() -> None:
    client, request = DigestClient("alice", "x"), register()
    assert not client.authorize(request, refused(401), 0)
    assert not client.authorize(request, refused(401, "Basic realm=a"), 0)
    assert "Authorization" not in request.headers


def test_a_nonce_is_used_again_counted_and_renewed() -> None:
    client, first = DigestClient("alice", "x"), register()
    client.prepare(first, 0)
    assert "Authorization" not in first.headers
    assert client.authorize(first, refused(401, 'Digest realm="r", nonce="1", qop="auth"'), 0)

    second = register()
    client.prepare(second, 299)
    assert (field(second, "nonce"), field(second, "nc")) == ("1", "00000002")
    # The registrar has forgotten it and does not say so: one answer is due.
    again = refused(401, 'Digest realm="r", nonce="2", qop="auth"')
    assert client.authorize(second, again, 299)
    assert (field(second, "nonce"), field(second, "nc")) == ("2", "00000001")
    assert not client.authorize(second, again, 299)

    client.succeeded(Response(200, "OK", Headers([("Authentication-Info", 'nextnonce="3", qop=auth')])), 300)
    third = register()
    client.prepare(third, 500)
    assert (field(third, "nonce"), field(third, "nc")) == ("3", "00000001")
    late = register()
    client.prepare(late, 601)
    assert "Authorization" not in late.headers


def test_a_user_cannot_break_out_of_the_quotes() -> None:
    client, request = DigestClient('a", realm="evil\\', "x"), register()
    assert client.authorize(request, refused(401, 'Digest realm="r", nonce="1", qop="auth"'), 0)
    assert (request.headers.get("Authorization") or "").startswith(
        r'Digest username="a\", realm=\"evil\\", realm="r"'
    )
    with pytest.raises(ValueError, match="line end"):
        DigestClient("a\r\nX: b", "x").authorize(register(), refused(401, 'Digest realm="r", nonce="1"'), 0)


class TestServer:
    server = DigestServer(b"secret of this process", "anycarrier")

    def ask(self, request: Request, now: float, address: str = "192.0.2.1") -> str | Refusal:
        return self.server.check(request, address, now, ALICE)

    def answered(self, now: float = 1000.5, password: str = "wonder land", *, algorithm: str = "MD5") -> Request:
        request = register()
        response = refused(401, challenge(self.server, "192.0.2.1", now, algorithm))
        assert DigestClient("alice", password).authorize(request, response, now)
        return request

    @pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
    def test_right(self, algorithm: str) -> None:
        assert self.ask(self.answered(algorithm=algorithm), 1300) == "alice"

    def test_the_client_takes_the_stronger_one(self) -> None:
        request = register()
        response = refused(401, *self.server.challenges("192.0.2.1", 0))
        DigestClient("alice", "wonder land").authorize(request, response, 0)
        assert field(request, "algorithm") == "SHA-256"
        assert self.ask(request, 1) == "alice"

    def test_wrong(self) -> None:
        assert self.ask(self.answered(password="wonderland"), 1001) == Refusal(wrong=True)
        request = self.answered()
        assert self.server.check(request, "192.0.2.1", 1001, {"bob": "wonder land"}.get) == Refusal(wrong=True)
        request.method = "INVITE"
        assert self.ask(request, 1001) == Refusal(wrong=True)

    def test_nobody_with_an_empty_password(self) -> None:
        request = self.answered(password="")
        assert self.ask(request, 1001) == Refusal(wrong=True)
        assert self.server.check(request, "192.0.2.1", 1001, {}.get) == Refusal(wrong=True)

    @pytest.mark.parametrize(
        "line",
        [
            "", "Basic YTpi", "Digest", 'Digest realm="other", nonce="n"', "NoOneKnowsThisScheme opaque-data=here",
            'Digest realm="anycarrier", username="alice"', 'Digest realm="anycarrier", realm="anycarrier"',
        ],
    )  # fmt: skip
    def test_no_credentials(self, line: str) -> None:
        assert self.ask(register(Authorization=line), 0) == Refusal()

    def test_a_nonce_is_for_one_address_and_a_while(self) -> None:
        assert self.ask(self.answered(), 1001, "192.0.2.2") == Refusal(stale=True)
        assert self.ask(self.answered(), 1301) == Refusal(stale=True)
        assert self.ask(self.answered(now=2000), 1999) == Refusal(stale=True)
        other = DigestServer(b"another secret", "anycarrier")
        assert other.check(self.answered(), "192.0.2.1", 1001, ALICE) == Refusal(stale=True)

    @pytest.mark.parametrize("change", [("1", "x"), ('nc=0', 'nc=x'), ("sip:", "tel:"), ("alice", "bob")])
    @pytest.mark.parametrize("made_for", ["192.0.2.2", None])
    def test_nobody_is_wrong_who_did_not_see_our_challenge(self, made_for: str | None, change: tuple[str, str]) -> None:
        """Who forges a telephone's address must not have it silenced: no wrong answer of his counts."""
        nonce = challenge(self.server, made_for, 1000).split('"')[3] if made_for else "f" * 50
        request = self.answered()
        line = re.sub('nonce="[^"]*"', f'nonce="{nonce}"', request.headers.get("Authorization") or "")
        request.headers.set("Authorization", line.replace(*change))
        assert self.ask(request, 1001) == Refusal(stale=True)

    def test_challenges_say_whether_the_nonce_was_too_old(self) -> None:
        assert [line.partition("algorithm=")[2] for line in self.server.challenges("a", 0, stale=True)] == [
            'SHA-256, qop="auth", stale=true', 'MD5, qop="auth", stale=true',
        ]  # fmt: skip
        assert not any("stale" in line for line in self.server.challenges("a", 0))

    def test_counts_go_up(self) -> None:
        client, first = DigestClient("alice", "wonder land"), register()
        assert client.authorize(first, refused(401, challenge(self.server, "192.0.2.1", 1000)), 0)
        assert self.ask(first, 1000) == "alice"
        second, third = register(), register()
        client.prepare(second, 1)
        client.prepare(third, 1)
        assert self.ask(third, 1000) == "alice"
        assert self.ask(second, 1000) == Refusal(stale=True)

    def test_a_count_is_good_once(self) -> None:
        request = self.answered()
        assert self.ask(request, 1001) == "alice"
        assert self.ask(request, 1001) == Refusal(stale=True)

    def test_two_telephones_in_one_second_have_nonces_of_their_own(self) -> None:
        first, second = self.answered(), self.answered()
        assert (self.ask(first, 1001), self.ask(second, 1001)) == ("alice", "alice")

    def test_what_it_remembers_is_bounded(self) -> None:
        server = DigestServer(b"x", "anycarrier")
        server.REMEMBERED = 3
        for _ in range(5):
            request = register()
            DigestClient("alice", "wonder land").authorize(request, refused(401, challenge(server, "a", 0)), 0)
            assert server.check(request, "a", 1, ALICE) == "alice"
        assert len(server._counts) == 3

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            (lambda line: line.replace("sip:example.com", "sip:EXAMPLE.com:5060"), Refusal(wrong=True)),
            (lambda line: line.replace("sip:example.com", "sip:evil.com"), Refusal(wrong=True)),
            (lambda line: line.replace("sip:example.com", "%%"), Refusal(wrong=True)),
            (lambda line: line.replace("nc=00000001", "nc=1"), Refusal(wrong=True)),
            (lambda line: line.replace("nc=00000001", "nc=00000002"), Refusal(wrong=True)),
            (lambda line: line.replace("qop=auth", "qop=auth-int"), Refusal()),
            (lambda line: line.replace("qop=auth, ", ""), Refusal()),
            (lambda line: line.replace("algorithm=MD5", "algorithm=SHA-512"), Refusal()),
            (lambda line: re.sub('nonce="[^"]*"', 'nonce="é"', line), Refusal(stale=True)),
            (lambda line: re.sub('response="[^"]*"', 'response="é"', line), Refusal(wrong=True)),
        ],
    )
    def test_a_changed_answer(self, change: Callable[[str], str], expected: Refusal) -> None:
        request = self.answered()
        request.headers.set("Authorization", change(request.headers.get("Authorization") or ""))
        assert self.ask(request, 1001) == expected

    def test_a_telephone_may_spell_the_uri_as_it_likes(self) -> None:
        request = self.answered()
        request.uri = "sip:example.com:5060;transport=udp"
        assert self.ask(request, 1001) == "alice"
