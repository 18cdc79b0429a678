"""Alembic's scripts: one file per step of the schema."""
