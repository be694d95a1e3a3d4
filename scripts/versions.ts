// Runs src/main.ts with each version of Node.js, Bun, Deno and the package
// `nats` for which the README vouches. Prints one line for each, and exits with
// 1 if one of them failed.
import { cp, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { temporaryFolder } from "../test/support/cleanup.ts";
import { tenLines } from "../test/support/example.ts";
import { startNatsServer } from "../test/support/nats-server.ts";
import { run } from "../test/support/program.ts";

// These packages hold the programs themselves, for one platform each.
const platform = `${process.platform}-${process.arch}`;
const glibc = process.platform === "linux" ? "-glibc" : "";
const runtimes = {
  "node-20.6": `npm:node-${platform}@20.6`,
  "node-22": `npm:node-${platform}@22`,
  "node-24": `npm:node-${platform}@24`,
  "node-26": `npm:node-${platform}@26`,
  bun: `npm:@oven/bun-${platform}@latest`,
  deno: `npm:@deno/${platform}${glibc}@latest`,
};

/**
 * Makes a project of src/ and of the packages that are given, by name and
 * version. Gives its folder; disposing of it removes it. Throws if npm fails.
 */
async function makeProject(dependencies: object) {
  const folder = await temporaryFolder("versions-");
  await cp("src", join(folder.path, "src"), { recursive: true });
  const manifest = {
    type: "module",
    dependencies: { ...dependencies, tsx: "latest" },
    allowScripts: { esbuild: false },
  };
  await writeFile(join(folder.path, "package.json"), JSON.stringify(manifest));
  const command = "npm install --no-audit --no-fund";
  const install = await run(command, { cwd: folder.path, limit: 300 });
  if (install.code !== 0) throw new Error(install.stderr);
  return folder;
}

await using server = await startNatsServer();

async function tryExample(what: string, command: string, cwd: string) {
  const { code, stdout, stderr } = await run(command, { url: server.url, cwd });
  const good =
    code === 0 && stderr === "" && stdout === tenLines.join("\n") + "\n";
  if (!good) process.exitCode = 1;
  console.log(
    good ? `ok: ${what}` : `FAILED: ${what}\n${code} ${stdout}${stderr}`,
  );
}

using latest = await makeProject({ ...runtimes, nats: "latest" });
using oldest = await makeProject({ nats: "2.21.0" });
const bin = "node_modules";
for (const { what, command, project = latest } of [
  {
    what: "Node.js 20.6 with tsx",
    command: `${bin}/node-20.6/bin/node --import tsx src/main.ts`,
  },
  {
    what: "Node.js 22 with tsx",
    command: `${bin}/node-22/bin/node --import tsx src/main.ts`,
  },
  {
    what: "Node.js 24 with tsx",
    command: `${bin}/node-24/bin/node --import tsx src/main.ts`,
  },
  {
    what: "Node.js 26 with tsx",
    command: `${bin}/node-26/bin/node --import tsx src/main.ts`,
  },
  {
    what: "Node.js 24 without tsx",
    command: `${bin}/node-24/bin/node src/main.ts`,
  },
  {
    what: "Node.js 26 without tsx",
    command: `${bin}/node-26/bin/node src/main.ts`,
  },
  {
    what: "Bun",
    command: `${bin}/bun/bin/bun src/main.ts`,
  },
  {
    what: "Deno",
    command: `${bin}/deno/deno run -A src/main.ts`,
  },
  {
    what: "nats 2.21.0",
    command: "node --import tsx src/main.ts",
    project: oldest,
  },
]) {
  await tryExample(what, command, project.path);
}
