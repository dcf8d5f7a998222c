"""Archives: the log written to one Avro file, and read back into a log; docs/archive.md describes the file.

| module | job |
|---|---|
| `exporting`, `importing` | from the log to a file, and back |
| `file` | the file |
| `log` | the file as a source of streams |
| `records` | the records of a file, and its blocks |
| `selection` | the part of the log that an export keeps |
"""

from __future__ import annotations

from trialstream_consumer.archive.exporting import Exported, export_log
from trialstream_consumer.archive.file import Archive, ArchiveError
from trialstream_consumer.archive.importing import import_archive
from trialstream_consumer.archive.log import ArchiveLog
from trialstream_consumer.archive.selection import Members, Selection

__all__ = ["Archive", "ArchiveError", "ArchiveLog", "Exported", "Members", "Selection", "export_log", "import_archive"]
