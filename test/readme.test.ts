import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import * as fs from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { startNatsServer } from "../scripts/nats-server.ts";
import { assertAllAcked, assertLines, runExample } from "./support/example.ts";

test("README.md's diff makes src/main.ts run with the newer packages", async (t) => {
  const readme = await fs.readFile("README.md", "utf8");
  const [, diff] = /^```diff\n(.+?)^```/ms.exec(readme)!;
  let code = await fs.readFile("src/main.ts", "utf8");
  const blocks = diff!.matchAll(/((?:^-.*\n)+)((?:^\+.*\n)+)/gm);
  for (const [, minus, plus] of blocks) {
    const [removed, added] = [minus!, plus!].map((s) => s.replace(/^./gm, ""));
    assert.equal(code.split(removed!).length, 2, `not once: ${removed}`);
    code = code.replace(removed!, () => added!);
  }
  assert.doesNotMatch(code, /"nats"/);

  const cwd = await fs.mkdtemp(join(tmpdir(), "newer-"));
  t.after(() => fs.rm(cwd, { recursive: true }));
  await fs.mkdir(join(cwd, "src"));
  await fs.writeFile(join(cwd, "src/main.ts"), code);
  await fs.symlink(resolve("node_modules"), join(cwd, "node_modules"));
  for (const file of ["package.json", "tsconfig.json"]) {
    await fs.cp(file, join(cwd, file));
  }
  execFileSync("npx", ["tsc"], { cwd });
  await using server = await startNatsServer();
  assertLines(await runExample(server.url, { cwd }));
  await assertAllAcked(server, 10);
});
