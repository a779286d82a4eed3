const http = require("node:http");
const { join } = require("node:path");
import def, { named as other } from "./lib.js";

/** The default port. */
const PORT = 8080;
var legacy = true;
let server;

// A queue of jobs.
class Queue extends EventTarget {
  static limit = 10;
  #items = [];
  constructor(name) { super(); this.name = name; }
  get length() { return this.#items.length; }
  static create(name) { return new Queue(name); }
  async push(item) { this.#items.push(item); await notify(this, item); }
  *drain() { yield* this.#items; }
}

const Anonymous = class Named { run() {} };

function notify(queue, item) {
  function inner() { return item; }
  return http.request(inner(queue));
}

async function* stream(source) { for await (const part of source) yield part; }

const add = (a, b) => a + b;
export const multiply = function (a, b) { return a * b; };
exports.handler = async (event) => other(event);
Queue.prototype.clear = function () { this.length = 0; };

export default class Server {
  start = () => { server = http.createServer(this.handle); };
  handle(request, response) { response.end(join(def(request), "x")); }
}

module.exports = {
  open: function () { return add(1, multiply(2, 3)); },
  close() { return legacy; },
};
