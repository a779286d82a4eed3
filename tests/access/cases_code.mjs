// The cases of the index of repositories and of documents, in the form of cases.mjs.

export const CODE_FUNCTIONS = {
  'start_ingestion(project_id)': { call: (w) => ({ project_id: w.project }), 'call:private': (w) => ({ project_id: w.secretProject }) },
  'ingestion_status(project_id)': { call: (w) => ({ project_id: w.project }), 'call:private': (w) => ({ project_id: w.secretProject }) },
  'cancel_ingestion(project_id)': { call: (w) => ({ project_id: w.project }), 'call:private': (w) => ({ project_id: w.secretProject }) },
  'search_documents(q,tags,path,project_id,n,skip)': {
    call: () => ({ q: 'matrix' }),
    'call:private': (w) => ({ q: 'matrix', project_id: w.secretProject }),
  },
  'search_symbols(q,kinds,languages,path,repository_id,branch,min_score,n,matches)': {
    call: () => ({ q: 'matrix' }),
    'call:private': (w) => ({ q: 'matrix', repository_id: w.secretRepository }),
  },
  'search_code(q,match_case,whole_word,context,languages,path,repository_id,branch,n)': {
    call: () => ({ q: 'matrix_symbol' }),
    'call:private': (w) => ({ q: 'matrix_symbol', repository_id: w.secretRepository }),
  },
  'symbol_graph(symbol,direction,repository_id,branch,path,depth,kinds,at_commit,n)': {
    call: () => ({ symbol: 'matrix_symbol' }),
    'call:private': (w) => ({ symbol: 'matrix_symbol', repository_id: w.secretRepository }),
  },
  'list_code_files(repository_id,branch,path,after_path,n)': {
    call: (w) => ({ repository_id: w.repository }),
    'call:private': (w) => ({ repository_id: w.secretRepository }),
  },
  'read_code_file(repository_id,path,branch,start_line,end_line)': {
    call: (w) => ({ repository_id: w.repository, path: 'src/matrix.rs' }),
    'call:private': (w) => ({ repository_id: w.secretRepository, path: 'src/matrix.rs' }),
  },
  'list_file_symbols(repository_id,path,branch)': {
    call: (w) => ({ repository_id: w.repository, path: 'src/matrix.rs' }),
    'call:private': (w) => ({ repository_id: w.secretRepository, path: 'src/matrix.rs' }),
  },
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
  'code_overview(repository_id,branch)': {
    call: (w) => ({ repository_id: w.repository }),
    'call:private': (w) => ({ repository_id: w.secretRepository }),
  },
  'code_candidates(literals,languages,path,repository_id,branch,max_bytes,after)': {
    call: (w) => ({ repository_id: w.repository }),
    'call:private': (w) => ({ repository_id: w.secretRepository }),
  },
};
