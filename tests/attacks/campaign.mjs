// One run: the stages of the attacks, and what they found.
import { randomBytes, randomUUID } from 'node:crypto';
import { ENDS_PEOPLE } from '../access/cases.mjs';
import { query } from '../access/db.mjs';
import { briefCalls, calls } from './calls.mjs';
import { documentedCodes, essence, gist, Judge, outcome, textOf } from './judge.mjs';
import { ignored, isDocumented } from './known.mjs';
import { revive } from './persons.mjs';
import { Random } from './random.mjs';
import { briefReads, embeds, hiddenReads, reads } from './reads.mjs';
import { routeAttacks } from './routes.mjs';
import { topicAttacks } from './topics.mjs';
import { changes, rowsOf, tokensOf } from './victim.mjs';
import { inParallel, send } from './wire.mjs';
import { briefWrites, colleagueWrites, writes } from './writes.mjs';

// PostgREST has ten connections.
const WIDTH = 10;

export class Campaign {
  /** `attacked`: the subjects to which a request was sent. `share`: which part of the attacks on each subject is sent. */
  constructor(fixture, surface, judge, share = 1) {
    Object.assign(this, { fixture, surface, judge, share, unsettled: new Set(), attacked: new Set() });
    const kinds = Object.entries(fixture.rows).flatMap(([table, rows]) =>
      rows
        .slice(0, 4)
        .flatMap(({ id }) =>
          fixture.ids.includes(id) ? [{ id, kind: table.split('.')[1].replace(/ies$/, 'y').replace(/xes$/, 'x').replace(/s$/, '') }] : [],
        ),
    );
    const people = fixture.victims.map((id) => ({ id, kind: 'user' }));
    this.context = {
      world: fixture.world,
      rows: fixture.rows,
      ownRows: fixture.ownRows,
      hiddenRows: fixture.hidden(fixture.rows),
      surface,
      ids: [{ id: fixture.world.org, kind: 'org' }, ...people, ...kinds],
      texts: [...fixture.canaries.keys()].filter((token) => token.startsWith('kanary') || token.includes('@')),
      tables: surface.relations.map(({ name }) => name),
      relations: new Map(surface.relations.map((relation) => [relation.name, relation])),
      // An invitation's token is a right in itself: who has it may accept.
      victim: { ...fixture.world, token: `kji_${randomUUID()}` },
    };
  }

  static async start(fixture, surface, { share = 1 } = {}) {
    return new Campaign(fixture, surface, new Judge(await documentedCodes()), share);
  }

  /** Sends a request, examines the answer, and compares it with that to the same request about nothing. */
  async attack(attacker, request) {
    const headers = { ...attacker.headers, ...request.headers };
    const names = this.#namesIn(attacker, request);
    this.judge.note(request);
    const answer = await send(request.method, request.path, { headers, body: request.body, timed: names.length > 0 ? 'real' : undefined });
    this.attacked.add(request.subject);
    this.judge.examine(attacker, request.subject, request, answer);
    if (names.length > 0 && !request.orders) await this.#compare(attacker, request, names, answer);
    return answer;
  }

