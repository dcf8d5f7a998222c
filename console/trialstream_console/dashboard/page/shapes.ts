// The shapes of /api/v1. Times are microseconds since 1970 UTC as numbers; uids are texts; durations are seconds.

/** A logged value as JSON. Forms that JSON lacks are objects with one key. */
export type Value =
  | null | boolean | number | string | Value[]
  | { [key: string]: Value }          // a dict whose keys may be anything: {"$dict": {...}} if one of its keys begins with "$"
  | { $float: "NaN" | "Infinity" | "-Infinity" }
  | { $int: string }                  // beyond 2^53
  | { $bytes: string; size: number } // base64 of the first 1,024 bytes
  | { $long: string; start: string; size: number }; // of a table only: too large for a cell; its type, the beginning of a text

/** An error answer, of any endpoint. `place`: parameter or path; `column`: 0-based place in the text of a query. */
export interface ApiError { error: { code: "query" | "not_found" | "unauthorized" | "too_many" | "too_large" | "too_slow" | "mongo_away" | "kafka_away" | "read_only" | "internal"; message: string; place?: string; column?: number } }

// GET /about  (never fails: says what is away)
export interface About { version: string; prefix: string; projection: string | null; writes: boolean; mongo: "ok" | string; kafka: "ok" | "off" | string; live: "ok" | string; time: number }

// GET /projects
export interface ProjectRow { uid: string; name: string; description: string; trials: number; running: number; failed: number; created: number | null; latest: number | null }
// GET /groups?project=UID      same shape plus project
export interface GroupRow extends ProjectRow { project: string | null }

// GET /columns?where=…&project=…&group=…   what the trials have (bounded sample): for choosing columns, and completion
export interface ColumnInfo { path: string; kind: "field" | "parameter" | "metric" | "chrono" | "tag" | "metadata"; type: "number" | "text" | "time" | "status" | "mixed"; count: number; operators: string[] }
export interface Columns { columns: ColumnInfo[]; sampled: number }

// GET /trials?where=TEXT&project=&group=&columns=a&columns=b&sort=-created&limit=200&offset=0[&count=1]     ETag
// where: the query language, such as  status = Running and metrics.loss.last < 0.1 and parameters.opt in ("adam", "sgd")
export interface TrialTable {
  columns: string[];
  uids: string[];
  names: string[];
  statuses: StatusInfo[];
  values: Value[][];          // by column, then by row: values[column][row]; times are {"$time": micros}? no: plain numbers
  total: number;              // trials that match
  offset: number;
  cursor: string;             // give it to /live as since
}
export interface StatusInfo { name: string; code: number; lost: boolean }   // lost: running, and silent for 60 s

// GET /trials/UID
export interface TrialDetail {
  uid: string; name: string; version: string | null; description: string; project: string | null; group: string | null;
  status: StatusInfo; created: number | null; started: number | null; finished: number | null; last_seen: number | null;
  parameters: Record<string, Value>; metadata: Record<string, Value>; tags: Record<string, Value>;   // an accumulated metadata is its summary dict
  notes: { text: string }[];
  metrics: MetricInfo[]; chronos: ChronoInfo[];
  errors: { type: string; message: string; traceback: string; time: number | null }[]; errors_dropped: number;
  attempts: { key: string; started: number | null; resume_step: number | null; world_size: number | null }[];
  participants: { writer: string; attempt: number; rank: number | null; host: string; joined: number | null; last_seen: number | null; status: string; error: string; latest: boolean }[];
  writers: { writer: string; events: number }[];
  starts: number; lost_events: number; rows: number; size: number; state_version: number;
}
export interface MetricInfo { name: string; count: number; nan: number; inf: number; neginf: number; skipped: number; last: Value; last_step: Value; min: number | null; max: number | null; avg: number | null; sd: number | null; best?: Value; best_step?: Value }
export interface ChronoInfo { name: string; count: number; skipped: number; sum: number | null; avg: number | null; sd: number | null; min: number | null; max: number | null; last: number | null; open: number; failed: number }

