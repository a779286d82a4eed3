// The routes of storage, login, realtime and the sidecar: each with the victim's names in its path, query and body.
import { Random } from './random.mjs';

const DEPTH = 3;

/** What stands for a parameter of a route, in the order in which it is tried. `own` is a path below the stranger's organization. */
const parameters = ({ world, objects, own, rows }, path) => ({
  bucket: [objects.bucket, objects.other],
  '*path': [...objects.names, objects.names[0].toUpperCase(), `${own}/../../${objects.names[0]}`, objects.folder, own],
  topic: [`org:${world.org}`, `project:${world.secretProject}`],
  event: ['kanary'],
  id: [world.people.owner.id, world.reflex],
  repository_id: [world.repository],
  '*id': [rows['public.llm_routes'][0].name, `${rows['public.llm_providers'][0].name}/gpt-5`, 'echo/echo'],
  '*name': [rows['public.prompts'][0].path],
  symbol: ['kanary', 'main'],
  method: ['batch', 'track', 'identify'],
  environment: ['production', 'guarded'],
  key: ['matrix', 'other'],
  ...(path.startsWith('/llm/v1/prompts') && { '*path': [`${rows['public.prompts'][0].path}/call`] }),
  ...(path.startsWith('/functions/v1') && { '*path': ['matrix', `matrix/${world.org}`, world.project] }),
});

/** Bodies of the gateway's calls: the victim's routes and providers as models, and its ids where a call may have texts of its own. */
function llmBodies({ world, rows }) {
  const names = [rows['public.llm_routes'][0].name, `${rows['public.llm_providers'][0].name}/gpt-5`, 'echo/echo'];
  return names.map((model) => ({
    model,
    messages: [{ role: 'user', content: world.skill }],
    input: world.skill,
    prompt: world.skill,
    user: world.people.owner.id,
    metadata: { org_id: world.org, project_id: world.project },
    stream: model !== names[0],
    n: 1,
  }));
}

/** Messages of agents, and searches: of the victim's repositories. */
function codeBodies({ world }) {
  const repository = { repository_id: world.repository, branch: 'main' };
  const secret = { repository_id: world.secretRepository };
  const tools = [
    ['search_code', { q: 'kanary', regex: true, ...repository }],
    ['read_code_file', { path: 'src/main.rs', ...secret }],
    ['list_code_files', repository],
    ['search_symbols', { q: 'kanary', ...secret }],
    ['symbol_graph', { symbol: 'kanary', ...repository }],
    ['code_overview', secret],
    ['index_repository', { repository_id: world.repository }],
    ['get_indexing_job', { indexing_job_id: world.indexing }],
  ];
  return tools.map(([name, args], id) => ({
    ...{ jsonrpc: '2.0', id, method: 'tools/call', params: { name, arguments: args } },
    ...{ query: 'kanary', pattern: 'kanary', q: 'kanary', ...args },
  }));
}

/** Headers that say for which organization, project and skill a call is. */
const llmHeaders = ({ world }) => [
  {},
  { 'x-org-id': world.org, 'OpenAI-Project': world.secretProject },
  { 'OpenAI-Organization': world.org, 'X-Skill-Id': world.skill },
  { 'OpenAI-Project': world.project },
];

/** Bodies that any route understands a part of: from the victim's names, to them, and lists of them. */
const bodies = ({ world, objects, own }) => {
  const [name, secret] = objects.names;
  const person = world.people.owner;
  const common = {
    bucketId: objects.bucket,
    expiresIn: 60,
    limit: 100,
    options: {},
    type: 'recovery',
    password: 'a-wrong-password',
    token: '123456',
  };
  return [
    {
      ...common,
      prefix: objects.folder,
      prefixes: [name, secret],
      paths: [name, secret],
      sourceKey: name,
      destinationKey: `${own}/stolen`,
      email: person.email,
      user_id: person.id,
      data: { org_id: world.org, role: 'owner' },
      app_metadata: { org_id: world.org, role: 'service_role' },
      refresh_token: world.org,
      token_hash: world.org,
      code: world.org,
      skill_id: world.skill,
      messages: [{ topic: `org:${world.org}`, event: 'kanary', payload: { a: 1 }, private: true }],
    },
    {
      ...common,
      prefix: '',
      sourceKey: secret,
      destinationBucket: objects.other,
      destinationKey: `${own}/stolen`,
      email: person.email,
      type: 'magiclink',
      create_user: false,
      messages: [{ topic: `user:${person.id}`, event: 'kanary', payload: {}, private: true }],
    },
    {
      ...common,
      prefix: `${objects.folder}/`,
      sourceKey: `${own}/mine`,
      destinationKey: name,
      type: 'signup',
      email: person.email,
      provider: 'github',
    },
  ];
};

