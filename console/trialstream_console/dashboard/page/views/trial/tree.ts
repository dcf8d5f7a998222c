// Names such as train/loss as a tree of folders.

export interface Folder<T> {
  /** The name of the folder, "" for the root. */
  readonly name: string;
  /** The whole path with a slash at its end, "" for the root. */
  readonly path: string;
  readonly folders: Folder<T>[];
  readonly leaves: { readonly name: string; readonly value: T }[];
  /** Leaves here and below. */
  count: number;
}

/** The tree of values by their names. A name is cut at its slashes; its last part is the leaf. */
export function treeOf<T extends { name: string }>(values: readonly T[]): Folder<T> {
  const root: Folder<T> = { name: "", path: "", folders: [], leaves: [], count: 0 };
  const folders = new Map<string, Folder<T>>([["", root]]);
  for (const value of [...values].sort((a, b) => compared(a.name, b.name))) {
    const cut = value.name.lastIndexOf("/") + 1;
    let path = value.name.slice(0, cut);
    folderOf(folders, path).leaves.push({ name: value.name.slice(cut) || value.name, value });
    for (;;) {
      folders.get(path)!.count++;
      if (path === "") break;
      path = parentOf(path);
    }
  }
  return root;
}

/** The leaves of a folder and of those below it, each with its path from there. */
export function below<T>(folder: Folder<T>, prefix = ""): { readonly name: string; readonly value: T }[] {
  const own = folder.leaves.map(({ name, value }) => ({ name: prefix + name, value }));
  return [...own, ...folder.folders.flatMap((each) => below(each, `${prefix}${each.name}/`))];
}

/** The order of names: numbers in them by their value, so that layer/10 comes after layer/9. */
export function compared(a: string, b: string): number {
  return ORDER.compare(a, b) || (a < b ? -1 : a > b ? 1 : 0);
}

const ORDER = new Intl.Collator("en", { numeric: true });

function folderOf<T>(folders: Map<string, Folder<T>>, path: string): Folder<T> {
  const known = folders.get(path);
  if (known) return known;
  const parent = parentOf(path);
  const made: Folder<T> = { name: path.slice(parent.length, -1), path, folders: [], leaves: [], count: 0 };
  folderOf(folders, parent).folders.push(made);
  folders.set(path, made);
  return made;
}

function parentOf(path: string): string {
  return path.length < 2 ? "" : path.slice(0, path.lastIndexOf("/", path.length - 2) + 1);
}
