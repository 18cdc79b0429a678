"""The demo's verdict can be no as well as yes."""

from dataclasses import replace

from linecard import demo

GOOD = demo.Shown("c", "inbound", "a", "ended", "user_hangup", 3.7, 3.66, 3.66, True, 3.66, True)


def test_a_call_is_ok_only_when_both_ends_heard_what_was_sent() -> None:
    assert GOOD.ok
    for wrong in ({"agent_intact": False}, {"far_end_intact": False}, {"reason": "media_error"}, {"status": "ringing"}):
        assert not replace(GOOD, **wrong).ok
    assert "NOT WHAT WAS SAID" in demo.table([replace(GOOD, agent_intact=False)])


def test_the_clip_is_a_voice_and_not_silence() -> None:
    assert len(demo.voice()) == 29280 and len(set(demo.voice())) > 100
