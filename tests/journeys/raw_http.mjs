// Requests that neither fetch nor supabase-js would send: repeated headers, raw bytes, PostgREST without the proxy.
import nodeHttp from 'node:http';
import net from 'node:net';
import { adminSql, env } from './support.mjs';

export const url = new URL(env.API_URL);

// The internal ports are the API's plus 10 to 19.
export const direct = `http://127.0.0.1:${Number(url.port) + 10}`;

/** A request whose headers may repeat and hold any byte (latin1), and whose path is sent as it is. */
export function raw(method, base, path, headers = [], body) {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(base);
    const request = nodeHttp
      .request({ method, hostname, port, path, headers: headers.flat(), setHost: false }, (answer) => {
        const chunks = [];
        answer
          .on('data', (chunk) => chunks.push(chunk))
          .on('end', () => {
            const text = Buffer.concat(chunks).toString();
            let json;
            try {
              json = JSON.parse(text);
            } catch {
              json = undefined;
            }
            resolve({ status: answer.statusCode, headers: answer.headers, body: json, text });
          });
      })
      .on('error', reject);
    request.end(body);
  });
}

/** Bytes that node's own client would not send: the answer's status. */
export function bytes(text) {
  return new Promise((resolve, reject) => {
    const socket = net.connect(Number(url.port), url.hostname, () => socket.write(Buffer.from(text, 'latin1')));
    let answer = '';
    socket
      .on('data', (data) => {
        answer += data.toString('latin1');
      })
      .on('error', reject);
    socket.on('close', () => resolve(Number(answer.split(' ')[1])));
  });
}

/** The database connections of PostgREST, by their process ids. */
export const backends = async () =>
  (await adminSql(`select pid from pg_stat_activity where usename = 'authenticator' order by pid`)).map(({ pid }) => pid);

export const json = { 'Content-Type': 'application/json' };
export const as = (token, ...more) => [['Host', url.host], ['apikey', env.ANON_KEY], ['Authorization', `Bearer ${token}`], ...more];
