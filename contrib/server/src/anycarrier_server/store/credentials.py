"""Sealed settings of a workspace's accounts: carrier credentials and speech engines.

:class:`Credentials` is also the exchange's :class:`anycarrier.credentials.CredentialSource`. :class:`Carriers` builds a
carrier's credential from what people type. One that lacks something the carrier needs is kept, and says what is
missing. With ``--sandbox`` every credential leads to the carrier's sandbox, where any secret logs in.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import SecretStr, ValidationError
from pydantic_core import InitErrorDetails
from sqlalchemy import bindparam, delete, select, update

from anycarrier import plugins
from anycarrier.credentials import Credential, trimmed
from anycarrier.errors import AnycarrierError, ConfigurationError, UnknownCredential, UnknownProvider
from anycarrier_server.encryption import Sealer
from anycarrier_server.fair_scheduling import WORKSPACE
from anycarrier_server.refusals import InUse
from anycarrier_server.store.columns import new_id, parse_id, public_id, utc_now, word
from anycarrier_server.store.database import Database
from anycarrier_server.store.models import CredentialRow, EngineRow, LineRow
from anycarrier_server.store.statements import Statement, table_of
from anycarrier_server.store.vault import place

if TYPE_CHECKING:
    from anycarrier.testing.sandbox import Sandbox

TABLE = table_of(CredentialRow)
BY_ID = Statement(select(TABLE).where(TABLE.c.id == bindparam("id")), into=[CredentialRow])

Build = Callable[[str, SecretStr, Mapping[str, Any]], Credential]
"""Provider name, API key and details to a credential: :meth:`Carriers.build`."""

FRESH = 1.0
"""Seconds a credential is used without another look: every webhook asks for one."""

OURS = frozenset({"base_url", "provider"})
"""Details a client may not set: where requests go is not for the outside to say, but for servers the operator names."""
ADVICE = "; the operator names servers that credentials may use in the setting base_urls"


class Carriers:
    """The installed carriers, and the sandboxes that play them."""

    def __init__(self) -> None:
        self.sandboxes: dict[str, Sandbox] = {}

    def build(self, provider: str, api_key: SecretStr, metadata: Mapping[str, Any]) -> Credential:
        """The credential. ``ValidationError`` names what is missing or wrong; ``UnknownProvider``: what to install;
        ``ConfigurationError``: the key is of a kind that the carrier's plugin cannot use.

        Details the carrier has no use for are left out.
        """
        kind = plugins.get_provider(provider).credential_type
        known = {
            name: value for name, value in metadata.items() if name in kind.model_fields and value not in (None, "")
        }
        sandbox = self.sandboxes.get(provider)
        if sandbox is not None:
            known = sandbox.lead_here(known)
        try:
            made = kind.from_api_key(api_key.get_secret_value(), known)
        except ValidationError:
            raise
        except ConfigurationError:
            if missing := _missing(kind, known):
                raise ValidationError.from_exception_data(kind.__name__, missing) from None
            raise
        return made if sandbox is None else sandbox.credential(**_plain(made))


def is_key(provider: str, field: str) -> bool:
    """Whether a field of the carrier's credential is what people give as *the* key. Further secrets are details."""
    return plugins.get_provider(provider).credential_type.key_field() == field


def _missing(kind: type[Credential], known: Mapping[str, Any]) -> list[InitErrorDetails]:
    """Required details that are not there. Secrets are not among them: the key is one, under some name."""
    return [
        InitErrorDetails(type="missing", loc=(name,), input=None)
        for name, field in kind.model_fields.items()
        if field.is_required() and field.annotation is not SecretStr and name not in known
    ]


def _plain(credential: Credential) -> dict[str, Any]:
    """What a credential was given, secrets as text."""
    values = {name: getattr(credential, name) for name in credential.model_fields_set}
    return {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for name, value in values.items()
        if value is not None
    }


def masked(secret: str) -> str:
    """``…cdef``: enough to recognise one's own key."""
    return f"…{secret[-4:]}" if len(secret) >= 12 else "…"


class CredentialIncomplete(ConfigurationError):
    """The credential is stored, but the carrier needs more than it holds; ``missing`` names the details."""

    def __init__(self, credential_id: str, missing: list[str]) -> None:
        self.credential_id = credential_id
        self.missing = missing
        super().__init__(f"credential {credential_id} lacks {', '.join(missing) or 'details'}: add them to it first")


