import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";

/** How a program ended: its exit code, or the signal that ended it. */
export type Outcome = {
  code: number | NodeJS.Signals;
  stdout: string;
  stderr: string;
};

export type Program = ReturnType<typeof start>;

/** The command that runs src/main.ts, and the lines that it then prints. */
export const example = "node --import tsx src/main.ts";
export const tenLines = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map(
  (i) => `got message on subject events.${i} with payload "data"`,
);

// What was made last goes first: a program before the folder that it writes to.
const cleanups = new Set<() => void>();
process.on("exit", () => {
  for (const cleanup of [...cleanups].reverse()) cleanup();
});
// Without these, the process would end without `exit`.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
  process.on(signal, () => process.exit(130));

/**
 * Makes a temporary folder. Gives its path; disposing of it removes it and all
 * that is in it.
 */
export async function temporaryFolder() {
  const path = await mkdtemp(join(tmpdir(), "pull-consumers-"));
  // A server that was killed just now may still write to it.
  const options = { recursive: true, force: true, maxRetries: 5 };
  const remove = () => rmSync(path, options);
  cleanups.add(remove);
  return {
    path,
    [Symbol.dispose]() {
      cleanups.delete(remove);
      remove();
    },
  };
}

// Nothing else of the environment reaches a program: colours, proxies and
// options of Node.js depend on where the tests run. Debian installs nats-server
// into /usr/sbin, which is on root's PATH only.
const environment = {
  PATH: `${process.env.PATH}${delimiter}/usr/sbin`,
  HOME: process.env.HOME,
  TMPDIR: process.env.TMPDIR,
  npm_config_update_notifier: "false",
};

/**
 * Starts a command in a process group of its own, as in a terminal. Takes the
 * command, with a space between the words. `url` is the value of NATS_URL, by
 * default it is not set; `env` has further variables; `cwd` is the folder in
 * which it runs, by default the project; after `limit` seconds, by default 45, it
 * is killed. Gives the program; disposing of it kills it and all it has started.
 */
export function start(
  command: string,
  options: { url?: string; env?: object; cwd?: string; limit?: number } = {},
) {
  const { url, cwd, limit = 45 } = options;
  const [file = "", ...args] = command.trim().split(" ");
  const env = { ...environment, NATS_URL: url, ...options.env };
  const child = spawn(file, args, { cwd, env, detached: true });
  const output = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const)
    child[name].setEncoding("utf8").on("data", (text) => {
      output[name] += text;
    });

  let hasEnded = child.pid === undefined;
  function killGroup(signal: NodeJS.Signals = "SIGKILL") {
    try {
      if (child.pid) process.kill(-child.pid, signal);
    } catch {
      // It has ended, and so has all that it has started.
    }
  }
  const cleanup = () => killGroup();
  cleanups.add(cleanup);
  const timer = setTimeout(() => {
    output.stderr += `(did not end within ${limit} s, and was killed)`;
    killGroup();
  }, limit * 1_000);
  child.on("error", (err) => {
    output.stderr += err.message;
  });
  const ended = once(child, "close")
    .then(([code, signal]): Outcome => ({ code: code ?? signal, ...output }))
    .finally(() => {
      hasEnded = true;
      clearTimeout(timer);
      cleanups.delete(cleanup);
    });
  // Whoever awaits it is told; nobody has to.
  ended.catch(() => {});

  return {
    pid: child.pid,
    /** What it has printed so far. */
    output,
    /** Resolves with how it ended; rejects if there is no such command. */
    ended,
    hasEnded: () => hasEnded,
    /** Sends a signal to the program alone. */
    kill: (signal: NodeJS.Signals) => child.kill(signal),
    /** Sends a signal to the program and to all that it has started. */
    killGroup,
    async [Symbol.asyncDispose]() {
      killGroup();
      await ended.catch(() => {});
    },
  };
}

/** Runs a command to its end. Takes what `start` takes. Gives how it ended. */
export async function run(...args: Parameters<typeof start>) {
  await using program = start(...args);
  return await program.ended;
}

/** Throws unless a run succeeded: these lines, nothing else, exit code 0. */
export function assertSuccess(outcome: Outcome, lines = tenLines) {
  const stdout = lines.map((line) => `${line}\n`).join("");
  assert.deepEqual(outcome, { code: 0, stdout, stderr: "" });
}

/** Gives the lines that a program has printed. */
export const linesOf = ({ stdout }: { stdout: string }) =>
  stdout.split("\n").slice(0, -1);

/**
 * Returns when a condition has come about, which is looked at every 50 ms; one
 * that throws has not. Takes what it is, for the report; the condition; the
 * program that is to bring it about, if one is; and how many seconds it may take.
 * After that, and if the program has ended, kills the program and throws, with
 * what it printed.
 */
export async function until(
  what: string,
  condition: () => unknown,
  program?: Program,
  limit = 60,
) {
  const startedAt = performance.now();
  for (;;) {
    // It may end as the condition is looked at, so this comes first.
    const hasEnded = program?.hasEnded();
    let cause: unknown;
    try {
      if (await condition()) return;
    } catch (err) {
      cause = err;
    }
    if (hasEnded || performance.now() - startedAt > limit * 1_000) {
      program?.killGroup();
      const { stdout, stderr } = program?.output ?? { stdout: "", stderr: "" };
      const why = hasEnded ? "it ended" : `${limit} s were over`;
      throw new Error(`${why} before: ${what}\n${stdout}${stderr}`, { cause });
    }
    await pause(50);
  }
}
