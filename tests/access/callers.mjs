// The callers of the access matrix.

/** Each caller, in the order of the matrix's columns. `person`: whose token. `key`: which API key. `user`: whose rows are its own. */
export const CALLERS = {
  anon: { about: 'no user: the anon key' },
  nonmember: { person: 'nonmember', outsider: true, about: 'a user who owns another organization' },
  viewer: { person: 'viewer', about: 'a member with the role viewer' },
  member: { person: 'member', about: 'a member with the role member; a member of no private project' },
  admin: { person: 'admin', about: 'a member with the role admin' },
  owner: { person: 'owner', about: 'a member with the role owner' },
  custom: {
    person: 'custom',
    about: 'a member with a custom role: base role viewer; `projects:read`, `projects:write`, `skills:read`, `members:read`',
  },
  readkey: {
    key: { maker: 'owner', kind: 'service', permissions: ['*:read'] },
    about: 'a service key of an owner with `*:read`: it only reads',
  },
  servkey: {
    key: { maker: 'owner', kind: 'service', permissions: ['*:read', '*:write', 'skills:execute'] },
    about: 'a service key of an owner with `*:read`, `*:write` and `skills:execute`',
  },
  perskey: {
    key: { maker: 'member', kind: 'personal', permissions: ['*:read', '*:write', 'skills:execute'] },
    user: 'member',
    about: 'a personal key of the member with the same permissions',
  },
  pubkey: {
    key: { maker: 'owner', kind: 'publishable', permissions: ['events:ingest'], origin: 'https://app.example.com' },
    about: 'a publishable key of an owner with `events:ingest`, from its origin',
  },
  otherkey: {
    key: { maker: 'nonmember', kind: 'service', permissions: ['*:read', '*:write', 'skills:execute'] },
    outsider: true,
    about: "a service key of the other organization's owner with the permissions of `servkey`",
  },
  revoked: { person: 'revoked', about: "an owner's token whose session was revoked" },
  removed: { person: 'removed', about: 'a former owner, who was removed' },
  banned: { person: 'banned', about: 'an owner who is banned' },
  service: { token: 'service', about: 'the service key of the installation: role service_role' },
};
