// The health port's own thread: it answers while the broker's event loop is busy, and says when that stands
// still. It reads nothing of the broker but two numbers in shared memory, and imports next to nothing.
//
// The requests are so small and few that node:http would be most of what could go wrong here: a request is
// text up to an empty line, answered once, and the connection closed.
import { createServer, type Socket } from 'node:net';
import { parentPort, workerData } from 'node:worker_threads';
import { guardConnections } from './connection-guard.ts';
import { BEATS, type HealthWorkerData, SERVING } from './health-state.ts';

const { listen, state: shared, limits } = workerData as HealthWorkerData;
const state = new Int32Array(shared);

// Heartbeats are looked for as often as they are made, and those that are missed are counted: had the time
// been measured, a process that was stopped and goes on would look as if its loop stood still.
let lastBeats = 0;
let missedBeats = 0;
setInterval(() => {
  const beats = Atomics.load(state, BEATS);
  missedBeats = beats === lastBeats ? missedBeats + 1 : 0;
  lastBeats = beats;
}, limits.heartbeatMs);

const server = createServer();
const guard = guardConnections(server, { ...limits, maxAnswerMs: limits.maxSilentMs });
server.on('connection', (socket) => {
  let request = '';
  socket.setEncoding('latin1');
  socket.on('data', (text) => {
    request += text;
    if (request.length > limits.maxRequestBytes) answer(socket, '431 Request Header Fields Too Large', '');
    else if (request.includes('\r\n\r\n')) {
      const [status, body] = answerTo(request);
      answer(socket, status, request.startsWith('HEAD ') ? '' : body);
    }
  });
});
server.on('error', ({ code, message }: NodeJS.ErrnoException) => {
  parentPort?.postMessage({ failed: { code, message } });
});
server.listen(listen, () => {
  const address = server.address();
  parentPort?.postMessage({ port: typeof address === 'object' && address?.port });
});

function answerTo(request: string): [status: string, body: string] {
  const [method, target = ''] = request.split(' ', 2);
  if (method !== 'GET' && method !== 'HEAD') return ['405 Method Not Allowed', 'Use GET.\n'];
  const isTurning = missedBeats * limits.heartbeatMs < limits.maxStandstillMs;
  const [path] = target.split('?');
  if (path === '/livez') {
    return isTurning ? ['200 OK', 'alive\n'] : ['503 Service Unavailable', 'the event loop stands still\n'];
  }
  if (path === '/readyz') {
    const isServing = isTurning && Atomics.load(state, SERVING) === 1;
    return isServing ? ['200 OK', 'serving\n'] : ['503 Service Unavailable', 'not serving\n'];
  }
  return ['404 Not Found', 'There are only /livez and /readyz here.\n'];
}

function answer(socket: Socket, status: string, body: string): void {
  guard.onAsked(socket);
  socket.removeAllListeners('data');
  // What else comes is not looked at.
  socket.resume();
  const headers = `Content-Type: text/plain\r\nContent-Length: ${body.length}\r\nConnection: close`;
  socket.end(`HTTP/1.1 ${status}\r\n${headers}\r\n\r\n${body}`, () => socket.destroySoon());
}
