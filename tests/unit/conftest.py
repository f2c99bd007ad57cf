"""Fixtures of several files."""

from __future__ import annotations

from file_server import server as server
from file_server import store as store
from tiny_book import tiny as tiny
