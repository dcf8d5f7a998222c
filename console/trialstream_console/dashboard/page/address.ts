// Addresses: a path and its query string.

export type Params = Record<string, string | number | boolean | readonly string[] | null | undefined>;

/** An address: `link("/trials", { where: "status = Running" })`. Null, false and empty values are left out. */
export function link(path: string, params: Params = {}): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) append(query, name, value);
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}

export function append(query: URLSearchParams, name: string, value: Params[string]): void {
  if (value === null || value === undefined || value === false || value === "") return;
  if (Array.isArray(value)) for (const each of value) query.append(name, each);
  else query.append(name, value === true ? "1" : String(value));
}
