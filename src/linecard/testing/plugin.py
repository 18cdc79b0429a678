"""The pytest plugin of linecard[testing]: imports nothing of linecard until a test asks for it."""

from __future__ import annotations
