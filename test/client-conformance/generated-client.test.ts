// The basic scenarios, played by a client that is nothing but generated code and a few lines:
// test/clients/python.
import { setUpForeignClient } from '../support/foreign-clients.ts';
import { playScenarios } from './played.ts';

/** Long, since the first run builds the client. */
const SET_UP_TIMEOUT_MS = 20 * 60_000;

playScenarios(
  'Python, generated',
  [],
  async () => {
    const { command, args } = await setUpForeignClient('python');
    return { client: 'Python', command, args: [...args, 'drive'] };
  },
  SET_UP_TIMEOUT_MS,
);
