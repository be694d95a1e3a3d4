// Starts a nats-server on a free port, runs src/main.ts against it, and ends
// with the exit code of src/main.ts. The server's data is deleted.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { createInterface } from "node:readline";

// Without these, the process would end without `exit`.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
  process.on(signal, () => process.exit(130));

const folder = mkdtempSync(join(tmpdir(), "nats-demo-"));
const place = ["-a", "127.0.0.1", "-p", "-1", "-sd", folder];
// Debian installs it into /usr/sbin, which is on root's PATH only.
const PATH = `${process.env.PATH}${delimiter}/usr/sbin`;
const server = spawn("nats-server", ["-js", ...place], {
  env: { ...process.env, PATH },
});
process.on("exit", () => {
  server.kill("SIGKILL");
  // The server may still write to it.
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
});
server.on("error", (err) => {
  console.error(`${err.message}: the README says how to install nats-server`);
  process.exit(1);
});

let log = "";
for await (const line of createInterface(server.stderr)) {
  log += `${line}\n`;
  if (line.includes("Server is ready")) break;
}
const [, address] = /client connections on (\S+)/.exec(log) ?? [];
if (!address) {
  console.error(log);
  process.exit(1);
}

const example = spawn(process.execPath, ["--import", "tsx", "src/main.ts"], {
  stdio: "inherit",
  env: { ...process.env, NATS_URL: address },
});
process.on("exit", () => example.kill());
const [code] = await once(example, "exit");
process.exit(code ?? 1);
