// A mail server for tests: real SMTP by npm's smtp-server, with TLS and logins, whose answers a test chooses.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createServer as createTlsServer, TLSSocket } from 'node:tls';
import { SMTPServer } from 'smtp-server';
import { until } from './until.mjs';

export const LOGIN = { user: 'kijko@mail.test', password: 'p/w @1' };

/** A certificate for 127.0.0.1, and the file of the authority that signed it. */
export class Certificate {
  constructor() {
    this.folder = mkdtempSync(path.join(tmpdir(), 'kijko-smtp-'));
    const file = (name) => path.join(this.folder, name);
    const openssl = (...args) => execFileSync('openssl', args, { stdio: 'ignore' });
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
    openssl('req', '-x509', ...key, '-subj', '/CN=Test CA', '-keyout', file('ca.key'), '-out', file('ca.pem'));
    openssl(
      ...['req', '-x509', ...key, '-subj', '/CN=mail', '-addext', 'subjectAltName=IP:127.0.0.1', '-addext', 'basicConstraints=CA:FALSE'],
      ...['-CA', file('ca.pem'), '-CAkey', file('ca.key'), '-keyout', file('key.pem'), '-out', file('cert.pem')],
    );
    this.authority = file('ca.pem');
    this.key = readFileSync(file('key.pem'));
    this.cert = readFileSync(file('cert.pem'));
    // The sidecar runs as this user or another.
    execFileSync('chmod', ['-R', 'a+rX', this.folder]);
  }

  remove() {
    rmSync(this.folder, { recursive: true });
  }
}

/**
 * answers: what the server does at each step, a function of the number of calls so far (from 1). It returns a code from 400 on to
 * refuse, a promise to wait for, 'drop' to cut the connection, or nothing to accept.
 */
export class MailServer {
  /** Texts that arrived in full, whatever was answered. */
  arrived = [];
  /** Those that were accepted. */
  accepted = [];
  logins = [];
  senders = 0;
  answers = {};
  #calls = {};
  #sockets = new Set();

  constructor({ certificate, ...options } = {}) {
    this.server = new SMTPServer({
      disabledCommands: certificate ? [] : ['STARTTLS'],
      authOptional: true,
      disableReverseLookup: true,
      logger: false,
      closeTimeout: 100,
      ...(certificate && { key: certificate.key, cert: certificate.cert }),
      ...options,
      onAuth: (auth, session, callback) => {
        this.logins.push({ user: auth.username, secure: session.secure });
        const right = auth.username === LOGIN.user && auth.password === LOGIN.password;
        return right ? callback(null, { user: auth.username }) : callback(refusal(535, 'wrong'));
      },
      onMailFrom: (address, _, callback) => {
        this.senders += 1;
        this.#answer('sender', callback, `<${address.address}>`);
      },
      onRcptTo: (address, _, callback) => this.#answer('recipient', callback, `<${address.address}>`),
      onData: (stream, session, callback) => {
        let text = '';
        stream.setEncoding('utf8');
        stream.on('data', (chunk) => {
          text += chunk;
        });
        stream.on('end', () => {
          const mail = { text, to: session.envelope.rcptTo.map((to) => to.address), secure: session.secure };
          this.arrived.push(mail);
          this.#answer('text', (error) => {
            if (!error) this.accepted.push(mail);
            callback(error);
          });
        });
      },
    });
    this.server.on('error', () => {}); // connections that a test cuts
  }

  async start() {
    await new Promise((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    this.server.server.on('connection', (socket) => this.#sockets.add(socket));
    this.port = this.server.server.address().port;
    return this;
  }

  stop() {
    for (const socket of this.#sockets) socket.destroy();
    return new Promise((resolve) => this.server.close(resolve));
  }

  /** The n-th text that arrived. */
  text(n) {
    return until(`text ${n} to arrive`, () => this.arrived[n - 1]);
  }

  async #answer(step, callback, address = '') {
    this.#calls[step] = (this.#calls[step] ?? 0) + 1;
    const answer = await this.answers[step]?.(this.#calls[step]);
    if (answer === 'drop') for (const socket of this.#sockets) socket.destroy();
    // Servers quote the address in what they say.
    else callback(answer ? refusal(answer, `no mail for ${address}`) : null);
  }
}

const refusal = (responseCode, message) => Object.assign(new Error(message), { responseCode });

/** A server that takes connections and says nothing. */
export async function silentServer() {
  const sockets = new Set();
  const server = createServer((socket) => {
    socket.on('error', () => {});
    sockets.add(socket);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: server.address().port,
    stop() {
      for (const socket of sockets) socket.destroy();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}

/** A server whose answer to EHLO is a line without an end; encrypted with a certificate. */
export async function endlessServer(certificate) {
  const sockets = new Set();
  const part = 'x'.repeat(65_536);
  const talk = (socket) => {
    socket.on('error', () => {});
    sockets.add(socket);
    socket.write('220 mail ESMTP\r\n');
    socket.once('data', () => {
      const more = () => {
        while (!socket.destroyed && socket.write(part));
      };
      socket.on('drain', more);
      more();
    });
  };
  const server = certificate ? createTlsServer({ key: certificate.key, cert: certificate.cert }, talk) : createServer(talk);
  server.on('tlsClientError', () => {});
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: server.address().port,
    stop() {
      for (const socket of sockets) socket.destroy();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Somebody between sidecar and server, who adds answers to the one to STARTTLS, before the connection is encrypted. */
export async function injectingServer(certificate) {
  const encrypted = [];
  const sockets = new Set();
  const server = createServer((socket) => {
    socket.on('error', () => {});
    sockets.add(socket);
    socket.write('220 mail ESMTP\r\n');
    const onPlain = (chunk) => {
      const line = chunk.toString();
      if (/^EHLO/.test(line)) socket.write('250-mail\r\n250 STARTTLS\r\n');
      if (!/^STARTTLS/.test(line)) return;
      socket.off('data', onPlain);
      const answers = ['220 go ahead', '250 AUTH PLAIN', '235 welcome', '250 sender', '250 recipient', '354 text', '250 accepted'];
      socket.write(answers.map((answer) => `${answer}\r\n`).join(''));
      const tls = new TLSSocket(socket, { isServer: true, key: certificate.key, cert: certificate.cert });
      tls.on('error', () => {});
      tls.on('data', (data) => encrypted.push(data.toString()));
    };
    socket.on('data', onPlain);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: server.address().port,
    encrypted,
    stop() {
      for (const socket of sockets) socket.destroy();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}

/** The value of a header, unfolded. */
export const header = (text, name) =>
  text
    .split('\r\n\r\n')[0]
    .replace(/\r\n[ \t]+/g, ' ')
    .match(new RegExp(`^${name}: (.*)$`, 'im'))?.[1];
