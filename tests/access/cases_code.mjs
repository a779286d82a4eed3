// The cases of the index of repositories, in the form of cases.mjs.

export const CODE_FUNCTIONS = {
  'index_repository(repository_id,branch)': {
    call: (w) => ({ repository_id: w.repository }),
    'call:private': (w) => ({ repository_id: w.secretRepository }),
  },
  'cancel_indexing(indexing_job_id)': {
    call: (w) => ({ indexing_job_id: w.indexing }),
    'call:private': (w) => ({ indexing_job_id: w.secretIndexing }),
  },
  'retry_indexing(indexing_job_id)': {
    call: (w) => ({ indexing_job_id: w.indexing }),
    'call:private': (w) => ({ indexing_job_id: w.secretIndexing }),
  },
};
