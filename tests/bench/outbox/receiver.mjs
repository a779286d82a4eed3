// A receiver in a process of its own: it listens on as many ports as there are hosts, and reports when each request came.
import { createServer } from 'node:http';

const HOSTS = Number(process.argv[2]);
const arrivals = [];
let expected = Number.POSITIVE_INFINITY;

const report = () => {
  process.send({ arrivals: arrivals.splice(0) });
  expected = Number.POSITIVE_INFINITY;
};

const listen = () =>
  new Promise((resolve) => {
    const server = createServer((request, response) => {
      let body = '';
      request.on('data', (part) => {
        body += part;
      });
      request.on('end', () => {
        arrivals.push([JSON.parse(body).n, performance.timeOrigin + performance.now()]);
        response.end();
        if (arrivals.length >= expected) report();
      });
    });
    server.listen(0, () => resolve(server.address().port));
  });

process.on('message', (message) => {
  expected = message.expected;
  if (arrivals.length >= expected) report();
});
process.send({ ports: await Promise.all(Array.from({ length: HOSTS }, listen)) });
