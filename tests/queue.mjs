// The queue of jobs in tests that claim by themselves, once.

/**
 * Lets the next claim find all that is queued: a commit of over a quarter of a second leaves its jobs behind the watermark of due
 * jobs until a minute's maintenance. `query` runs a statement as the owner of the domain.
 */
export const rewindWatermark = (query) => query(`select setval('private.jobs_due_watermark', 0)`);
