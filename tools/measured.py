"""Note what a profile's finished run took, for the table of the page "Reproduce it".

    python tools/measured.py smoke

It writes `notebooks/profiles/measured.json`. The appendices are left out: what they take depends on
the data at hand, not on the profile.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from dallrec_core.chain import artefacts, freshness
from dallrec_core.chain.pages import PAGES, notebooks_dir, remedy, run_dir


def measure(run: str) -> dict[str, Any]:
    """Return what a run took: minutes, largest peak memory of a notebook, machine, date, commit."""
    pages = [page for page in PAGES if not page.data]
    manifests = [freshness.read_manifest(page, run) for page in pages]
    done = [manifest for manifest in manifests if manifest]
    if len(done) < len(pages):
        sys.exit(f"run '{run}' is not finished; {remedy(run)}")
    costs = [artefacts.read_json(run_dir(run) / p.name / freshness.COSTS) for p in pages]
    devices = {cost["device"] for cost in costs if cost["device"]} - {"cpu"}
    return {
        "minutes": round(sum(manifest["seconds"] for manifest in done) / 60, 1),
        "peak_mib": max(int(cost["peak_mib"]) for cost in costs),
        "machine": ", ".join([f"{os.cpu_count()} cores", *sorted(devices)]),
        "date": max(manifest["finished"] for manifest in done)[:10],
        "commit": ", ".join(sorted({manifest["commit"] for manifest in done})),
    }


if __name__ == "__main__":
    place = notebooks_dir() / "profiles" / "measured.json"
    artefacts.write_json(artefacts.read_json(place) | {sys.argv[1]: measure(sys.argv[1])}, place)
    print(place)