class CredentialUnusable(CredentialIncomplete):
    """The credential is stored, and details of it cannot be right; they are what is ``missing``."""

    def __init__(self, credential_id: str, problem: ValidationError) -> None:
        super().__init__(credential_id, _fields(problem))
        self.args = (f"credential {credential_id} cannot be used: {_complaints(problem)}. Correct it first",)


class CredentialMalformed(ConfigurationError):
    """A key or a detail that is given cannot be right, so nothing is kept; ``problem`` is the carrier's plugin's."""

    def __init__(self, problem: ValidationError | ConfigurationError) -> None:
        self.problem = problem
        super().__init__(_complaints(problem) if isinstance(problem, ValidationError) else str(problem))


WITHOUT_INPUT: Mapping[str, Any] = {"include_url": False, "include_context": False, "include_input": False}
"""What is said of a ``ValidationError``: its input may be a secret."""


def _fields(problem: ValidationError) -> list[str]:
    return sorted({".".join(map(str, one["loc"])) for one in problem.errors(**WITHOUT_INPUT)})


def _complaints(problem: ValidationError) -> str:
    return "; ".join(
        one["msg"].removeprefix("Value error, ")
        if one["type"] == "value_error"  # a plugin's own words, which name the field
        else f"{'.'.join(map(str, one['loc']))}: {one['msg']}"
        for one in problem.errors(**WITHOUT_INPUT)
    )


