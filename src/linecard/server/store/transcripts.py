"""What was said: reading a call's transcript and searching all of them. Writing is the writer's (``writer.py``).

The index holds, with the words, whose they are: a search on one line looks only at that line's segments, however
many others said the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select, text

from linecard.server.store.database import Database
from linecard.server.store.models import Segment

MATCHES = 1000
"""Of a search that matches more, this many are looked at and ranked."""

WORD = re.compile(r"\w+", re.UNICODE)

SQLITE = text(
    """
    SELECT t.* FROM (
        SELECT rowid AS id, rank AS score FROM transcripts_fts WHERE transcripts_fts MATCH :query
        ORDER BY rowid DESC LIMIT :matches
    ) AS hit JOIN transcripts AS t ON t.id = hit.id
    ORDER BY hit.score, t.id DESC LIMIT :limit
    """
)

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
        """A call's segments in order."""
        async with self._db.read() as session:
            query = select(Segment).where(Segment.call_id == call_id).order_by(Segment.seq)
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
        scope = {"w": workspace_id, "l": line_id, "a": agent_id, "p": party}
        async with self._db.read() as session:
            if self._db.sqlite:
                marks = [f'"{k}{v.hex if isinstance(v, UUID) else v}"' for k, v in scope.items() if v is not None]
                said = " ".join(f'"{word}"' for word in words)
                match = f"scope : ({' AND '.join(marks)}) AND text : ({said})"
                found = SQLITE.bindparams(query=match, matches=MATCHES, limit=limit)
            else:
                marks = [f"'{k}:{v}'" for k, v in scope.items() if v is not None]
                # A seat-of-the-pants plan would read the whole table for a common word; the index always knows better.
                await session.execute(text("SET LOCAL enable_seqscan = off"))
                found = POSTGRESQL.bindparams(
                    words=" ".join(words), scope=" & ".join(marks), matches=MATCHES, limit=limit
                )
            return (await session.scalars(select(Segment).from_statement(found))).all()
