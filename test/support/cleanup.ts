import { rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

const cleanups = new Set<() => void>();

// What was made last goes first: a program before the folder that it writes to.
process.on("exit", () => {
  for (const cleanup of [...cleanups].reverse()) cleanup();
});
// Without these, the process would end without `exit`.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
  process.on(signal, () => process.exit(130));

/**
 * Makes sure that something goes in any case, also when this process is
 * interrupted. Takes what removes it, which has to be synchronous. Gives a
 * resource: disposing of it removes it now.
 */
export function removeAtExit(remove: () => void) {
  cleanups.add(remove);
  return {
    [Symbol.dispose]() {
      cleanups.delete(remove);
      remove();
    },
  };
}

/**
 * Makes a folder in the system's temporary folder, with a name that begins as
 * given. Gives its path; disposing of it removes it and all that is in it.
 */
export async function temporaryFolder(prefix: string) {
  const path = await mkdtemp(join(tmpdir(), prefix));
  // A server that was killed just now may still write to it.
  const options = { recursive: true, force: true, maxRetries: 5 };
  const remove = () => rmSync(path, options);
  return { path, ...removeAtExit(remove) };
}
