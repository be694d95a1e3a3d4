// Runs src/main.ts against a private nats-server and passes its exit code on.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { startNatsServer } from "../test/support/nats-server.ts";

// Ctrl-C ends the example only; then this program stops the server and leaves.
const interrupt = new AbortController();
process.on("SIGINT", () => interrupt.abort());
process.on("SIGTERM", () => interrupt.abort());

await using server = await startNatsServer().catch((err: Error) => {
  console.error(err.message);
  process.exit(1);
});
const example = spawn(process.execPath, ["--import", "tsx", "src/main.ts"], {
  stdio: "inherit",
  env: { ...process.env, NATS_URL: server.url },
  signal: interrupt.signal,
});
const [code] = await once(example, "exit").catch(() => []);
process.exitCode = code ?? 130;
