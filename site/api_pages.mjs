// The OpenAPI document as Markdown, one page for each tag: what a reader looks up, without a program that draws it in the browser.
const METHODS = ['get', 'post', 'put', 'patch', 'delete'];

const escaped = (text) =>
  String(text ?? '')
    .replaceAll(/\s+/g, ' ')
    .replaceAll(/[|<>{}*_[\]\\]/g, '\\$&');
const code = (text) => `\`${String(text).replaceAll(/\s+/g, ' ').replaceAll('|', '\\|')}\``;

/** The type of a schema in a few words. */
function typeOf(schema = {}) {
  if (schema.$ref) return schema.$ref.split('/').at(-1);
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return choices.map(typeOf).join(' | ');
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(' | ');
  const types = [schema.type ?? 'any'].flat().map((type) => (type === 'array' ? `${typeOf(schema.items)}[]` : type));
  const [first, ...others] = types;
  return [schema.format && first === 'string' ? schema.format : first, ...others].join(' | ');
}

function resolved(document, node) {
  return node?.$ref
    ? node.$ref
        .split('/')
        .slice(1)
        .reduce((value, part) => value[part], document)
    : node;
}

function fieldTable(document, schema) {
  const { properties = {}, required = [] } = resolved(document, schema) ?? {};
  const rows = Object.entries(properties).map(
    ([name, field]) =>
      `| ${code(name)}${required.includes(name) ? '' : ', optional'} | ${code(typeOf(field))} | ${escaped(field.description)} |`,
  );
  return rows.length === 0 ? [] : ['| Field | Type | |', '|---|---|---|', ...rows, ''];
}

function securityLine(security = []) {
  if (security.length === 0) return 'Without a key.';
  const names = { apikey: '`apikey`', bearer: '`Authorization: Bearer`', apiKey: '`X-API-Key`', basic: '`Authorization: Basic`' };
  return `With ${security
    .map((each) =>
      Object.keys(each)
        .map((name) => names[name])
        .join(' and '),
    )
    .join(', or ')}.`;
}

function operationSection(document, path, method, operation) {
  const lines = [`## ${escaped(operation.summary)}`, '', '```text', `${method.toUpperCase()} ${path}`, '```', ''];
  if (operation.description) lines.push(escaped(operation.description), '');
  lines.push(securityLine(operation.security), '');
  const parameters = (operation.parameters ?? []).map((each) => resolved(document, each));
  if (parameters.length > 0) {
    lines.push(
      '| Parameter | In | Type | |',
      '|---|---|---|---|',
      ...parameters.map(
        ({ name, in: place, required, schema, description }) =>
          `| ${code(name)}${required ? '' : ', optional'} | ${place} | ${code(typeOf(schema))} | ${escaped(description)} |`,
      ),
      '',
    );
  }
  for (const [type, { schema }] of Object.entries(operation.requestBody?.content ?? {})) {
    const fields = fieldTable(document, schema);
    lines.push(`Body, ${code(type)}${operation.requestBody.required ? '' : ', optional'}: ${code(typeOf(schema))}`, '', ...fields);
  }
  for (const [status, response] of Object.entries(operation.responses).filter(([each]) => each !== 'default')) {
    const { description, content = {} } = resolved(document, response);
    const [type, { schema } = {}] = Object.entries(content)[0] ?? [];
    lines.push(`${status}: ${escaped(description)}${type ? `, ${code(type)}: ${code(typeOf(schema))}` : ''}`, '');
    if (schema && !schema.$ref) lines.push(...fieldTable(document, schema));
  }
  return lines;
}

/** A table: its operations, and its columns with what may be written. */
function tableSection(document, path, item) {
  const name = path.split('/').at(-1);
  const { description, properties, required = [] } = document.components.schemas[name];
  const insert = document.components.schemas[`${name}_insert`];
  const update = document.components.schemas[`${name}_update`];
  const methods = METHODS.filter((method) => item[method]);
  const written = (column) => [
    insert?.properties[column] && (insert.required?.includes(column) ? '**insert**' : 'insert'),
    update?.properties[column] && 'update',
  ];
  return [
    `## ${escaped(name)}`,
    '',
    ...(description ? [escaped(description), ''] : []),
    ...methods.flatMap((method) => [`- ${code(`${method.toUpperCase()} ${path}`)}: ${securityLine(item[method].security)}`]),
    '',
    '| Column | Type | Written by | |',
    '|---|---|---|---|',
    ...Object.entries(properties).map(
      ([column, schema]) =>
        `| ${code(column)}${required.includes(column) ? '' : ', optional'} | ${code(typeOf(schema))} | ${written(column).filter(Boolean).join(', ')} | ${escaped(schema.description)} |`,
    ),
    '',
  ];
}

const ABOUT = {
  tables:
    'Every column is a filter, such as `?status=eq.active`. `select`, `order`, `limit`, `offset`, `on_conflict` and the header `Prefer` are PostgREST’s own. A column in bold must be given on insert.',
  rpc: 'Functions take their arguments as a JSON object. Those that only read can be called with GET as well, with the arguments in the query.',
};

/** [name, Markdown] of each page. */
export function apiPages(document) {
  return document.tags.map(({ name, description }) => {
    const items = Object.entries(document.paths).filter(([, item]) => Object.values(item)[0].tags[0] === name);
    const sections =
      name === 'tables'
        ? items.flatMap(([path, item]) => tableSection(document, path, item))
        : items.flatMap(([path, item]) =>
            METHODS.filter((method) => item[method] && !(name === 'rpc' && method === 'get')).flatMap((method) =>
              operationSection(document, path, method, item[method]),
            ),
          );
    const title = `# HTTP: ${name}`;
    const machine = 'Programs read the [OpenAPI document](pathname:///docs/openapi.json).';
    return [name, [title, '', escaped(description), ...(ABOUT[name] ? ['', ABOUT[name]] : []), '', machine, '', ...sections].join('\n')];
  });
}
