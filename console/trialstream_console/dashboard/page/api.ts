// The client of /api/v1: JSON and binary answers, errors with their code, answers kept by their ETag.
import type { ApiError } from "./shapes";
import { link, type Params } from "./address";
import type { Early } from "./early";

export * from "./shapes";

const ROOT = "/api/v1";

export type FailureCode = ApiError["error"]["code"] | "away";

/** An error answer, or no answer (`away`). `column` is the place in the text of a query. */
export class Failure extends Error {
  constructor(
    readonly code: FailureCode,
    message: string,
    readonly place?: string,
    readonly column?: number,
  ) {
    super(message);
    this.name = "Failure";
  }
}

export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}

/** The answer to a request that was sent before this code was there, if it is this one. It is taken once, and only soon. */
function sentEarly(address: string): Promise<Response> | undefined {
  const here = globalThis as { early?: Early };
  const { early } = here;
  if (early?.address !== address) return undefined;
  delete here.early;
  return performance.now() < SOON ? early.answer : undefined;
}

const SOON = 10_000; // milliseconds

async function request(path: string, init: RequestInit, sent?: Promise<Response>): Promise<Response> {
  let response: Response;
  try {
    response = await (sent ?? fetch(ROOT + path, { credentials: "same-origin", ...init }));
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new Failure("away", "No answer. Is `trialstream dashboard` running?");
  }
  if (response.ok || response.status === 304) return response;
  throw await failure(response);
}

export async function failure(response: Response): Promise<Failure> {
  try {
    const { error } = (await response.json()) as ApiError;
    if (typeof error.code === "string") return new Failure(error.code, error.message, error.place, error.column);
  } catch {
    // Not an answer of the API: a proxy's page, or nothing.
  }
  return new Failure(STATUSES[response.status] ?? "internal", `HTTP ${response.status} ${response.statusText}`.trim());
}

/** The kinds of errors that proxies answer, and the server to requests that it does not take. */
const STATUSES: Record<number, FailureCode> = {
  401: "unauthorized", 403: "unauthorized", 413: "too_large", 429: "too_many", 502: "away", 503: "away", 504: "away",
};

/** The latest answers by address: a 304 takes its body from here. The oldest go first. */
const kept = new Map<string, { etag: string; body: unknown }>();
const KEPT = 40; // windows of 200 rows: about 4 MB

/** The JSON answer of a GET. */
export async function get<T>(path: string, params: Params = {}, signal?: AbortSignal): Promise<T> {
  const address = link(path, params);
  const known = kept.get(address);
  const headers: Record<string, string> = { Accept: "application/json" };
  if (known) headers["If-None-Match"] = known.etag;
  const response = await request(address, { headers, signal, cache: "no-store" }, sentEarly(address));
  if (response.status === 304 && known) return known.body as T;
  const body = (await response.json()) as T;
  const etag = response.headers.get("ETag");
  kept.delete(address);
  if (etag) kept.set(address, { etag, body });
  for (const oldest of kept.keys()) {
    if (kept.size <= KEPT) break;
    kept.delete(oldest);
  }
  return body;
}

/** A POST of JSON. The header X-Trialstream keeps other sites' forms from writing. */
async function send(path: string, body: unknown, accept: string, signal?: AbortSignal): Promise<Response> {
  return request(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: accept, "X-Trialstream": "1" },
    body: JSON.stringify(body),
    signal,
  });
}

/** A POST without an answer: tags and notes. */
export async function post(path: string, body: unknown, signal?: AbortSignal): Promise<void> {
  await send(path, body, "application/json", signal);
}

/** A binary answer: its header, and all its columns as one array of doubles. */
export interface Columnar<H> {
  header: H;
  doubles: Float64Array;
}

/** A POST with a binary answer: `/series` and `/bands`. */
export async function columns<H>(path: string, body: unknown, signal?: AbortSignal): Promise<Columnar<H>> {
  const response = await send(path, body, "application/vnd.trialstream.columns", signal);
  return decode<H>(await response.arrayBuffer());
}

/** The parts of a binary answer: length of the header, header, padding to a multiple of 8, doubles. */
export function decode<H>(buffer: ArrayBuffer): Columnar<H> {
  const cut = (): Failure => new Failure("internal", "the binary answer: expected a header and doubles, got less");
  if (buffer.byteLength < 4) throw cut();
  const length = new DataView(buffer).getUint32(0, true);
  const start = Math.ceil((4 + length) / 8) * 8;
  if (start > buffer.byteLength && 4 + length > buffer.byteLength) throw cut();
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length))) as H;
  if (start >= buffer.byteLength) return { header, doubles: new Float64Array(0) };
  const count = Math.floor((buffer.byteLength - start) / 8);
  return { header, doubles: LITTLE ? new Float64Array(buffer, start, count) : swapped(buffer, start, count) };
}

const LITTLE = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

function swapped(buffer: ArrayBuffer, start: number, count: number): Float64Array {
  const view = new DataView(buffer, start);
  return Float64Array.from({ length: count }, (_, index) => view.getFloat64(index * 8, true));
}
