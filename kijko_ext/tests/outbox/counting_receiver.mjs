// A receiver in a process of its own, which a crash of the server does not touch. Prints its port; on a line of standard input
// it prints what it has got: {id: times}.
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';

const times = {};
const server = createServer((request, response) => {
  const id = request.headers['idempotency-key'];
  times[id] = (times[id] ?? 0) + 1;
  request.resume();
  // Some are slow, so that a crash finds attempts of every kind under way.
  setTimeout(() => response.end(), Math.random() < 0.1 ? 100 : 0);
});
server.listen(0, () => console.log(server.address().port));
createInterface({ input: process.stdin }).on('line', () => console.log(JSON.stringify(times)));
