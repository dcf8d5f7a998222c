"""The dashboard's server: the page's files, and the API under `/api/v1` from which the page reads.

| module | has |
|---|---|
| `app` | the application: routes, middleware, start and end |
| `access` | who may send requests: the token, the proxy, the `Host` header, the security headers |
| `limits` | limits of sizes, rates and connections |
| `static` | the page's files |
| `openapi` | the description of the API |
| `about`, `trials`, `series`, `bands`, `live` | groups of endpoints: each has a tuple `ENDPOINTS` |
| `details`, `statuses`, `selection` | one trial as JSON; its status; the query of a view |
| `feed`, `recent_changes` | what `/live` sends: one feed for all clients; what they have missed |
| `histories`, `curves`, `lines` | curves in memory; their rows; the points that a plot needs |
| `answers` | JSON answers, compressed and with an ETag |
| `endpoints` | the declaration of an endpoint, from its function's signature |
| `context` | what all requests of a process share |
| `encoding` | logged values as JSON; columns of doubles as bytes |
| `shapes` | JSON schemas of types, and checks by them |
| `refusals` | errors as answers |
| `settings` | the settings of a dashboard |

The package needs the extra `dashboard` (Starlette and uvicorn).
"""