const QUERIES = ({ world, objects }) => [
  '',
  `?grant_type=password&org_id=${world.org}&token=${world.org}&type=recovery&prefix=${objects.folder}`,
  `?grant_type=refresh_token&topic=org:${world.org}&private=true&user_id=${world.people.owner.id}`,
  `?grant_type=pkce&download=&token=${world.org}&state=${world.org}&code=${world.org}&scope=others`,
];

const CODE_QUERIES = ({ world }) => [
  `?query=kanary&repository_id=${world.repository}`,
  `?pattern=kanary&job_id=${world.indexing}&repository_id=${world.secretRepository}`,
];

/** Messages of product events about the victim's persons. */
const eventBodies = ({ world }) => [
  { batch: [{ type: 'alias', userId: 'mine', previousId: 'matrix' }], context: { org_id: world.org } },
  { event: 'Ordered', userId: 'matrix', messageId: 'matrix', org_id: world.org },
  { userId: 'matrix', traits: { org_id: world.org, person_id: world.person } },
];

/** Contexts and reports about the victim's flags. */
const flagBodies = ({ world }) => [
  { context: { userId: world.people.owner.id, targetingKey: world.people.owner.id, org_id: world.org, role: 'owner' } },
  { bucket: { toggles: { matrix: { yes: 1, no: 1, variants: { a: 1 } } } }, org_id: world.org },
  { properties: { flag_id: world.flag, org_id: world.org, plan: 'ENTERPRISE' } },
];

/** Requests to one route. Each of its parameters takes each value once; bodies and queries go along with them. */
export function* routeAttacks(context, { method, path }) {
  const random = new Random('route', method, path);
  const values = parameters(context, path);
  const names = [...path.matchAll(/\{([^}]+)\}/g)].map(([, name]) => name);
  const widest = Math.max(1, ...names.map((name) => values[name]?.length ?? 1));
  const isLlm = path.startsWith('/llm/v1');
  const isEvents = path.startsWith('/api/v1/ingest');
  const isFlags = path.startsWith('/api/v1/flags');
  const isCode = !isEvents && !isFlags && (path === '/mcp' || path.startsWith('/api/v1'));
  const [said, asked, headers] = [
    isEvents
      ? eventBodies(context)
      : isFlags
        ? flagBodies(context)
        : isLlm
          ? llmBodies(context)
          : isCode
            ? codeBodies(context)
            : bodies(context),
    isCode ? CODE_QUERIES(context) : QUERIES(context),
    isLlm ? llmHeaders(context) : [undefined],
  ];
  for (let at = 0; at < Math.max(widest, headers.length, isCode ? said.length : DEPTH); at += 1) {
    const filled = path.replaceAll(/\{([^}]+)\}/g, (_, name) =>
      encodePath(values[name] ? values[name][at % values[name].length] : context.world.org),
    );
    yield {
      subject: `${method} ${path}`,
      method,
      path: `${filled}${asked[at % asked.length]}`,
      headers: headers[at % headers.length],
      body: method === 'GET' ? undefined : JSON.stringify(at < said.length ? said[at] : random.pick(said)),
      // A function or a provider of the test is at no address.
      outside: /^\/functions\/v1|^\/auth\/v1\/(authorize|callback)/.test(path),
    };
  }
}

const encodePath = (path) => path.split('/').map(encodeURIComponent).join('/');