class Credentials:
    """The credentials of every workspace."""

    def __init__(self, db: Database, sealer: Sealer, build: Build, *, base_urls: Sequence[str] = ()) -> None:
        """``base_urls`` are the only ones that a client may give (:attr:`Settings.base_urls`)."""
        self._db = db
        self._sealer = sealer
        self._build = build
        self._base_urls = base_urls
        self._opened: dict[UUID, tuple[int, Credential]] = {}
        self._fresh: dict[str, tuple[float, UUID, Credential]] = {}

    async def create(
        self,
        workspace_id: UUID,
        *,
        name: str,
        provider: str,
        api_key: SecretStr,
        metadata: Mapping[str, Any] | None = None,
        trusted: bool = False,
        is_default: bool = False,
    ) -> CredentialRow:
        """Seal and keep a credential. What the carrier needs and did not get is in ``missing``.

        ``metadata`` are the carrier's further details. ``trusted`` lets it hold any ``base_url`` (sandboxes); a
        client's may hold one of the operator's servers. :class:`CredentialMalformed` when what is given cannot be
        right, ``UnknownProvider`` when the carrier has no plugin here.
        """
        id_ = new_id()
        if not trusted:
            _refuse_slips(provider, api_key, metadata or {}, held=())
        columns = self._columns(id_, provider, api_key, dict(metadata or {}), trusted)
        if not trusted and not self._base_urls and "base_url" in columns["missing"]:
            raise DetailRefused(f"{provider} needs base_url{ADVICE}, and has named none")
        async with self._db.write() as session:
            row = CredentialRow(
                id=id_, workspace_id=workspace_id, name=name, provider=provider, is_default=is_default, **columns
            )
            session.add(row)
        return row

    async def change(
        self,
        row: CredentialRow,
        *,
        name: str | None = None,
        api_key: SecretStr | None = None,
        metadata: Mapping[str, Any] | None = None,
        trusted: bool = False,
    ) -> CredentialRow:
        """Rename it, replace its key, or merge details in (a detail set to None is removed).

        :class:`CredentialMalformed` as for :meth:`create`.
        """
        fields: dict[str, Any] = {"updated_at": utc_now()}
        if name is not None:
            fields["name"] = name
        async with self._db.write() as session:
            query = select(CredentialRow).where(CredentialRow.id == row.id, CredentialRow.deleted_at.is_(None))
            current = await session.scalar(query.with_for_update())
            if current is None:
                raise UnknownCredential(row.public_id)
            if api_key is not None or metadata is not None:
                held_key, held = self.held(current)
                if not trusted:
                    self._refuse_ours(metadata or {})
                    _refuse_slips(current.provider, api_key or held_key, metadata or {}, held=held)
                merged = {**held, **(metadata or {})}
                merged = {k: v for k, v in merged.items() if v is not None}
                fields |= self._columns(row.id, current.provider, api_key or held_key, merged, trusted=True)
                fields["version"] = current.version + 1
            change = update(CredentialRow).where(CredentialRow.id == row.id).values(**fields)
            changed = (await session.scalars(change.returning(CredentialRow))).one()
        self._fresh.clear()
        return changed

    async def get(self, workspace_id: UUID, credential_id: UUID | None) -> CredentialRow | None:
        """The credential's row; None when unknown, deleted or another workspace's."""
        row: CredentialRow | None = await self._db.row(BY_ID, id=credential_id) if credential_id else None
        if row is None or row.workspace_id != workspace_id or row.deleted_at is not None:
            return None
        return row

    async def list(self, workspace_id: UUID, *, provider: str | None = None) -> list[CredentialRow]:
        """Rows, the default first, then oldest first."""
        query = select(CredentialRow).where(
            CredentialRow.workspace_id == workspace_id, CredentialRow.deleted_at.is_(None)
        )
        if provider is not None:
            query = query.where(CredentialRow.provider == provider)
        order = (CredentialRow.is_default.desc(), CredentialRow.created_at, CredentialRow.id)
        async with self._db.read() as session:
            return list(await session.scalars(query.order_by(*order)))

    async def delete(self, row: CredentialRow) -> None:
        """Forget the secrets; ``InUse`` while lines need them."""
        async with self._db.write() as session:
            held = select(LineRow.id).where(LineRow.credential_id == row.id, LineRow.status != word("released"))
            if lines := list(await session.scalars(held)):
                raise InUse("credential", (public_id("line", id_) for id_ in lines))
            gone = update(CredentialRow).where(CredentialRow.id == row.id)
            await session.execute(gone.values(deleted_at=utc_now(), sealed=b"", status="deleted"))
        self._opened.pop(row.id, None)
        self._fresh.clear()

    async def credential(self, credential_id: str) -> Credential:
        """The credential itself, for the exchange. The calling task works for its workspace from then on
        (``fair_scheduling.py``).

        ``UnknownCredential``, or :class:`CredentialIncomplete`. A change by another process is seen within ``FRESH``
        seconds, one by this process at once.
        """
        known = self._fresh.get(credential_id)
        if known is None or time.monotonic() >= known[0]:
            known = self._fresh[credential_id] = (time.monotonic() + FRESH, *await self._credential(credential_id))
        _, workspace_id, found = known
        WORKSPACE.set(workspace_id)
        return found

    async def _credential(self, credential_id: str) -> tuple[UUID, Credential]:
        id_ = parse_id("credential", credential_id)
        row: CredentialRow | None = await self._db.row(BY_ID, id=id_) if id_ else None
        if row is None or row.deleted_at is not None:
            raise UnknownCredential(credential_id)
        if row.status == "incomplete":
            raise CredentialIncomplete(row.public_id, row.missing)
        opened = self._opened.get(row.id)
        if opened is None or opened[0] != row.version:
            api_key, metadata = self.held(row)
            try:
                made = self._build(row.provider, api_key, metadata)
            except ValidationError as problem:
                # Kept before the carrier's plugin looked at it as closely as it does now.
                raise CredentialUnusable(row.public_id, problem) from None
            opened = self._opened[row.id] = (row.version, made)
        return row.workspace_id, opened[1]

    def _columns(
        self, id_: UUID, provider: str, api_key: SecretStr, metadata: dict[str, Any], trusted: bool
    ) -> dict[str, Any]:
        if not trusted:
            self._refuse_ours(metadata)
        account, missing = None, []
        key = trimmed(api_key.get_secret_value())
        metadata = {name: trimmed(value) if isinstance(value, str) else value for name, value in metadata.items()}
        try:
            account = self._build(provider, SecretStr(key), metadata).account
        except UnknownProvider:
            raise
        except ConfigurationError as problem:
            raise CredentialMalformed(problem) from None
        except ValidationError as problem:
            if any(one["type"] != "missing" for one in problem.errors(**WITHOUT_INPUT)):
                raise CredentialMalformed(problem) from None
            missing = _fields(problem)
        sealed = self._sealer.seal(
            json.dumps({"api_key": key, "metadata": metadata}), place("credentials", "sealed", id_)
        )
        return {
            "sealed": sealed,
            "masked_key": masked(key),
            "account": account,
            "status": "incomplete" if missing else "active",
            "missing": missing,
        }

    def _refuse_ours(self, metadata: Mapping[str, Any]) -> None:
        refused = OURS & set(metadata)
        if str(metadata.get("base_url")).strip().rstrip("/") in self._base_urls:
            refused -= {"base_url"}
        if refused:
            raise DetailRefused(
                f"metadata may not hold {', '.join(sorted(refused))}{ADVICE if 'base_url' in refused else ''}"
            )

    def held(self, row: CredentialRow) -> tuple[SecretStr, dict[str, Any]]:
        """The key and the further details, unsealed."""
        held = json.loads(self._sealer.open(row.sealed, place("credentials", "sealed", row.id)))
        return SecretStr(held["api_key"]), held["metadata"]


