// Bundles the page into ../static: hashed file names, index.html without inline code, the licences of what is bundled.
// Usage: node build.mjs [FOLDER]
import { build } from "esbuild";
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const page = dirname(fileURLToPath(import.meta.url));
const target = resolve(process.argv[2] ?? join(page, "..", "static"));
const fresh = `${target}.new`;

/** The licence texts of the packages that are in the bundle. */
function licences(inputs) {
  const packages = new Set();
  for (const input of inputs) {
    const match = /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input);
    if (match) packages.add(match[1]);
  }
  return [...packages].sort().map((name) => {
    const folder = join(page, "node_modules", name);
    const { version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
    const file = readdirSync(folder).find((each) => /^licen[cs]e/i.test(each));
    if (!file) throw new Error(`${name}: expected a licence file in ${folder}, found none`);
    return `${name} ${version} (${license})\n\n${readFileSync(join(folder, file), "utf8").trim()}\n`;
  }).join(`\n${"-".repeat(80)}\n\n`);
}

rmSync(fresh, { recursive: true, force: true });
mkdirSync(fresh, { recursive: true });
const options = {
  absWorkingDir: page,
  outdir: fresh,
  entryNames: "[name]-[hash]",
  chunkNames: "[name]-[hash]",
  bundle: true,
  target: ["es2022"],
  jsx: "automatic",
  jsxImportSource: "preact",
  minify: true,
  legalComments: "none",
  charset: "utf8",
  metafile: true,
  logLevel: "warning",
};
const { metafile } = await build({ ...options, entryPoints: ["main.tsx"], splitting: true, format: "esm" });
const first = await build({ ...options, entryPoints: ["early.ts"], format: "iife" });

const outputs = Object.entries(metafile.outputs);
const [early] = Object.keys(first.metafile.outputs);
const [script, main] = outputs.find(([, output]) => output.entryPoint === "main.tsx");
const preloads = main.imports.filter((each) => each.kind === "import-statement").map((each) => basename(each.path));
const head = [
  `<link rel="icon" href="/static/icon.svg" type="image/svg+xml">`,
  `<script async src="/static/${basename(early)}"></script>`,
  `<link rel="stylesheet" href="/static/${basename(main.cssBundle)}">`,
  ...preloads.map((name) => `<link rel="modulepreload" href="/static/${name}">`),
  `<script type="module" src="/static/${basename(script)}"></script>`,
];
const html = readFileSync(join(page, "index.html"), "utf8").replace("<!-- bundle -->", head.join("\n"));
writeFileSync(join(fresh, "index.html"), html);
writeFileSync(join(fresh, "icon.svg"), readFileSync(join(page, "icon.svg")));
writeFileSync(join(fresh, "LICENSES.txt"), licences(Object.keys(metafile.inputs)));
if (existsSync(target)) rmSync(target, { recursive: true });
renameSync(fresh, target);
