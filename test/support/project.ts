import { cp, symlink } from "node:fs/promises";
import { join, resolve } from "node:path";
import { temporaryFolder } from "./cleanup.ts";

/**
 * Copies this project into a temporary folder, with a link to its node_modules.
 * Gives the folder's path; disposing of it removes the folder.
 */
export async function copyProject() {
  const folder = await temporaryFolder("project-");
  const { path } = folder;
  for (const name of ["docs", "scripts", "service", "src", "test"])
    await cp(name, join(path, name), { recursive: true });
  for (const name of ["package.json", "package-lock.json", "tsconfig.json"])
    await cp(name, join(path, name));
  await symlink(resolve("node_modules"), join(path, "node_modules"));
  return folder;
}