class DetailRefused(AnycarrierError, ValueError):
    """A detail that is not the client's to set."""


def _refuse_slips(provider: str, api_key: SecretStr, metadata: Mapping[str, Any], held: Collection[str]) -> None:
    """Details are free: most that are unknown are kept for the client. Not those that can only be slips."""
    if provider not in plugins.provider_names():
        return  # what builds the credential says so
    kind = plugins.get_provider(provider).credential_type
    given = {name for name, value in metadata.items() if value is not None}
    key = kind.key_field()
    if key in given and kind.from_api_key.__func__ is Credential.from_api_key.__func__:  # type: ignore[attr-defined]
        if metadata[key] != api_key.get_secret_value():
            raise DetailRefused(f"metadata.{key} is not a detail: the api_key beside metadata is the {kind.label(key)}")
    absent = {squeezed(name): name for name in kind.model_fields.keys() - given - set(held) - OURS - {key}}
    for name in sorted(given - kind.model_fields.keys())[:50]:
        for meant in get_close_matches(squeezed(name)[:100], absent, 1, 0.9):
            raise DetailRefused(f"metadata.{name} is no detail of this carrier; did you mean {absent[meant]}?")


def squeezed(name: str) -> str:
    """``authId``, ``AUTH-ID`` and ``auth_id`` alike."""
    return "".join(filter(str.isalnum, name)).lower()


ENGINE = table_of(EngineRow)
ENGINES_OF_WORKSPACE = Statement(
    select(ENGINE).where(ENGINE.c.workspace_id == bindparam("workspace_id")).order_by(ENGINE.c.name), into=[EngineRow]
)


class StoredEngines:
    """The engines that workspaces have set up for themselves."""

    def __init__(self, db: Database, sealer: Sealer) -> None:
        self._db = db
        self._sealer = sealer

    async def list(self, workspace_id: UUID) -> Sequence[EngineRow]:
        """The workspace's, by name."""
        rows: list[EngineRow] = await self._db.rows(ENGINES_OF_WORKSPACE, workspace_id=workspace_id)
        return rows

    def settings(self, row: EngineRow) -> dict[str, Any]:
        """The settings themselves, secrets in clear."""
        found: dict[str, Any] = json.loads(self._sealer.open(row.sealed, place("engines", "sealed", row.id)))
        return found

    async def put(
        self, workspace_id: UUID, name: str, settings: Mapping[str, Any], secrets: frozenset[str]
    ) -> EngineRow:
        """Keep these settings in place of what was there; those named in ``secrets`` are shown masked."""
        shown = {field: masked(str(value)) if field in secrets else value for field, value in settings.items()}
        async with self._db.write() as session:
            mine = select(EngineRow).where(EngineRow.workspace_id == workspace_id, EngineRow.name == name)
            row = await session.scalar(mine.with_for_update())
            if row is None:
                row = EngineRow(id=new_id(), workspace_id=workspace_id, name=name, version=0)
                session.add(row)
            row.sealed = self._sealer.seal(json.dumps(dict(settings)), place("engines", "sealed", row.id))
            row.shown, row.version = shown, row.version + 1
        return row

    async def delete(self, workspace_id: UUID, name: str) -> bool:
        """Forget them; False when there were none."""
        gone = delete(EngineRow).where(EngineRow.workspace_id == workspace_id, EngineRow.name == name)
        async with self._db.write() as session:
            return (await session.execute(gone.returning(EngineRow.id))).scalar_one_or_none() is not None
