"""Events on disk.

| module | job |
|---|---|
| `folder` | the folder of one writer, with its lock, and its segment files |
| `checks` | checks of paths that users give |
| `segment` | the format of a segment file |
"""
