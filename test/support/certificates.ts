import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";

/**
 * Makes a certificate authority and, signed by it, a certificate for localhost,
 * in a temporary folder that goes when the tests of the file have ended. Gives
 * the authority's certificate (a path), and the arguments that make nats-server
 * speak TLS with the other one. Throws if openssl 3 is not on the PATH.
 */
export function makeCertificates(): { ca: string; args: string[] } {
  const cwd = mkdtempSync(join(tmpdir(), "certificates-"));
  after(() => rmSync(cwd, { recursive: true }));
  const make = (options: string) =>
    execFileSync(
      "openssl",
      `req -x509 -newkey rsa:2048 -nodes -days 1 ${options}`.split(" "),
      { cwd, stdio: "pipe" },
    );
  make("-subj /CN=ca -out ca.pem -keyout ca.key");
  make(
    "-subj /CN=localhost -addext subjectAltName=DNS:localhost -CA ca.pem -CAkey ca.key -out cert.pem -keyout cert.key",
  );
  const [cert, key] = [join(cwd, "cert.pem"), join(cwd, "cert.key")];
  const args = ["--tls", "--tlscert", cert, "--tlskey", key];
  return { ca: join(cwd, "ca.pem"), args };
}
