"""Once is once."""

from anycarrier.callbook import MemoryOnce


async def test_the_first_use_is_told_from_the_second() -> None:
    once = MemoryOnce()
    assert await once.first("a", 10)
    assert not await once.first("a", 10)
    assert await once.first("b", 10)


async def test_a_key_comes_back_after_its_time_or_when_forgotten() -> None:
    now = [0.0]
    once = MemoryOnce(clock=lambda: now[0])
    await once.first("a", 10)
    now[0] = 11
    assert await once.first("a", 10)
    await once.forget("a")
    assert await once.first("a", 10)


async def test_memory_is_bounded_and_the_oldest_go_first() -> None:
    once = MemoryOnce(limit=3)
    for key in "abcd":
        await once.first(key, 1000)
    assert await once.first("a", 1000), "forgotten to make room"
    assert not await once.first("d", 1000)
