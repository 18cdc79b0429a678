"""Real telephones, PBXs and test programs at the other end, each a process of its own on 127.0.0.1."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
