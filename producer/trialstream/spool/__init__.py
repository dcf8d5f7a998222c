"""Events on disk.

| module | job |
|---|---|
| `folder` | the folder of one writer, with its lock, and its segment files |
| `refused` | files of events that Kafka refused, beside the segments |
| `checks` | checks of paths that users give |
| `disk` | writing whole files and whole blocks |
| `segment` | the format of a segment file |
"""
