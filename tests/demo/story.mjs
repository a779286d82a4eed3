// How the demo talks: numbered steps with what came back and how long it took. A step that throws ends the story.

export class Story {
  #number = 0;
  #started = performance.now();
  #interactive = process.stdout.isTTY;
  #untold = null; // the running step's title, until something is printed under it

  title(text) {
    console.log(`\n${text}\n${'-'.repeat(text.length)}`);
  }

  // Runs one step. `work` gets `say` for the lines of what came back, printed under the title once the time is known.
  async step(title, work) {
    this.#number += 1;
    const head = `${String(this.#number).padStart(2)}  ${title}`;
    const lines = [];
    this.#untold = head;
    const started = performance.now();
    try {
      const result = await work((line) => lines.push(line));
      this.#print(head, lines, elapsed(started));
      return result;
    } catch (error) {
      this.#print(head, lines, `FAILED after ${elapsed(started)}`);
      throw error;
    }
  }

  // A line that changes while something is waited for; without a terminal only `milestone` texts are printed.
  progress(text, { milestone = false } = {}) {
    if (this.#interactive) process.stdout.write(`\r\u001b[K      ${text}`);
    else if (milestone) {
      this.#tellTitle();
      console.log(`      ${text}`);
    }
  }

  end() {
    console.log(`\nAll ${this.#number} steps came out as expected, in ${elapsed(this.#started)}.`);
  }

  #tellTitle() {
    if (this.#untold !== null) console.log(this.#untold);
    this.#untold = null;
  }

  #print(head, lines, time) {
    if (this.#interactive) process.stdout.write('\r\u001b[K');
    if (this.#untold === null) console.log(`      ${time}`);
    else console.log(`${head.padEnd(72)} ${time.padStart(8)}`);
    for (const line of lines) console.log(`      ${line}`);
  }
}

export function elapsed(since) {
  const ms = performance.now() - since;
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

export function short(value, length = 100) {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  const line = text.replace(/\s+/g, ' ');
  return line.length > length ? `${line.slice(0, length - 3)}...` : line;
}

export const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Asks again until `probe` returns something, or fails with what was waited for.
export async function until(what, probe, { timeoutMs, everyMs = 500, onWait = () => {} }) {
  const started = performance.now();
  for (;;) {
    const found = await probe();
    if (found) return found;
    const waited = performance.now() - started;
    if (waited > timeoutMs) throw new Error(`waited ${elapsed(started)} for ${what}`);
    onWait(Math.round(waited / 1000));
    await wait(everyMs);
  }
}
