import { rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

const cleanups = new Set<() => void>();
process.on("exit", () => cleanups.forEach((cleanup) => cleanup()));

/**
 * Makes sure that something which a test has made goes in any case, also when
 * the process that runs the test is interrupted. Takes what removes it, which
 * has to be synchronous. Gives a resource: disposing of it removes it now.
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
  const remove = () => rmSync(path, { recursive: true, force: true });
  return { path, ...removeAtExit(remove) };
}