  /** What a request has of the values that the attacker may not see, the longest first. */
  #namesIn({ forbidden }, request) {
    return [...tokensOf(textOf({ ...request, headers: request.headers }))]
      .filter((token) => forbidden.has(token))
      .sort((one, other) => other.length - one.length);
  }

  async #compare(attacker, request, names, answer) {
    const real = essence(answer, names);
    const form = renamed(
      `${request.method} ${request.path} ${JSON.stringify(request.headers ?? {})} ${request.body}`,
      names,
      names.map((_, at) => `<${at}>`),
    );
    attacker.twins ??= new Map();
    const known = attacker.twins.get(form);
    if (known && gist(known) === gist(real)) return;
    const none = await this.#twin(attacker, request, names);
    attacker.twins.set(form, none);
    if (gist(none) === gist(real)) return;
    if (isDocumented(request, answer, attacker)) return;
    // The requests themselves may have changed something, or used up what there is for either: both once more, in turns.
    const repeat = async () => {
      const headers = { ...attacker.headers, ...request.headers };
      return essence(await send(request.method, request.path, { headers, body: request.body }), names);
    };
    const again = await repeat();
    const other = await this.#twin(attacker, request, names);
    if (gist(again) === gist(other)) return;
    if (outcome(again) !== outcome(other) && outcome(await repeat()) === outcome(other)) {
      this.unsettled.add(request.subject);
      return;
    }
    // An answer that differs by itself, as one with a name that the product numbers, says only whether it succeeds and how it fails.
    const third = await this.#twin(attacker, request, names);
    if (gist(other) !== gist(third) && (outcome(again) === outcome(other) || outcome(other) !== outcome(third))) {
      this.unsettled.add(request.subject);
      return;
    }
    this.judge.report(
      'oracle',
      attacker.name,
      request.subject,
      `${again.slice(0, 300)} for the victim's, ${other.slice(0, 300)} for none`,
      request,
    );
  }

  async #twin(attacker, request, names) {
    const others = names.map(fake);
    const answer = await send(request.method, renamed(request.path, names, others), {
      headers: { ...attacker.headers, ...JSON.parse(renamed(JSON.stringify(request.headers ?? {}), names, others)) },
      body: request.body === undefined ? undefined : renamed(request.body, names, others),
      timed: 'none',
    });
    return essence(answer, others);
  }

  /** Sends these requests to one subject; of many, the first and a sample of the others. */
  async #all(attacker, requests) {
    const list = [...requests];
    const random = new Random('attacks', attacker.name, list[0]?.subject);
    for (const request of random.firstAndShare(list, this.share)) await this.attack(attacker, request);
  }

  /** Whose every request is refused tries a part of the subjects only; nobody else does. */
  #subjectsFor(attacker, kind, list) {
    return attacker.refused ? new Random('subjects', attacker.name, kind).share(list, this.share) : list;
  }

  /** Reads, writes and calls of strangers. Afterwards the victim's rows are as they were. */
  async strangers({ only = () => true, parts = ['reads', 'embeds', 'hidden', 'writes', 'calls'] } = {}) {
    const hidden = parts.includes('hidden') ? await this.#hiddenTables() : [];
    const tasks = this.fixture.strangers
      .filter(({ name }) => only(name))
      .flatMap((attacker) => {
        const mine = { ...this.context, attacker, hidden };
        const [tables, functions] = [() => this.#tables(mine, parts), () => this.#functions(mine, parts)];
        // What a call ends, such as a session, must not be missing in the middle of a comparison.
        return attacker.person ? [() => tables().then(functions)] : [tables, functions];
      });
    await inParallel(tasks, WIDTH);
    await this.unchanged('strangers');
  }

  async #tables(context, parts) {
    const { attacker, surface } = context;
    const isDeep = attacker.deep === true || attacker.deep === 'tables';
    for (const relation of this.#subjectsFor(attacker, 'relations', surface.relations)) {
      if (parts.includes('reads')) await this.#all(attacker, isDeep ? reads(context, relation) : briefReads(context, relation));
      if (parts.includes('writes')) await this.#all(attacker, isDeep ? writes(context, relation) : briefWrites(context, relation));
      await revive(attacker);
    }
    if (!isDeep) return;
    if (parts.includes('embeds')) for (const one of surface.relationships) await this.#all(attacker, embeds(context, one));
    await this.#all(attacker, hiddenReads(context));
  }

  async #functions(context, parts) {
    if (!parts.includes('calls')) return;
    const { attacker, surface } = context;
    const isDeep = attacker.deep === true || attacker.deep === 'functions';
    for (const fn of this.#subjectsFor(attacker, 'functions', surface.functions)) {
      await this.#all(attacker, isDeep ? calls(context, fn) : briefCalls(context, fn));
      await revive(attacker);
    }
  }

  /** What colleagues read that the access matrix hides from them, and what they do to the private project. */
  async colleagues({ only = () => true } = {}) {
    const { surface, context, fixture } = this;
    const { world } = context;
    const secret = Object.fromEntries(
      Object.entries(world).flatMap(([name, id]) => (/^secret[A-Z]/.test(name) ? [[name[6].toLowerCase() + name.slice(7), id]] : [])),
    );
    const hidden = world.hidden;
    const tasks = fixture.colleagues
      .filter(({ name }) => only(name))
      .map((attacker) => async () => {
        const mine = {
          ...context,
          attacker,
          ids: context.ids.filter(({ id }) => hidden.has(id)),
          victim: { ...context.victim, ...secret },
        };
        for (const relation of surface.relations) {
          await this.#all(attacker, reads(mine, relation));
          await this.#all(attacker, colleagueWrites(mine, relation));
        }
        for (const relationship of surface.relationships) await this.#all(attacker, embeds(mine, relationship));
        for (const fn of surface.functions) {
          if (ENDS_PEOPLE.some((signature) => signature.startsWith(`${fn.name}(`))) continue;
          // Other calls they may make.
          const about = [...calls(mine, fn, 6)].filter(({ body, path }) => [...hidden].some((id) => `${path} ${body}`.includes(id)));
          await this.#all(attacker, about);
        }
      });
    await inParallel(tasks, WIDTH);
    await this.unchanged('colleagues', (rows) => fixture.hidden(rows));
  }

  async routes(routes, { only = () => true } = {}) {
    const { fixture, context } = this;
    const mine = { ...context, objects: fixture.objects, own: fixture.world.other.org };
    const tasks = fixture.strangers
      .filter(({ name, deep }) => deep && only(name))
      .map((attacker) => async () => {
        for (const route of routes) {
          await this.#all(attacker, routeAttacks(mine, route));
          await revive(attacker);
        }
      });
    await inParallel(tasks, WIDTH);
    await this.unchanged('routes');
  }

  topics(kinds, { only = () => true } = {}) {
    const { fixture, judge, attacked } = this;
    const attackers = fixture.strangers.filter(({ name, deep, refused }) => (deep || refused) && only(name));
    return topicAttacks({ world: fixture.world, kinds, attackers, owner: fixture.owner, judge, attacked });
  }

  /** What the attackers' reads show to somebody who may read: the tables in whose rows a canary was found. */
  async seenByOwner() {
    const { fixture, context, surface } = this;
    const judge = new Judge(() => true);
    const control = new Campaign(fixture, surface, judge);
    for (const relation of surface.relations) {
      for (const request of briefReads(context, relation)) {
        const answer = await send(request.method, request.path, { headers: { ...fixture.owner.headers, ...request.headers } });
        control.judge.examine({ ...fixture.owner, refused: false }, request.subject, { ...request, path: '' }, answer);
      }
    }
    return new Set(judge.findings.filter(({ kind }) => kind === 'leak').map(({ subject }) => subject));
  }

  /** The victim's rows are as they were before this stage. `part`: those of them that nobody of the stage may change. */
  async unchanged(stage, part = (rows) => rows) {
    const { fixture, judge } = this;
    const [then, now] = [fixture.rows, await rowsOf(fixture.world.org, fixture.ids)];
    const kept = (table, row) => ignored(table, row, fixture.victims);
    for (const { table, gone, fresh } of changes(part(then), part(now), kept)) {
      judge.report('changed', stage, table, JSON.stringify({ gone: gone.slice(0, 2), fresh: fresh.slice(0, 2) }).slice(0, 1500));
    }
    fixture.rows = now;
  }

  #hiddenTables() {
    return query(`select distinct on (1) n.nspname as schema, c.relname as name from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
      where c.relkind in ('r', 'p', 'v') and not c.relispartition and n.nspname !~ '^pg_' and n.nspname not in ('public', 'information_schema') order by 1, 2`);
  }
}

const renamed = (text, names, others) =>
  names.reduce((text, name, at) => text.replaceAll(new RegExp(escaped(name), 'gi'), () => others[at]), text);
const escaped = (text) => text.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&');

/** A value of the same form that is nobody's. */
function fake(token) {
  if (/^\d+$/.test(token)) return `7741${String(new Random('number', token, randomUUID()).below(100_000)).padStart(5, '0')}`;
  if (/kanary[0-9a-f]{12}/.test(token)) return token.replace(/kanary[0-9a-f]{12}/g, () => `kanary${randomBytes(6).toString('hex')}`);
  const uuid = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g;
  if (token.match(uuid)) return token.replace(uuid, (id) => uuidLike(id));
  return token.replaceAll(/[a-z0-9]/g, () => '0123456789abcdefghijklmnopqrstuvwxyz'[randomBytes(1)[0] % 36]);
}

/** A random id that begins as this one, with a letter or a digit: some names must. */
function uuidLike(id) {
  const other = randomUUID();
  return /^\d/.test(id) === /^\d/.test(other) ? other : uuidLike(id);
}
