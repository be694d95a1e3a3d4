// Runs src/main.ts against a private nats-server and passes its exit code on.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { removeAtExit } from "../test/support/cleanup.ts";
import { startNatsServer } from "../test/support/nats-server.ts";

await using server = await startNatsServer().catch((err: Error) => {
  console.error(err.message);
  process.exit(1);
});
const example = spawn(process.execPath, ["--import", "tsx", "src/main.ts"], {
  stdio: "inherit",
  env: { ...process.env, NATS_URL: server.url },
});
removeAtExit(() => example.kill());
const [code] = await once(example, "exit");
process.exitCode = code ?? 130;
