// Bodies and arguments of the access matrix: accounts at other services, and applications there.

export const CONNECTION_RELATIONS = {
  connections: {
    // Made by functions only. Members with connections:write delete.
    insert: (t) => ({ org_id: t.org, provider: 'matrix', account_id: 'new' }),
    update: () => ({ status: 'active' }),
  },
  connection_applications: {
    insert: (t) => ({ org_id: t.org, provider: 'hub', client_id: 'new' }),
    update: () => ({ client_id: 'other' }),
  },
};

export const CONNECTION_FUNCTIONS = {
  // A provider of the test stack.
  'begin_connection(provider,scopes,redirect_to,connection_id)': { call: () => ({ provider: 'hub' }) },
  'complete_connection(code)': { call: () => ({ code: 'none' }) },
  'list_connection_providers()': { call: () => ({}) },
  'set_connection_application(provider,client_id,client_secret)': {
    call: () => ({ provider: 'hub', client_id: 'new', client_secret: 'secret' }),
    'call:replace': () => ({ provider: 'lab', client_id: 'new', client_secret: 'secret' }),
  },
};
