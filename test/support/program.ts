import { spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as pause } from "node:timers/promises";
import { removeAtExit } from "./cleanup.ts";

/** How a program ended: its exit code, or the signal that ended it. */
export type Outcome = {
  code: number | NodeJS.Signals;
  stdout: string;
  stderr: string;
};

export type Program = ReturnType<typeof start>;

/**
 * Starts a command in a child process, which leads a process group of its own,
 * as in a terminal. Takes the command, as words or as one text with a space
 * between the words. `url` is the value of NATS_URL, by default it is not set;
 * `env` has further environment variables; `cwd` is the folder in which it runs,
 * by default the project; after `limit` seconds, by default 80, it is killed, so
 * that the test which waits for it fails. Gives the program; disposing of it
 * kills it and all that it has started.
 */
export function start(
  command: string | string[],
  options: { url?: string; env?: object; cwd?: string; limit?: number } = {},
) {
  const { url, cwd = ".", limit = 80 } = options;
  const [file, ...args] =
    typeof command === "string" ? command.split(" ") : command;
  const env = { ...process.env, NATS_URL: url, ...options.env };
  const child = spawn(file!, args, { cwd, env, detached: true });
  let running = child.pid !== undefined;
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text) => (stderr += text));

  function killGroup(signal: NodeJS.Signals) {
    try {
      if (running) process.kill(-child.pid!, signal);
    } catch {
      // It has ended, and this process has not been told yet.
    }
  }
  const resource = removeAtExit(() => killGroup("SIGKILL"));
  const timer = setTimeout(() => {
    stderr += `(killed after ${limit} s)`;
    killGroup("SIGKILL");
  }, limit * 1_000);
  const ended = once(child, "close")
    .then(([code, signal]): Outcome => ({
      code: code ?? signal,
      stdout,
      stderr,
    }))
    .finally(() => {
      running = false;
      clearTimeout(timer);
    });
  // Whoever awaits it is told; nobody has to.
  ended.catch(() => {});

  return {
    pid: child.pid,
    /** Resolves with how it ended; rejects if there is no such command. */
    ended,
    /** Gives what it has printed so far. */
    output: () => ({ stdout, stderr }),
    /** Sends a signal to the program alone. */
    kill: (signal: NodeJS.Signals) => child.kill(signal),
    /** Sends a signal to the program and to all that it has started. */
    killGroup,
    async [Symbol.asyncDispose]() {
      resource[Symbol.dispose]();
      await ended.catch(() => {});
    },
  };
}

/**
 * Runs a command to its end. Takes what `start` takes. Gives how it ended.
 * Throws if the command is not found.
 */
export async function run(...args: Parameters<typeof start>) {
  await using program = start(...args);
  return await program.ended;
}

/**
 * Returns when a condition has come about, which is looked at every 50 ms.
 * Takes what the condition is, for the report; the condition; and the program
 * that is to bring it about. Throws if that program has ended, with how.
 */
export async function until(
  what: string,
  condition: () => Promise<boolean> | boolean,
  program: Program,
) {
  let outcome: Outcome | undefined;
  void program.ended.then((how) => (outcome = how));
  while (!(await condition())) {
    if (outcome) throw new Error(`ended before: ${what}\n${inspect(outcome)}`);
    await pause(50);
  }
}

// For reports, with the output as it looks in a terminal.
function inspect({ code, stdout, stderr }: Outcome) {
  return `exit code: ${code}\nstdout:\n${stdout}\nstderr:\n${stderr}`;
}
