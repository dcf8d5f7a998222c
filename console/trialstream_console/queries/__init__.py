"""The query language of the commands and the dashboard: texts such as `status = Running and metrics.loss.last < 0.1`.

| module | job |
|---|---|
| `where` | `parse_where`: a text as the query that `fetch_trials` takes |
| `columns` | paths of columns and sort keys in a text |
| `completion` | `complete`: what can stand at a place of an unfinished text |
| `translation` | conditions as MongoDB-like queries |
| `parsing` | texts as conditions, with bounds |
| `grammar` | the grammar and its tokens |
| `literals` | numbers, times, quoted texts and paths |
| `conditions` | the conditions, and their text |
| `errors` | `WhereError` |
"""

from __future__ import annotations

from trialstream_console.queries.columns import parse_columns, parse_sort
from trialstream_console.queries.completion import Column, Completion, complete
from trialstream_console.queries.errors import WhereError
from trialstream_console.queries.where import parse_where

__all__ = ["Column", "Completion", "WhereError", "complete", "parse_columns", "parse_sort", "parse_where"]
