"""Running the notebooks: the list of pages, freshness, Papermill, parameters, artefacts.

A notebook begins with `page = chain.begin("03_interactions", globals())`; the command line calls
`run_chain`. Nothing here knows what the pages are about.
"""

from dallrec_core.chain.notebook import OpenPage, begin, table
from dallrec_core.chain.run import plan, run_chain

__all__ = ["OpenPage", "begin", "plan", "run_chain", "table"]