// POST /series     binary answer, see below. One request for all curves of a page.
export interface SeriesRequest {
  curves: { trial: string; name: string; section?: "metrics" | "chronos"; by?: "rank" | "writer" }[];  // at most 200
  x: "step" | "time" | "relative" | { metric: string };   // relative: seconds since the trial's start
  from?: number; to?: number;       // of x, inclusive
  width: number;                    // pixel columns, 1 to 4096; each keeps its first, last, minimum and maximum, so no spike is lost
  attempts?: boolean;               // superseded rows too
  until?: number;                   // rows logged up to this time only (time travel)
  since?: Record<string, number>;   // trial uid → rows_seen of an earlier answer: only later rows, raw if they are few
  outline?: boolean;                // answer at once: of long curves that are not in memory, only what their outlines have
}
// The answer: application/vnd.trialstream.columns: u32 little-endian length of the header, the header as JSON, zero to seven bytes
// of padding up to a multiple of 8, then blocks of float64, little-endian; `offset` counts doubles from the first block.
export interface SeriesHeader {
  curves: {
    trial: string; name: string; group?: string;       // group: the rank or writer of by
    points: number; offset: number;                    // x at offset, y at offset + points
    total: number;                                     // rows in the range before downsampling
    exact: boolean;                                    // all rows of the range are there
    specials: { nan: number; inf: number; neginf: number; offset: number; marks: number };  // marks: x of up to 200 special rows, then kind 0 NaN 1 inf 2 -inf
    text_steps: boolean;                               // steps are texts: x is the number of the row
  }[];
  rows_seen: Record<string, number>;                   // by trial, for since
  reset: string[];                                     // trials for which since was left aside: their points are whole
  pending: string[];                                   // with outline: trials of which curves are missing, or outlines
}

// POST /bands { where?, trials?: string[], group_by?: "group" | "parameters.lr", name, section?, points, quantiles?: [0.25, 0.5, 0.75] }
//   same binary form; header { bands: { key: Value, trials: number, points, offset, columns: ["step","count","mean","sd","min","max","q0.25",…] }[] }

// GET /trials/UID/output?stream=stdout|stderr|logging|warnings&rank=   the last part, as the trial keeps it
export interface Output { stream: string; rank: number | null; streams: string[]; ranks: (number | null)[]; text: string; truncated: boolean }

// GET /trials/UID/events?cursor=&limit=100&kinds=a,b&order=oldest|newest     raw events of the log, by the stream (needs Kafka)
export interface EventPage { events: EventRow[]; cursor: string | null; kinds: string[] }   // kinds: of all events of the trial
export interface EventRow { partition: number; offset: number; time: number; appended: number; kind: string; writer: string; seq: number; summary: string; fields: Record<string, Value> }

// GET /trials/UID/timeline    chronos as intervals: first and last occurrences of each name, bounded to 2,000 (from history of section chronos)
export interface Timeline { spans: { name: string; writer: string; rank: number | null; start: number; seconds: number; failed: boolean }[]; total: number }

// GET /trials/UID/at?time=MICROS    the trial as of then: TrialDetail, folded on the server from the trial's own events; GET /trials/UID/times → { first, last, marks: {time, kind}[] (≤ 500) }

// GET /importance?where=&target=metrics.loss.last
export interface Importance { trials: number; method: "forest" | "correlation"; parameters: { path: string; importance: number; correlation: number | null; values: number }[] }

// GET /operations
export interface Operations {
  partitions: { topic: string; partition: number; begin: number; end: number; folded: number | null; lag: number | null; lag_seconds: number | null; rate: number | null; owner: string | null }[];  // rate: events/s since the last look
  projections: { name: string; live: boolean; size: number; trials: number; until: number | null; state: string }[];  // until: append time, null for the whole log
  topics: { name: string; partitions: number; replication: number; bytes: number | null; retention: string; cleanup: string }[];
  consumers: { id: string; host: string; partitions: string[] }[];
  spool: { path: string; events: number; bytes: number; writers: number }[] | null;   // null: not local
  dead_letters: number;
  troubles: string[];   // why a part cannot be seen
}
// GET /dead-letters?cursor=&limit=50
export interface DeadLetters { letters: { topic: string; partition: number; offset: number; time: number | null; reason: string; size: number; bytes: string; hex: string; decoded: Value }[]; cursor: string | null }

// GET /where/check?text=…        → { ok: true } or the error with column;  GET /where/complete?text=…&at=COLUMN → { from: number, items: { text, kind }[] }

// POST /trials/UID/tags {tags: Record<string, Value>} · POST /trials/UID/notes {text}: only if About.writes, with the header X-Trialstream: 1; 204

// GET /live?project=&group=&trial=UID&curves=name1,name2&since=CURSOR         text/event-stream; Last-Event-ID resumes
//   event: trials   data: { uids: string[], more: boolean }     trials in view that changed (≤ 4 a second; more: too many, ask again)
//   event: rows     data: { trial, from, rows_seen, names: { [name]: { steps: (number|null)[], times: number[], values: Value[] } }, more: boolean }   of the trial of the view; more: too many rows, ask /series with since
//   event: state    data: About-like { mongo, kafka, live }     at the start, and when it changes
//   event: reset    data: {}                                     the cursor is too old: load anew
//   a comment line every 15 s
