import assert from "node:assert/strict";
import type { Outcome } from "./program.ts";

/** The lines that src/main.ts prints when it meets no messages but its own. */
export const tenLines = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map(
  (i) => `got message on subject events.${i} with payload "data"`,
);

/** The command that runs src/main.ts where no other is of interest. */
export const example = "node --import tsx src/main.ts";

/** Throws unless a run succeeded: these lines, nothing else, exit code 0. */
export function assertSuccess(outcome: Outcome, lines = tenLines) {
  const stdout = lines.map((line) => `${line}\n`).join("");
  assert.deepEqual(outcome, { code: 0, stdout, stderr: "" });
}

/**
 * Throws unless a run failed as it should: exit code 1, and one line on stderr,
 * in which "…" stands for any words. Takes what it prints before on stdout.
 */
export function assertFailure(
  outcome: Outcome,
  line: string,
  lines: string[] = [],
) {
  const stdout = lines.map((text) => `${text}\n`).join("");
  const words = line.split("…");
  const parts = words.map((text) => text.replace(/[^\w ]/g, "\\$&"));
  const isLine = new RegExp(`^${parts.join(".*")}\n$`).test(outcome.stderr);
  const stderr = isLine ? outcome.stderr : `${line}\n`;
  assert.deepEqual(outcome, { code: 1, stdout, stderr });
}
