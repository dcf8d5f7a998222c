"""The I/O thread and the life of a connection.

| module | job |
|---|---|
| `io_thread` | the background thread, and calls into it |
| `caller` | the thread that waits for a call; functions of the user run there |
| `loop` | its event loop, whose blocking work runs in daemon threads |
| `lifecycle` | opening and closing, once each, within deadlines |
| `shutdown` | callbacks at the end of the process |
| `origin` | the line of the user's code that a warning points to |
"""
