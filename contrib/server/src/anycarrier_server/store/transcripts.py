"""Transcripts: reading a call's and searching all of them. ``writer.py`` writes them.

The index holds each segment's workspace, line, agent and party beside its words, so a search on one line looks only at
that line's segments, however many others said the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import TextClause, and_, bindparam, or_, select, text

from anycarrier_server.store.database import Database
from anycarrier_server.store.models import Segment
from anycarrier_server.store.statements import Statement, table_of

TABLE = table_of(Segment)
LONGEST = 5_000
"""Utterances of a call that are read: hours of talk. An agent that writes its own transcript may send more."""

OF_CALL = Statement(
    select(TABLE).where(TABLE.c.call_id == bindparam("call_id")).order_by(TABLE.c.seq).limit(LONGEST), into=[Segment]
)

MATCHES = 1000
"""Of a search that matches more, this many are looked at and ranked."""

WORD = re.compile(r"\w+", re.UNICODE)

SCORED = 8
"""Words of a query that count for the order; more do not make it better."""

POSTGRESQL = text(
    """
    WITH hit AS MATERIALIZED (
        SELECT * FROM transcripts WHERE fts_search @@ (plainto_tsquery('simple', :words) && CAST(:scope AS tsquery))
        LIMIT :matches
    )
    SELECT hit.* FROM hit
    ORDER BY ts_rank(fts_search, plainto_tsquery('simple', :words)) DESC, id DESC LIMIT :limit
    """
)


class Transcripts:
    """The segments of every call."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def of_call(self, call_id: UUID) -> Sequence[Segment]:
        """A call's segments in order, the first :data:`LONGEST` of them."""
        return await self._db.rows(OF_CALL, call_id=call_id)

    async def since(self, workspace_id: UUID, after: Mapping[UUID, int], *, limit: int) -> Sequence[Segment]:
        """What agent and caller said on these calls after the segment of that number (-1: from the start), ``limit``
        at most. Each call's are in order, and none is passed over: the rest comes after the last one given."""
        wanted = or_(*(and_(Segment.call_id == call_id, Segment.seq > seq) for call_id, seq in after.items()))
        query = (
            select(Segment)
            .where(Segment.workspace_id == workspace_id, Segment.party.in_(("local", "remote")), wanted)
            .order_by(Segment.seq, Segment.call_id)  # the primary key's order would tempt a planner to walk the table
            .limit(limit)
        )
        async with self._db.read() as session:
            return (await session.scalars(query)).all()

    async def search(
        self,
        workspace_id: UUID,
        query: str,
        *,
        line_id: UUID | None = None,
        agent_id: UUID | None = None,
        party: str | None = None,
        limit: int = 50,
    ) -> Sequence[Segment]:
        """Segments that hold all words of ``query``, best match first; nothing special in it has a meaning.

        Words match whole, in any case. Of more than ``MATCHES`` hits, that many are ranked.
        """
        words = WORD.findall(query)
        if not words or party not in (None, "local", "remote", "system"):
            return []
        # A line or an agent has one workspace, so its mark says it all; each further one costs time.
        given = [(mark, id_) for mark, id_ in (("l", line_id), ("a", agent_id)) if id_ is not None]
        owners = given or [("w", workspace_id)]
        async with self._db.read() as session:
            if self._db.sqlite:
                found = _on_sqlite(words, owners, party, limit)
            else:
                marks = [f"'{mark}:{id_}'" for mark, id_ in owners] + ([f"'p:{party}'"] if party else [])
                # A seat-of-the-pants plan would read the whole table for a common word; the index always knows better.
                await session.execute(text("SET LOCAL enable_seqscan = off"))
                found = POSTGRESQL.bindparams(
                    words=" ".join(words), scope=" & ".join(marks), matches=MATCHES, limit=limit
                )
            rows = (await session.scalars(select(Segment).from_statement(found))).all()
        return [row for row in rows if row.workspace_id == workspace_id]


def _on_sqlite(words: list[str], owners: list[tuple[str, UUID]], party: str | None, limit: int) -> TextClause:
    """FTS5 finds, we rank: its own bm25 walks the whole list of every word asked for, and one of ours is the owner,
    which all segments of a busy line share. The score is how often the words occur, for the length."""
    scope = [f'"{mark}{id_.hex}"' for mark, id_ in owners] + ([f'"p{party}"'] if party else [])
    said = " ".join(f'"{word}"' for word in words)
    scored = {f"word{i}": word.lower() for i, word in enumerate(words[:SCORED])}
    times = " + ".join(
        f"(length(t.text) - length(replace(lower(t.text), :{name}, ''))) / length(:{name})" for name in scored
    )
    return text(
        f"""
        SELECT t.* FROM (
            SELECT rowid AS id FROM transcripts_fts WHERE transcripts_fts MATCH :query
            ORDER BY rowid DESC LIMIT :matches
        ) AS hit JOIN transcripts AS t ON t.id = hit.id
        ORDER BY ({times}) / (20.0 + length(t.text)) DESC, t.id DESC LIMIT :limit
        """  # noqa: S608 only names of parameters are put in
    ).bindparams(query=f"scope : ({' AND '.join(scope)}) AND text : ({said})", matches=MATCHES, limit=limit, **scored)
