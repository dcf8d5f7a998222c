// The first request of a page, sent while the page's own code is on its way: a script of its own, and a short one.
import { firstRequest } from "./table/question";

/** A request that was sent before `api.ts` was there, which takes its answer. */
export interface Early { address: string; answer: Promise<Response> }

try {
  const address = firstRequest(location.pathname, new URLSearchParams(location.search));
  if (address !== null) {
    const answer = fetch(`/api/v1${address}`, { credentials: "same-origin", headers: { Accept: "application/json" }, cache: "no-store" });
    answer.catch(() => undefined); // The page's code tries again.
    (globalThis as { early?: Early }).early = { address, answer };
  }
} catch {
  // An address with a broken escape: the page says what it makes of it.
}
