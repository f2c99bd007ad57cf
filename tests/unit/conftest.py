"""Fixtures of several files."""

from __future__ import annotations

from tiny_book import tiny as tiny
