// The certificates are valid for 100 years. Each file of a server holds the
// certificate and its key, that of the authority its certificate. To add one,
// make all anew, in the folder certificates:
//
//   new="openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
//   $new -days 36500 -subj "/CN=Test CA" -keyout ca.key -out ca.pem
//   $new -days 36500 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
//     -CA ca.pem -CAkey ca.key -keyout localhost.key -out localhost.pem
//   $new -days 36500 -subj /CN=elsewhere.example -keyout elsewhere.key \
//     -addext subjectAltName=DNS:elsewhere.example -out elsewhere.pem
//   cat localhost.key >>localhost.pem && cat elsewhere.key >>elsewhere.pem
//   rm *.key
const folder = "test/support/certificates";

/** The certificate of the authority that has signed the one of `localhost`. */
export const authority = `${folder}/ca.pem`;

/** Gives a server's certificate with its key: of localhost, or self-signed. */
export function certificate(name: "localhost" | "elsewhere") {
  return `${folder}/${name}.pem`;
}

/** Gives nats-server's arguments for TLS with a certificate of that folder. */
export function tls(name: "localhost" | "elsewhere") {
  const pem = certificate(name);
  return ["--tls", "--tlscert", pem, "--tlskey", pem];
}

/** Gives the environment that makes Node.js trust a certificate as well. */
export function trust(name: "ca" | "elsewhere") {
  return { NODE_EXTRA_CA_CERTS: `${folder}/${name}.pem` };
}
