// Builds static/dist from src/, styles/ and the locked packages.
//
//   node build.mjs          writes static/dist
//   node build.mjs --check  builds into memory and fails when static/dist differs
//
// Every output is a pure function of the inputs (no dates, paths or random names), so that two
// builds are byte-identical and the committed files can be checked against their sources.
import { createHash } from "node:crypto";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const dist = join(here, "..", "static", "dist");
const modules = join(here, "node_modules");

const FONTS = {
  "fonts/inter-latin.woff2": "@fontsource-variable/inter/files/inter-latin-wght-normal.woff2",
  "fonts/inter-latin-ext.woff2": "@fontsource-variable/inter/files/inter-latin-ext-wght-normal.woff2",
  "fonts/mono-latin.woff2": "@fontsource-variable/jetbrains-mono/files/jetbrains-mono-latin-wght-normal.woff2",
  "fonts/mono-latin-ext.woff2":
    "@fontsource-variable/jetbrains-mono/files/jetbrains-mono-latin-ext-wght-normal.woff2",
};
const LICENSES = [
  ["htmx.org", "htmx.org/LICENSE"],
  ["Inter", "@fontsource-variable/inter/LICENSE"],
  ["JetBrains Mono", "@fontsource-variable/jetbrains-mono/LICENSE"],
  ["Lucide", "lucide-static/LICENSE"],
];

/** Bundle one entry point; the result is a single file. */
async function bundle(entry) {
  const result = await build({
    entryPoints: [join(here, entry)],
    absWorkingDir: here,
    bundle: true,
    minify: true,
    write: false,
    format: "iife",
    target: ["es2022", "chrome123", "firefox121", "safari17.5"],
    charset: "utf8",
    legalComments: "none",
    external: ["./fonts/*"],
    loader: { ".css": "css" },
    logLevel: "warning",
  });
  return Buffer.from(result.outputFiles[0].contents);
}

/** One SVG with a <symbol> per name of icons.txt; pages refer to it with <use>. */
async function sprite() {
  const names = (await readFile(join(here, "icons.txt"), "utf8")).split("\n").filter(Boolean);
  const symbols = await Promise.all(
    names.map(async (name) => {
      const svg = await readFile(join(modules, "lucide-static/icons", `${name}.svg`), "utf8");
      const body = svg.slice(svg.indexOf(">", svg.indexOf("<svg")) + 1, svg.lastIndexOf("</svg>"));
      return `<symbol id="${name}" viewBox="0 0 24 24">${body.replace(/\s+/g, " ").replace(/> </g, "><").trim()}</symbol>`;
    }),
  );
  return Buffer.from(`<svg xmlns="http://www.w3.org/2000/svg">${symbols.join("")}</svg>\n`);
}

/** The licences of what the bundle contains, as those ask. */
async function notices() {
  const parts = await Promise.all(
    LICENSES.map(async ([name, path]) => `${name}\n\n${(await readFile(join(modules, path), "utf8")).trim()}\n`),
  );
  return Buffer.from(parts.join(`\n${"-".repeat(72)}\n\n`));
}

/** The digests of what the build reads, so that `make lint` sees a change that was not built, without Node. */
async function sources() {
  const found = ["build.mjs", "icons.txt", "package-lock.json"];
  for (const dir of ["src", "styles"]) {
    found.push(...(await readdir(join(here, dir), { recursive: true })).map((name) => `${dir}/${name}`));
  }
  return Buffer.from(await digests(found.sort(), (name) => readFile(join(here, name))));
}

async function digests(names, contents) {
  const lines = names.map(async (name) => {
    return `${createHash("sha256").update(await contents(name)).digest("hex")}  ${name}\n`;
  });
  return (await Promise.all(lines)).join("");
}

async function outputs() {
  const files = new Map();
  files.set("app.js", await bundle("src/main.js"));
  files.set("app.css", await bundle("styles/main.css"));
  files.set("icons.svg", await sprite());
  files.set("LICENSES.txt", await notices());
  for (const [name, path] of Object.entries(FONTS)) files.set(name, await readFile(join(modules, path)));
  files.set("SOURCES.sha256", await sources());
  files.set("MANIFEST.sha256", Buffer.from(await digests([...files.keys()].sort(), (name) => files.get(name))));
  return files;
}

async function committed(dir = dist) {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true }).catch(() => []);
  return entries.filter((e) => e.isFile()).map((e) => relative(dist, join(e.parentPath, e.name)));
}

async function check(files) {
  const wrong = (await committed()).filter((name) => !files.has(name)).map((name) => `${name}: not built`);
  for (const [name, contents] of files) {
    const there = await readFile(join(dist, name)).catch(() => null);
    if (!there?.equals(contents)) wrong.push(`${name}: ${there ? "differs" : "missing"}`);
  }
  if (wrong.length) {
    process.stderr.write(`static/dist is not what the sources give; run npm run build\n  ${wrong.join("\n  ")}\n`);
    process.exit(1);
  }
}

async function write(files) {
  await rm(dist, { recursive: true, force: true });
  for (const [name, contents] of files) {
    await mkdir(dirname(join(dist, name)), { recursive: true });
    await writeFile(join(dist, name), contents);
    process.stdout.write(`${String(contents.length).padStart(8)}  ${name}\n`);
  }
}

const files = await outputs();
await (process.argv.includes("--check") ? check(files) : write(files));
