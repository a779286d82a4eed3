//! Quotas. The inside is plpgsql over tables of the extension's own (limits.sql): one counter row for a subject and
//! meter, locked by every call that uses it, and one ledger row for every use.
