// The cases of files, in the form of cases.mjs.

export const FILE_FUNCTIONS = {
  'delete_project_file(file_id)': { call: (w) => ({ file_id: w.file }), 'call:private': (w) => ({ file_id: w.secretFile }) },
  'restore_project_file(file_id,version)': {
    call: (w) => ({ file_id: w.file, version: 1 }),
    'call:private': (w) => ({ file_id: w.secretFile }),
  },
};
