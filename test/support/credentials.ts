import { nkeys } from "nats";

type KeyPair = ReturnType<typeof nkeys.createUser>;

/**
 * Makes an operator, an account with JetStream and a user in it. Gives the
 * nats-server configuration that lets this user in, and the user's credentials
 * file, each as text.
 */
export function makeCredentials() {
  const operator = nkeys.createOperator();
  const system = nkeys.createAccount();
  const account = nkeys.createAccount();
  const user = nkeys.createUser();
  const base64 = (text: string | Uint8Array) =>
    Buffer.from(text).toString("base64url");

  function token(issuer: KeyPair, subject: KeyPair, nats: object) {
    const claims = {
      jti: "test",
      iat: 0,
      iss: issuer.getPublicKey(),
      sub: subject.getPublicKey(),
      nats: { version: 2, ...nats },
    };
    const header = JSON.stringify({ typ: "JWT", alg: "ed25519-nkey" });
    const text = `${base64(header)}.${base64(JSON.stringify(claims))}`;
    return `${text}.${base64(issuer.sign(Buffer.from(text)))}`;
  }

  // -1 means: no limit.
  const traffic = { subs: -1, data: -1, payload: -1 };
  const clients = { conn: -1, leaf: -1, imports: -1, exports: -1 };
  const storage = {
    mem_storage: -1,
    disk_storage: -1,
    streams: -1,
    consumer: -1,
  };
  const limits = { ...traffic, ...clients, wildcards: true };
  const ofSystem = token(operator, system, { type: "account", limits });
  const ofAccount = token(operator, account, {
    type: "account",
    limits: { ...limits, ...storage },
  });
  const ofUser = token(account, user, { type: "user", ...traffic });
  const seed = Buffer.from(user.getSeed()).toString();
  return {
    serverConfiguration: `
      jetstream {}
      operator: ${token(operator, operator, { type: "operator" })}
      system_account: ${system.getPublicKey()}
      resolver: MEMORY
      resolver_preload: {
        ${system.getPublicKey()}: ${ofSystem}
        ${account.getPublicKey()}: ${ofAccount}
      }`,
    credentialsFile: [
      "-----BEGIN NATS USER JWT-----",
      ofUser,
      "------END NATS USER JWT------",
      "",
      "-----BEGIN USER NKEY SEED-----",
      seed,
      "------END USER NKEY SEED------",
      "",
    ].join("\n"),
  };
}
