"""Events on disk.

| module | job |
|---|---|
| `checks` | checks of paths that users give |
| `finding` | the spools at and below a path |
| `refused` | files of events that Kafka refused, beside the segments |
| `folder` | the folder of one writer and its segment files |
| `locked` | a folder with a lock |
| `disk` | writing folders, whole files and whole blocks |
| `segment` | the format of a segment file |
| `container` | Avro object containers, read within bounds |
"""
