// Unpacks the browser of @sparticuz/chromium into node_modules/.chromium, and prints the path of its executable.
import { chmodSync, createReadStream, createWriteStream, existsSync, mkdirSync, renameSync } from "node:fs";
import { dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { fileURLToPath } from "node:url";
import { createBrotliDecompress } from "node:zlib";

const modules = join(dirname(fileURLToPath(import.meta.url)), "node_modules");
const target = join(modules, ".chromium", "chromium");
if (!existsSync(target)) {
  mkdirSync(dirname(target), { recursive: true });
  const packed = createReadStream(join(modules, "@sparticuz", "chromium", "bin", "chromium.br"));
  await pipeline(packed, createBrotliDecompress(), createWriteStream(`${target}.new`));
  chmodSync(`${target}.new`, 0o755);
  renameSync(`${target}.new`, target);
}
process.stdout.write(`${target}\n`);
