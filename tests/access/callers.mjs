// The callers of the access matrix.

/** Each caller, in the order of the matrix's columns. `person`: whose token. `key`: which API key of the world. */
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
  revoked: { person: 'revoked', about: "an owner's token whose session was revoked" },
  removed: { person: 'removed', about: 'a former owner, who was removed' },
  banned: { person: 'banned', about: 'an owner who is banned' },
  service: { token: 'service', about: 'the service key of the installation: role service_role' },
};
