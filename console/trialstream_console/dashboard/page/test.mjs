// Runs tests/*.test.ts with Node's test runner, over a bundle of each.
import { build } from "esbuild";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const page = dirname(fileURLToPath(import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "page-tests-"));
const files = readdirSync(join(page, "tests")).filter((each) => each.endsWith(".test.ts"));
try {
  await build({
    absWorkingDir: page,
    entryPoints: files.map((each) => join("tests", each)),
    outdir: folder,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    platform: "node",
    format: "esm",
    jsx: "automatic",
    jsxImportSource: "preact",
    logLevel: "warning",
  });
  const compiled = readdirSync(folder).map((each) => join(folder, each));
  process.exitCode = spawnSync(process.execPath, ["--test", "--test-reporter=dot", ...compiled], { stdio: "inherit" }).status ?? 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
