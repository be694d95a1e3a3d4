// What worker.ts and publisher.ts share: they wait for the server, say on stderr
// what they wait for, and end in one line where waiting cannot help.
import { setTimeout as pause } from "node:timers/promises";
import { connect, Events, type NatsConnection, type NatsError } from "nats";

const toldAt = new Map<string, number>();

export async function connectToNats(): Promise<NatsConnection> {
  const nc = await retry("connect", () => connect(connectionOptions()));
  void tellStatus(nc);
  // The client gives up if the login is refused.
  void nc.closed().then((err) => {
    if (err) end(err);
  });
  return nc;
}

/** Tries every second until it succeeds, for at most `limit` milliseconds. */
export async function retry<T>(
  what: string,
  request: () => Promise<T>,
  limit = Infinity,
): Promise<T> {
  const started = Date.now();
  for (;;) {
    try {
      return await request();
    } catch (e) {
      const err = e as NatsError;
      const invalidUrl = err instanceof TypeError || err instanceof URIError;
      const late = Date.now() - started > limit;
      if (isNotFound(err) || invalidUrl || late || err.isAuthError?.())
        end(err);
      tell(`cannot ${what}: ${describe(err)}`);
      await pause(1_000);
    }
  }
}

/** Tells whether the server says that there is no such stream or consumer. */
export function isNotFound(err: Error) {
  return /^(stream|consumer) not found$/.test(err.message);
}

export function end(err: Error): never {
  console.error(`ended: ${describe(err)}`);
  process.exit(1);
}

async function tellStatus(nc: NatsConnection) {
  let last = Events.Reconnect;
  for await (const s of nc.status()) {
    const data = s.data as string;
    if (s.type === Events.Error)
      tell(`${data} ${s.permissionContext?.subject ?? ""}`, data);
    if (s.type !== Events.Disconnect && s.type !== Events.Reconnect) continue;
    if (s.type !== last) console.error(`${s.type}: ${data}`);
    last = s.type;
  }
}

/** Prints a line on stderr, but of the same kind only one a minute. */
export function tell(line: string, kind = line) {
  if (Date.now() - (toldAt.get(kind) ?? 0) < 60_000) return;
  toldAt.set(kind, Date.now());
  console.error(line);
}

function describe(err: Error & { chainedError?: Error }) {
  const cause = err.chainedError?.message;
  return (cause ? `${err.message}: ${cause}` : err.message).trim();
}

// Reads `NATS_URL` as src/main.ts does.
function connectionOptions() {
  const { NATS_URL } = process.env;
  const urls = (NATS_URL || "nats://localhost:4222")
    .split(",")
    .map((a) => new URL(a.includes("://") ? a : `nats://${a.trim()}`));
  const login = urls.find((url) => url.username);
  const user = decodeURIComponent(login?.username ?? "");
  const pass = decodeURIComponent(login?.password ?? "");
  return {
    servers: urls.map((url) => url.host),
    user,
    pass,
    token: pass ? "" : user,
    ...(urls.some((url) => url.protocol !== "nats:") && { tls: {} }),
    timeout: 5_000,
    // A dead link is noticed after 30 s.
    pingInterval: 10_000,
    maxReconnectAttempts: -1,
  };
}
