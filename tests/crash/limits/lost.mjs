// Whether an error means that the connection is gone, rather than that the server has refused something.
export function isLost(error) {
  return !error.code || error.syscall !== undefined || error.code.startsWith('57P') || error.code.startsWith('08');
}
