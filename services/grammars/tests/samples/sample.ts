import fs, { readFile as read } from "node:fs";
import * as path from "node:path";
import type { Config } from "./config.js";
export { helper } from "./helper.js";

/** How often a request is tried. */
export const RETRIES = 3;
let counter = 0;

export interface Store<T> extends Base<T> {
  readonly size: number;
  get(key: string): T | undefined;
}

export type Key = string | number;

export enum Level { Debug, Info = "info" }

export declare function external(name: string): void;

/**
 * Keeps values in memory.
 */
@injectable()
export abstract class MemoryStore<T> extends Emitter implements Store<T>, Closable {
  private readonly values = new Map<string, T>();
  #secret = 1;
  static instance?: MemoryStore<unknown>;

  constructor(private config: Config) {
    super();
    this.load(config);
  }

  get size(): number { return this.values.size; }

  public async load(config: Config): Promise<void> {
    const local = await read(config.path);
    this.emit("loaded", path.join(local.toString(), fs.constants.toString()));
  }

  protected abstract reset(): void;
}

export const parse = <T>(text: string): T => JSON.parse(text) as T;

export default function main(args: string[]): number {
  counter += args.length;
  return parse<number>(String(counter));
}

namespace Tools {
  export function trim(text: string) { return text.trim(); }
}

function* ids() { yield counter++; }

export const handlers = {
  onOpen: (event: Event) => main([event.type]),
  onClose() { return ids(); },
};
