// The exceptions that the lints allow, each with its reason. An exception that nothing needs any more fails the lint.

// Files of more than 400 lines: how long each may be at most.
export const LARGE_FILES = [];

// Subjects of tests that are no domain: what a file's name may begin with in these folders, and why.
export const NO_DOMAIN = {
  'tests/journeys': {
    auth: 'login belongs to the platform: self-hosted Supabase brings its own',
    clients: 'what supabase-js promises for the tables of every domain',
    realtime: 'the realtime service belongs to the platform: self-hosted Supabase brings its own',
    runtimes: 'the same client in each version of Node.js and in a browser',
  },
  'tests/database-race': {
    login: 'login belongs to the platform: self-hosted Supabase brings its own',
  },
};

// Functions of schema private that are named after what they do although a domain other than the foundation creates them.
export const SHARED_FUNCTIONS = {
  org_ids_with: 'the policies of every domain call it',
};

// By crate: groups of modules that may depend on each other in a cycle, until they are separated.
export const CYCLES = {};
