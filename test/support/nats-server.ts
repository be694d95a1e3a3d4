import { existsSync, readdirSync, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { temporaryFolder } from "./cleanup.ts";
import { freePort } from "./free-port.ts";
import { start, until } from "./program.ts";

export type NatsServer = Awaited<ReturnType<typeof startNatsServer>>;

/**
 * Starts a private nats-server on 127.0.0.1, with a store of its
 * own in a temporary folder. Takes further arguments, by default those that
 * enable JetStream. Gives the server, ready for clients; disposing of it kills
 * it and removes the folder. Throws if there is no nats-server, and with its log
 * if it ends, or is not ready within 20 s.
 */
export async function startNatsServer(args = ["-js"]) {
  const folder = await temporaryFolder("nats-server-");
  const port = await freePort();
  let program = await launch(folder.path, port, args).catch((err) => {
    folder[Symbol.dispose]();
    throw err;
  });
  return {
    port,
    /** Where it listens, in the form that `NATS_URL` takes. */
    url: `nats://127.0.0.1:${port}`,
    folder: folder.path,
    /** Freezes it. Returns when all its threads stand still. */
    async freeze() {
      program.kill("SIGSTOP");
      await until("it is frozen", () => isFrozen(program.pid!), program);
    },
    /** Lets it go on after `freeze`. */
    thaw: () => program.kill("SIGCONT"),
    /**
     * Ends it (SIGTERM: it stores what it has; SIGKILL: a crash). Gives how it
     * ended, with its log on stderr.
     */
    async stop(signal: NodeJS.Signals = "SIGTERM") {
      program.kill(signal);
      return await program.ended;
    },
    /** Starts it on the same port again, after a crash if it runs. */
    async restart(newArgs = args) {
      await program[Symbol.asyncDispose]();
      program = await launch(folder.path, port, newArgs);
    },
    async [Symbol.asyncDispose]() {
      await program[Symbol.asyncDispose]();
      folder[Symbol.dispose]();
    },
  };
}

// Looks at the state of each thread, which stands behind the program's name.
// Systems without /proc are believed.
function isFrozen(pid: number) {
  const tasks = `/proc/${pid}/task`;
  if (!existsSync(tasks)) return true;
  return readdirSync(tasks).every((task) =>
    readFileSync(`${tasks}/${task}/stat`, "utf8").includes(") T "),
  );
}

async function launch(folder: string, port: number, args: string[]) {
  const place = ["-a", "127.0.0.1", "-p", `${port}`, "-sd", folder];
  const command = ["nats-server", ...place, "--ports_file_dir", folder];
  // Debian installs it into /usr/sbin, which is on root's PATH only.
  const env = { PATH: `${process.env.PATH}${delimiter}/usr/sbin` };
  const program = start([...command, ...args], { env, limit: 600 });
  if (!program.pid)
    throw new Error(
      "nats-server is not on the PATH. The README says how to install it on Debian, Ubuntu and macOS, https://nats.io/download for elsewhere.",
    );
  // The server writes this file when it listens.
  const ports = join(folder, `nats-server_${program.pid}.ports`);
  const late = setTimeout(() => program.kill("SIGKILL"), 20_000);
  try {
    await until("nats-server is ready", () => existsSync(ports), program);
  } finally {
    clearTimeout(late);
  }
  return program;
}
